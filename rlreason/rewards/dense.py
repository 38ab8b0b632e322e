"""The dense reward: the outcome, and credit for every intermediate result of the reference solution that is reached.

The paper matches intermediate steps with a reference solution and leaves the rule open. Ours: the results of a step are
those of its calculator annotations (`<<48/2=24>>`), else of its equations that compute something. A result earns credit
when its equation holds and the reference solution has an equal result that has not been credited yet. One that the
reference solution does not have, or that does not follow from its equation, costs as much as another earns, so that
guessing earns nothing; together the results earn nothing rather than less. Repeating what is there, copying the
question, or going on after the final answer makes no difference. All is divided by what the reference solution would
earn, so that every question can earn 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

from rlreason.answers.arithmetic import equations
from rlreason.answers.extraction import reasoning_of
from rlreason.answers.steps import through_answer
from rlreason.config.base import require, setting
from rlreason.rewards.base import RewardConfig, RewardRow, StepRewards
from rlreason.rewards.sparse import outcome_reward
from rlreason.types import Problem, Rollout, StepReward

if TYPE_CHECKING:
    from rlreason.orm.model import OutcomeModel

Result = tuple[str, Fraction]  # a left side, and the value on its right


@dataclass(frozen=True, kw_only=True)
class DenseRewardConfig(RewardConfig):
    """The sparse reward, and credit for every result of the reference solution that a step reaches."""

    name: str = setting("dense")
    weight: float = setting(
        "credit for all results of the reference solution together, where a right answer earns 1, before the sum is "
        "scaled to 1; reward=sparse gives none",
        above=0,
    )
    threshold: float = setting("share of what a question can earn, from which expert iteration keeps a solution")

    best_return: ClassVar[float | None] = 1.0

    def check(self) -> None:
        """Refuse credit for steps that weighs as much as a right answer, and a threshold out of reach."""
        super().check()
        require(
            self.weight < 1,
            f"reward.weight={self.weight} must be below 1, or every step without a right answer is worth as much as "
            "a right answer",
        )


def dense_reward(
    rollouts: Sequence[Rollout], settings: DenseRewardConfig, outcome_model: OutcomeModel | None = None
) -> list[StepRewards]:
    """Outcome and step credit of every rollout; the outcome alone where the reference solution has no results."""
    return [_score(item, settings) for item in rollouts]


def lacks_results(problem: Problem) -> bool:
    """Whether the reference solution has nothing to match, so that only the outcome counts."""
    return not reference_results(problem)


@lru_cache(maxsize=65536)
def reference_results(problem: Problem) -> tuple[Result, ...]:
    """The results of the reference solution, in order."""
    return tuple(result for step in problem.steps for result, _ in _results(step, problem))


def matched_results(steps: Sequence[str], problem: Problem) -> list[int]:
    """How many results of the reference solution have been reached by the end of each step, less those that are none.

    Args:
        steps: Texts of the steps, in order; shape `(steps,)`.
        problem: The problem with its reference solution.

    Returns:
        Counts of shape `(steps,)`, from 0 to the number of reference results.
    """
    there = Counter(reference_results(problem))
    values = Counter(value for _, value in reference_results(problem))
    still_open = values.copy()
    written: Counter[Result] = Counter()
    balance = 0
    counts = []
    for step in steps:
        for result, holds in _results(step, problem):
            _, value = result
            # What is written twice counts twice only where the reference solution itself repeats it.
            is_new = written[result] < max(1, there[result])
            written[result] += 1
            holds = holds or result in there  # a reference solution may round as it likes
            if is_new and holds and still_open[value] > 0:
                still_open[value] -= 1
                balance += 1
            elif is_new and not (holds and value in values):
                balance -= holds is not None  # what cannot be computed is not held against it
        counts.append(max(0, balance))
    return counts


def _score(item: Rollout, config: DenseRewardConfig) -> StepRewards:
    total = len(reference_results(item.problem))
    if not total:
        return outcome_reward(item)
    steps = through_answer(item.steps)
    counts = matched_results([step.text for step in steps], item.problem)
    values = [config.weight * (count - before) / total for before, count in pairwise([0, *counts])]
    if item.correct and values:
        values[-1] += 1.0
    return tuple(
        StepReward(step.start, step.end, value / (1 + config.weight))
        for step, value in zip(steps, values, strict=True)
        if value != 0
    )


def _results(step: str, problem: Problem) -> Iterator[tuple[Result, bool | None]]:
    """The results of a step, each with whether its equation holds; None where that cannot be computed."""
    reasoning = reasoning_of(step)
    words = " ".join(reasoning.split())
    if not words or words in _question(problem):
        return
    for line in reasoning.splitlines():
        for equation in equations(line):
            if equation.value is not None and equation.is_operation:
                yield (equation.expression, equation.value), equation.holds


@lru_cache(maxsize=4096)
def _question(problem: Problem) -> str:
    return " ".join(problem.question.split())


DENSE = RewardRow(
    settings=DenseRewardConfig,
    score=dense_reward,
    title="dense",
    line=(0, (5, 2)),
    marker_filling="none",
    looks_at="the final answer and intermediate results",
    control=False,
    needs_solutions=True,
    needs_outcome_model=False,
    lacks_reference=lacks_results,
)
