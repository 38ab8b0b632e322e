"""What an experiment needs, asked of the rows of its choices."""

from __future__ import annotations

from rlreason.algorithms.registry import ALGORITHMS
from rlreason.config.experiment import ExperimentConfig
from rlreason.rewards.registry import REWARDS


def needs_outcome_model(config: ExperimentConfig) -> bool:
    """Whether the run trains, rewards, labels, starts a critic or reranks with the model of section `orm`."""
    algorithm = ALGORITHMS[config.algo.name]
    rewarded = algorithm.uses_reward and REWARDS[config.reward.name].needs_outcome_model
    return rewarded or algorithm.needs_outcome_model(config.algo) or config.eval.orm == "train"


def trains_outcome_model(config: ExperimentConfig) -> bool:
    """Whether the run trains an outcome reward model of its own."""
    return needs_outcome_model(config) and config.orm.path is None
