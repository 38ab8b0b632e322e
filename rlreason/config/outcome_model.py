"""Whether an experiment needs the outcome reward model that its section `orm` describes."""

from __future__ import annotations

from rlreason.config.algorithms import OutcomeModelAlgorithmConfig, PPOConfig, ReturnConditionedConfig
from rlreason.config.experiment import ExperimentConfig
from rlreason.config.rewards import OutcomeRewardConfig


def uses_outcome_model(config: ExperimentConfig) -> bool:
    """Whether the experiment trains, rewards, labels, starts a critic or reranks with the model of section `orm`."""
    algo = config.algo
    asked_for = (
        isinstance(algo, OutcomeModelAlgorithmConfig)
        or (isinstance(algo, ReturnConditionedConfig) and algo.labels == "orm")
        or (isinstance(algo, PPOConfig) and algo.critic_start == "orm")
    )
    return asked_for or isinstance(config.reward, OutcomeRewardConfig) or config.eval.orm == "train"


def trains_outcome_model(config: ExperimentConfig) -> bool:
    """Whether the experiment trains an outcome reward model of its own."""
    return uses_outcome_model(config) and config.orm.path is None
