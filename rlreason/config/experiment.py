"""The whole experiment, typed: one section per Hydra group.

Hydra composes YAML from `conf/`; `rlreason.config.compose` converts it, once, to frozen dataclasses. Every section is
flat, refuses impossible values, and says what each field means; `rlreason --help GROUP` prints that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from rlreason.config.base import Settings, require, setting
from rlreason.config.sections import (
    AutoPromptConfig,
    DataConfig,
    EngineConfig,
    EvalConfig,
    LauncherConfig,
    ModelConfig,
    PromptConfig,
    ShardingConfig,
    TaskConfig,
    TrackerConfig,
)
from rlreason.config.texts import home_expanded
from rlreason.orm.settings import OutcomeModelConfig

RESERVED_FOLDERS = ("cache", "sweeps")


@dataclass(frozen=True, kw_only=True)
class GeneralConfig(Settings):
    """What belongs to no group: where the run goes, its seed, its processes, and the machine that is planned for."""

    name: str | None = setting("name of the run folder; null: made from what was asked for")
    study: str | None = setting("name of a study: its runs live together in runs_dir/STUDY; null: none")
    runs_dir: str = setting("folder of all run folders", read=home_expanded)
    budget: int | None = setting(
        "training rollouts, those for an outcome reward model that the algorithm learns from included; the algorithm's "
        "rounds, batches and samples follow from it; null: as the section algo says",
        at_least=1,
    )
    seed: int = setting("seed of sampling and training", at_least=0)
    tuned: str | None = setting("name of the tuned settings in use; set by its file in conf/tuned; null: none")
    tuned_on: list[int] = setting("seeds whose runs chose those settings; a run with one of them is refused")
    nproc: int = setting("training processes on each node; with GPUs one per GPU", at_least=1)
    checkpoint_seconds: float = setting(
        "time between resumable checkpoints within a training stage, in seconds; more where writing one takes more "
        "than a twentieth of it; 0: after every step that allows one",
        at_least=0,
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
        require(
            self.seed not in self.tuned_on,
            f"seed={self.seed} is one of those that chose the settings tuned={self.tuned}; a fair result takes another",
        )


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig(GeneralConfig):
    """The whole experiment, one section per Hydra group.

    The sections `algo`, `reward` and `init` are of the classes that the rows of their choices name. Where neither a
    preset nor the user says what kind of model it is, `prompt` is `auto` until its tokeniser is there, see
    `with_protocols`.
    """

    task: TaskConfig
    algo: Any
    reward: Any
    orm: OutcomeModelConfig
    model: ModelConfig
    init: Any
    data: DataConfig
    prompt: PromptConfig | AutoPromptConfig
    engine: EngineConfig
    launcher: LauncherConfig
    sharding: ShardingConfig
    eval: EvalConfig
    tracker: TrackerConfig

    @property
    def protocol(self) -> PromptConfig:
        """The prompt of a run that knows what kind of model it has."""
        if isinstance(self.prompt, AutoPromptConfig):
            raise RuntimeError("the kind of model is not known yet")
        return self.prompt
