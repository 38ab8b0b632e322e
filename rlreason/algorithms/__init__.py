"""Algorithms: from a starting checkpoint and training questions to a better checkpoint.

An algorithm is one function that reads from top to bottom. It never touches files, trackers or the command line:
it asks its `Stages` to sample, update and evaluate. These answer from the run folder where the work is already
done, so an interrupted algorithm is simply run again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rlreason.algorithms.supervised import Example
from rlreason.config import SupervisedConfig
from rlreason.types import Problem, ScoredRollout


@dataclass(frozen=True)
class Start:
    """Where training starts.

    Args:
        base: The pretrained checkpoint.
        init: The checkpoint that `init` asks for: `base` itself, or its SFT model.
    """

    base: Path
    init: Path


@dataclass(frozen=True)
class Questions:
    """What an algorithm may train on.

    Args:
        problems: The training questions whose prompts fit.
        references: The reference solution of every question that has one, by problem id.
    """

    problems: Sequence[Problem]
    references: Mapping[str, Example]


@dataclass(frozen=True)
class Trained:
    """What an algorithm ends with.

    Args:
        policy: The checkpoint that it stands by.
        samples_seen: Rollouts sampled for training.
        verdict: In a sentence, why it ended and what to make of it.
    """

    policy: Path
    samples_seen: int
    verdict: str


class Stages(Protocol):
    """The expensive steps of training; each is done once, however often the algorithm is run again."""

    def sample(
        self, round_number: int, policy: Path, problems: Sequence[Problem], samples: int, temperature: float
    ) -> list[ScoredRollout]:
        """Draw `samples` completions for every problem from `policy` and score them."""

    def example(self, rollout: ScoredRollout) -> Example:
        """The rollout as a training sequence that ends after its final answer."""

    def update(self, round_number: int, start: Path, examples: Sequence[Example], config: SupervisedConfig) -> Path:
        """Fine-tune `start` on `examples`; the new checkpoint."""

    def evaluate(self, round_number: int, policy: Path, samples_seen: int) -> float:
        """Measure a checkpoint; its greedy accuracy (maj@1) on the validation questions."""

    def report(self, round_number: int, facts: Mapping[str, float]) -> None:
        """Put numbers of a round where the user sees them."""
