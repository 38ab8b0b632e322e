"""The typed configuration of an experiment.

Hydra composes YAML from `conf/`; `rlreason.compose` converts it, once, to the frozen dataclasses of this package. Every
section is flat, refuses impossible values, and says what each field means; `rlreason --help GROUP` prints that.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlreason.config.algorithms import (
    ExpertIterationConfig,
    GRPOConfig,
    OnPolicyConfig,
    OutcomeModelAlgorithmConfig,
    PPOConfig,
    ReturnConditionedConfig,
    SFTConfig,
)
from rlreason.config.base import SupervisedConfig, documented, one_of, require
from rlreason.config.rewards import DenseRewardConfig, OutcomeModelConfig, OutcomeRewardConfig, SparseRewardConfig
from rlreason.config.sections import (
    DataConfig,
    EngineConfig,
    EvalConfig,
    ModelConfig,
    PromptConfig,
    ScratchConfig,
    SFTInitConfig,
    TaskConfig,
    TrackerConfig,
)

__all__ = [
    "AlgorithmConfig",
    "DataConfig",
    "DenseRewardConfig",
    "EngineConfig",
    "EvalConfig",
    "ExperimentConfig",
    "ExpertIterationConfig",
    "GRPOConfig",
    "InitConfig",
    "ModelConfig",
    "OnPolicyConfig",
    "OutcomeModelAlgorithmConfig",
    "OutcomeModelConfig",
    "OutcomeRewardConfig",
    "PPOConfig",
    "PromptConfig",
    "ReturnConditionedConfig",
    "RewardConfig",
    "SFTConfig",
    "SFTInitConfig",
    "ScratchConfig",
    "SparseRewardConfig",
    "SupervisedConfig",
    "TaskConfig",
    "TrackerConfig",
    "documented",
    "one_of",
    "require",
]

AlgorithmConfig = (
    SFTConfig | ExpertIterationConfig | ReturnConditionedConfig | PPOConfig | GRPOConfig | OutcomeModelAlgorithmConfig
)
RewardConfig = SparseRewardConfig | DenseRewardConfig | OutcomeRewardConfig
InitConfig = ScratchConfig | SFTInitConfig


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """The whole experiment, one section per Hydra group."""

    task: TaskConfig
    algo: AlgorithmConfig
    reward: RewardConfig
    orm: OutcomeModelConfig
    model: ModelConfig
    init: InitConfig
    data: DataConfig
    prompt: PromptConfig
    engine: EngineConfig
    eval: EvalConfig
    tracker: TrackerConfig
    name: str | None = documented("name of the run folder; null: made from what was asked for")
    study: str | None = documented("name of a study: its runs live together in runs_dir/STUDY")
    runs_dir: str = documented("folder of all run folders")
    seed: int = documented("seed of sampling and training")
    checkpoint_seconds: float = documented("time between resumable checkpoints within a training stage, in seconds")
