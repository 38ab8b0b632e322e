"""What a row of the benchmark is: something of ours beside a named peer, by turns in one run."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Asked:
    """What the command line says.

    Args:
        repeats: Turns of each side.
        overrides: Of whole runs of ours.
        smollm2: A folder with SmolLM2-135M-Instruct; None: the Hub or its cache.
    """

    repeats: int
    overrides: tuple[str, ...] = ()
    smollm2: Path | None = None


@dataclass(frozen=True)
class Turns:
    """What each turn gave, ours and the peer's, in the same order.

    Args:
        ours: Speeds, in `unit`.
        peer: The peer's.
        unit: Of both.
        says: What else is to be known.
    """

    ours: Sequence[float]
    peer: Sequence[float]
    unit: str
    says: str = ""

    def ratios(self) -> list[float]:
        """How many times as fast we were, turn by turn, from the least to the most."""
        return sorted(one / other for one, other in zip(self.ours, self.peer, strict=True))

    def ratio(self) -> float:
        """The median of the turns."""
        return statistics.median(self.ratios())


@dataclass(frozen=True)
class Row:
    """One figure.

    Args:
        name: By which the command line asks for it.
        ours: What is measured.
        peer: What it is held against.
        promised: The least ratio; below it the benchmark ends with exit code 1.
        measure: Measures it.
        short: Whether the short form has it.
    """

    name: str
    ours: str
    peer: str
    promised: float
    measure: Callable[[Asked], Turns]
    short: bool = True


def by_turns(ours: Callable[[], float], peer: Callable[[], float], repeats: int, unit: str) -> Turns:
    """Measure both sides by turns, so that whatever slows the machine down slows both."""
    pairs = [(ours(), peer()) for _ in range(repeats)]
    return Turns([one for one, _ in pairs], [other for _, other in pairs], unit)
