"""The whole experiment, typed: one section per Hydra group.

Hydra composes YAML from `conf/`; `rlreason.config.compose` converts it, once, to frozen dataclasses. Every section is
flat, refuses impossible values, and says what each field means; `rlreason --help GROUP` prints that.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlreason.config.algorithms import (
    ExpertIterationConfig,
    GRPOConfig,
    OutcomeModelAlgorithmConfig,
    PPOConfig,
    ReturnConditionedConfig,
    SFTConfig,
)
from rlreason.config.base import documented
from rlreason.config.rewards import DenseRewardConfig, OutcomeModelConfig, OutcomeRewardConfig, SparseRewardConfig
from rlreason.config.sections import (
    DataConfig,
    EngineConfig,
    EvalConfig,
    LauncherConfig,
    ModelConfig,
    PromptConfig,
    ScratchConfig,
    SFTInitConfig,
    ShardingConfig,
    TaskConfig,
    TrackerConfig,
)

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
    launcher: LauncherConfig
    sharding: ShardingConfig
    eval: EvalConfig
    tracker: TrackerConfig
    name: str | None = documented("name of the run folder; null: made from what was asked for")
    study: str | None = documented("name of a study: its runs live together in runs_dir/STUDY")
    runs_dir: str = documented("folder of all run folders")
    seed: int = documented("seed of sampling and training")
    nproc: int = documented("training processes on each node; with GPUs one per GPU")
    checkpoint_seconds: float = documented("time between resumable checkpoints within a training stage, in seconds")
    check_memory: bool = documented("refuse what cannot fit into this machine before anything is downloaded")
    gpus: int | None = documented("task=plan: GPUs of the machine that is planned for; null: this machine's")
    gpu_memory: float | None = documented("task=plan: memory of each of those GPUs, in GiB; null: this machine's")
    gpu_name: str | None = documented(
        "task=plan: kind of those GPUs, for the hours where nothing was measured: h200, h100, a100, l40s, a10g or 4090"
    )
    gpu_hour_price: float | None = documented("task=plan: price of one GPU for an hour; null: no money is shown")
