"""The whole experiment, typed: one section per Hydra group.

Hydra composes YAML from `conf/`; `rlreason.config.compose` converts it, once, to frozen dataclasses. Every section is
flat, refuses impossible values, and says what each field means; `rlreason --help GROUP` prints that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rlreason.algorithms.expert_iteration import ExpertIterationConfig
from rlreason.algorithms.grpo import GRPOConfig
from rlreason.algorithms.orm import OutcomeModelAlgorithmConfig
from rlreason.algorithms.ppo import PPOConfig
from rlreason.algorithms.return_conditioned import ReturnConditionedConfig
from rlreason.algorithms.sft import SFTConfig
from rlreason.config.base import Settings, require, setting
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
from rlreason.orm.settings import OutcomeModelConfig
from rlreason.rewards.dense import DenseRewardConfig
from rlreason.rewards.orm import OutcomeRewardConfig
from rlreason.rewards.sparse import SparseRewardConfig

AlgorithmConfig = (
    SFTConfig | ExpertIterationConfig | ReturnConditionedConfig | PPOConfig | GRPOConfig | OutcomeModelAlgorithmConfig
)
RewardConfig = SparseRewardConfig | DenseRewardConfig | OutcomeRewardConfig
InitConfig = ScratchConfig | SFTInitConfig


RESERVED_FOLDERS = ("cache", "sweeps")


@dataclass(frozen=True, kw_only=True)
class GeneralConfig(Settings):
    """What belongs to no group: where the run goes, its seed, its processes, and the machine that is planned for."""

    name: str | None = setting("name of the run folder; null: made from what was asked for")
    study: str | None = setting("name of a study: its runs live together in runs_dir/STUDY; null: none")
    runs_dir: str = setting("folder of all run folders")
    seed: int = setting("seed of sampling and training", at_least=0)
    nproc: int = setting("training processes on each node; with GPUs one per GPU", at_least=1)
    checkpoint_seconds: float = setting(
        "time between resumable checkpoints within a training stage, in seconds", at_least=0
    )
    check_memory: bool = setting("refuse what cannot fit into this machine before anything is downloaded")
    gpus: int | None = setting(
        "task=plan: GPUs of the machine that is planned for, on all nodes; null: this machine's", at_least=0
    )
    gpu_memory: float | None = setting("task=plan: memory of each of those GPUs, in GiB; null: this machine's", above=0)
    gpu_name: str | None = setting(
        "task=plan: kind of those GPUs (h200, h100, a100, l40s, a10g, 4090), for hours that nobody has measured; "
        "null: this machine's"
    )
    gpu_hour_price: float | None = setting(
        "task=plan: price of one GPU for an hour, in any currency; null: no money is shown", above=0
    )

    def check(self) -> None:
        """Refuse a study that cannot be a folder, or whose folder is in use."""
        plain = self.study is None or (re.fullmatch(r"[\w.=+-]+", self.study) and self.study.strip(".") != "")
        require(bool(plain), f"study={self.study!r} must be a plain name: letters, digits and . _ = + -")
        require(
            self.study not in RESERVED_FOLDERS,
            f"study={self.study} is where rlreason keeps files of its own; choose another name",
        )


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig(GeneralConfig):
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
