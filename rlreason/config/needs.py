"""What an experiment needs, asked of the rows of its choices."""

from __future__ import annotations

from rlreason.algorithms.registry import ALGORITHMS
from rlreason.config.experiment import ExperimentConfig
from rlreason.rewards.registry import REWARDS


def needs_outcome_model(config: ExperimentConfig) -> bool:
    """Whether the run rewards, labels or starts a critic with an outcome reward model, or is there to train one."""
    algorithm = ALGORITHMS[config.algo.name]
    rewarded = algorithm.uses_reward and REWARDS[config.reward.name].needs_outcome_model
    return rewarded or algorithm.needs_outcome_model(config.algo)
