"""What a step of `task=check` is: what it needs, what it does, what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from rlreason.config.compose import from_plain
from rlreason.config.experiment import ExperimentConfig

OK, FAILED, SKIPPED = "ok", "failed", "skipped"


@dataclass(frozen=True)
class Unfinished:
    """Why a step has not come to its end.

    Args:
        verdict: failed, or skipped where this model cannot do it.
        says: The reason in one line.
        details: The traceback; "" where the process has not told it.
    """

    verdict: str
    says: str
    details: str = ""


@dataclass(frozen=True)
class Place:
    """Where a step works, and with which configuration.

    Args:
        plain: The configuration as plain values.
        arguments: The same as on the command line, for processes that a step starts.
        folder: The step's run folder.
        conf: Folder of configuration files.
    """

    plain: dict[str, Any]
    arguments: tuple[str, ...]
    folder: Path
    conf: Path

    @cached_property
    def config(self) -> ExperimentConfig:
        """The configuration, typed."""
        return from_plain(self.plain)


@dataclass(frozen=True)
class Found:
    """What a part of a step has found.

    Args:
        further: Figures by name, with their unit in it; None for what is not known here.
        planned: Bytes of memory that the planner expects.
        held: Bytes that were held at most.
        gap: Mean absolute difference of the log-probs of sampler and trainer, in nats a token.
        environment: Versions, commit and hardware, from the step that looks at them.
    """

    further: Mapping[str, Any] = field(default_factory=dict)
    planned: float | None = None
    held: float | None = None
    gap: float | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One step of the check.

    Args:
        name: Its name, and that of its run folder.
        work: Does it; yields what each of its parts has found, in their order, or raises what went wrong in one.
        overrides: Choices and values of its configuration.
        parts: Names of its parts.
        engine: The engine that it needs; None: any.
        gpus: GPUs that it needs.
        after: The step whose run folder it reads; None: none.
    """

    name: str
    work: Callable[[Place], Iterator[Found]]
    overrides: tuple[str, ...] = ()
    parts: tuple[str, ...] = ("",)
    engine: str | None = None
    gpus: int = 0
    after: str | None = None

    def titles(self) -> list[str]:
        """What its rows are called."""
        return [f"{self.name}: {part}" if part else self.name for part in self.parts]


@dataclass(frozen=True)
class Row:
    """A part of a step, and what became of it.

    Args:
        title: Of the step and its part.
        verdict: ok, failed or skipped.
        says: Why it failed or was skipped, in one line.
        seconds: That it took.
        found: What it found.
        details: The traceback of what failed.
    """

    title: str
    verdict: str
    says: str = ""
    seconds: float = 0.0
    found: Found = Found()
    details: str = ""
