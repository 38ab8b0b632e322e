"""What an experiment needs, asked of the rows of its choices."""

from __future__ import annotations

from rlreason.algorithms.registry import ALGORITHMS
from rlreason.config.experiment import ExperimentConfig
from rlreason.rewards.registry import REWARDS


def learns_from_outcome_model(config: ExperimentConfig) -> bool:
    """Whether the algorithm is rewarded by, labels with, or starts a critic from the model of section `orm`."""
    algorithm = ALGORITHMS[config.algo.name]
    rewarded = algorithm.uses_reward and REWARDS[config.reward.name].needs_outcome_model
    return rewarded or algorithm.needs_outcome_model(config.algo)


def needs_outcome_model(config: ExperimentConfig) -> bool:
    """Whether the run needs the model of section `orm`: to learn from, or to rerank with."""
    return learns_from_outcome_model(config) or config.eval.orm == "train"


def trains_outcome_model(config: ExperimentConfig) -> bool:
    """Whether the run trains an outcome reward model of its own."""
    return needs_outcome_model(config) and config.orm.path is None
