"""What an algorithm is: from a starting checkpoint and training questions to a better checkpoint.

An algorithm is one function that reads from top to bottom. It never touches files, trackers or the command line: it
asks its lab to sample, update and evaluate. The lab answers from the run folder where the work is already done, so an
interrupted algorithm is simply run again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlreason.algorithms.space import Space
from rlreason.answers.arithmetic import operations
from rlreason.answers.solutions import solution_key
from rlreason.planning.facts import AlgorithmFacts
from rlreason.types import Problem, Rollout

if TYPE_CHECKING:
    from rlreason.lab.context import Start
    from rlreason.lab.lab import Lab
    from rlreason.training.supervised import Example


# What can make two solutions of a question equal.
DEDUPLICATE = ("steps", "operations", "text", "none")


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
        policy: The selected checkpoint; None where no policy was trained.
        last: The last checkpoint, which may be another one; None where no policy was trained.
        samples_seen: Rollouts sampled for training.
        verdict: In a sentence, why it ended and what to make of it.
        facts: What else `result.json` is to hold.
    """

    policy: Path | None
    last: Path | None
    samples_seen: int
    verdict: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """Everything that the program knows about an algorithm.

    Args:
        settings: The dataclass of its section of the configuration.
        train: The algorithm, called as `train(settings, start, questions, seed, lab)`.
        title: In tables and figures.
        method: In prose.
        color: In figures, as matplotlib takes it.
        marker: In figures, as matplotlib takes it.
        learns_from_rewards: Whether it is reinforcement learning, which the findings of a study are about.
        trains_policy: Whether it ends with a policy.
        uses_reward: Whether its result depends on the section `reward`.
        needs_solutions: Whether it learns from worked solutions.
        repeats_init: The choice of `init` that it would only repeat; None: none.
        completion_factor: Tokens of a context that a completion may take, over `data.max_completion_tokens`.
        needs_outcome_model: Whether settings ask for an outcome reward model, besides the reward.
        plan: What the planner is to know, of settings; None: unknown.
        rollouts: Training rollouts that settings draw at the most, of so many training questions.
        for_budget: Settings that draw as many training rollouts as fit into a budget, of so many training questions.
        space: Where `experiment=tune` searches its settings; empty: it cannot be tuned.
    """

    settings: type
    train: Callable[[Any, Start, Questions, int, Lab], Trained]
    title: str
    method: str
    color: str
    marker: str
    learns_from_rewards: bool
    trains_policy: bool
    uses_reward: bool
    needs_solutions: bool
    repeats_init: str | None
    completion_factor: int
    needs_outcome_model: Callable[[Any], bool]
    plan: Callable[[Any], AlgorithmFacts] | None
    rollouts: Callable[[Any, int], int]
    for_budget: Callable[[Any, int, int], Any]
    space: Space


def draws_nothing(settings: Any, questions: int) -> int:
    """Training rollouts of an algorithm that samples none."""
    del settings, questions
    return 0


def whatever_the_budget(settings: Any, budget: int, questions: int) -> Any:
    """The settings of an algorithm that samples no training rollouts."""
    del budget, questions
    return settings


def needs_none(settings: Any) -> bool:
    """For an algorithm that never needs an outcome reward model of its own."""
    del settings
    return False


def choose_questions(problems: Sequence[Problem], count: int, round_number: int, seed: int) -> Sequence[Problem]:
    """The questions of a round: all of them (`count` 0), or a seeded draw without repetition."""
    if count == 0 or count >= len(problems):
        return problems
    return random.Random(f"{seed}/questions/{round_number}").sample(problems, count)


def deduplication_key(item: Rollout, deduplicate: str, position: int) -> str:
    """What two solutions of one question must share to count as the same."""
    if deduplicate == "steps":
        return solution_key(item.text)
    if deduplicate == "operations":
        return operations(item.text)
    return item.text if deduplicate == "text" else str(position)
