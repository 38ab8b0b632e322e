"""Algorithms: from a starting checkpoint and training questions to a better checkpoint.

An algorithm is one function that reads from top to bottom. It never touches files, trackers or the command line:
it asks its `Stages` to sample, update and evaluate. These answer from the run folder where the work is already
done, so an interrupted algorithm is simply run again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rlreason.answers.arithmetic import operations
from rlreason.answers.solutions import solution_key
from rlreason.config.base import SupervisedConfig
from rlreason.config.sections import ModelConfig, ShardingConfig
from rlreason.models.return_condition import ReturnCondition
from rlreason.training.common import NOT_SPLIT, Progress, UpdateReport
from rlreason.training.supervised import Example
from rlreason.types import Asked, Problem, Rollout, ScoredRollout, Step


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


@dataclass(frozen=True)
class OnlineSettings:
    """What on-policy training gets from the run.

    Args:
        scratch: Folder of resumable checkpoints.
        model: LoRA, precision and gradient checkpointing.
        max_completion_tokens: Limit of a completion.
        checkpoint_seconds: Time between two resumable checkpoints.
        adapters_alone: Whether the engine gets adapters alone, and not all weights with them merged.
        sharding: How processes split the models.
    """

    scratch: Path
    model: ModelConfig
    max_completion_tokens: int
    checkpoint_seconds: float
    adapters_alone: bool = False
    sharding: ShardingConfig = NOT_SPLIT


class OnlineStages(Protocol):
    """The expensive steps of on-policy training."""

    @property
    def validation_questions(self) -> int:
        """How many questions decide which checkpoint is kept."""

    def sample_batch(
        self, number: int, save: Callable[[Path], None], asked: Sequence[Asked], samples: int, temperature: float
    ) -> list[ScoredRollout]:
        """Draw and score `samples` completions for every question from the policy that `save` writes to a folder."""

    def train(self, work: Callable[[OnlineSettings, Progress], UpdateReport]) -> tuple[str, int]:
        """Do the work once; why it ended early ("" if it did not), and the batches that it learned from."""

    def record(self, batch: int, metrics: Mapping[str, float], samples_seen: int) -> None:
        """Put the metrics of a batch where the user sees them."""

    def checkpoint(self, number: int) -> Path:
        """The folder of the policy of an evaluation on the way."""

    def reference_prefixes(self) -> dict[str, list[tuple[int, ...]]]:
        """What precedes each line of every training question's reference solution, in tokens; by problem id."""

    def outcome_model_files(self) -> tuple[Path, bool]:
        """The folder of the outcome reward model, and whether it reads likelihoods."""


class Stages(Protocol):
    """The expensive steps of training; each is done once, however often the algorithm is run again."""

    @property
    def online(self) -> OnlineStages:
        """The steps of on-policy training."""

    @property
    def reward_threshold(self) -> float:
        """The return from which a solution is good, as the reward has it."""

    @property
    def orm_threshold(self) -> float:
        """The score from which the outcome reward model calls a solution right."""

    def sample(
        self, round_number: int, policy: Path, problems: Sequence[Problem], samples: int, temperature: float
    ) -> list[ScoredRollout]:
        """Draw `samples` completions for every problem from `policy` and score them."""

    def stored(self, path: str) -> list[ScoredRollout]:
        """Rollouts that earlier runs sampled on the same training questions."""

    def steps(self, rollout: Rollout) -> tuple[Step, ...]:
        """The steps of a completion."""

    def step_scores(self, name: str, scored: Sequence[ScoredRollout]) -> list[tuple[float, ...]]:
        """The outcome reward model's p(right) at the end of every step through the final answer."""

    def example(self, rollout: ScoredRollout) -> Example:
        """The rollout as a training sequence that ends after its final answer."""

    def with_tokens(self, checkpoint: Path, tokens: Sequence[str]) -> Path:
        """A copy of a checkpoint with tokens added to its vocabulary."""

    def token_ids(self, text: str, checkpoint: Path) -> tuple[int, ...]:
        """A text in the tokens of a checkpoint."""

    def update(
        self,
        round_number: int,
        start: Path,
        examples: Sequence[Example],
        config: SupervisedConfig,
        snapshots: int = 0,
        condition: ReturnCondition | None = None,
    ) -> list[Path]:
        """Fine-tune `start` on `examples`; `snapshots` checkpoints on the way, and the last."""

    def evaluate(
        self, round_number: int, policy: Path, samples_seen: int, facts: Mapping[str, float] | None = None
    ) -> float:
        """Measure a checkpoint; its greedy accuracy (maj@1) on the validation questions."""

    def report(self, round_number: int, facts: Mapping[str, float]) -> None:
        """Put numbers of a round where the user sees them."""


def choose_questions(problems: Sequence[Problem], count: int, round_number: int, seed: int) -> Sequence[Problem]:
    """The questions of a round: all of them (`count` 0), or a seeded draw without repetition."""
    if count == 0 or count >= len(problems):
        return problems
    return random.Random(f"{seed}/questions/{round_number}").sample(problems, count)


def deduplication_key(item: ScoredRollout, deduplicate: str, position: int) -> str:
    """What two solutions of one question must share to count as the same."""
    if deduplicate == "steps":
        return solution_key(item.rollout.text)
    if deduplicate == "operations":
        return operations(item.rollout.text)
    return item.rollout.text if deduplicate == "text" else str(position)
