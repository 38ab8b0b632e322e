"""The starting checkpoints that training may have, each with its facts."""

from __future__ import annotations

from dataclasses import dataclass

from rlreason.config.sections import ScratchConfig, SFTInitConfig
from rlreason.rows import Table


@dataclass(frozen=True, kw_only=True)
class Init:
    """Everything that the program knows about a choice of `init`.

    Args:
        settings: The dataclass of its section of the configuration.
        title: In tables and figures.
        needs_solutions: Whether it learns from worked solutions.
    """

    settings: type
    title: str
    needs_solutions: bool


INITS: Table[Init] = Table(
    "init",
    Init,
    SFTInitConfig,  # what comes from outside fine-tunes the pretrained model first
    {
        "scratch": Init(settings=ScratchConfig, title="from the pretrained model", needs_solutions=False),
        "sft": Init(settings=SFTInitConfig, title="from the SFT model", needs_solutions=True),
    },
)
