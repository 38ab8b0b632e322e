"""The dense reward: the outcome, and credit for every intermediate result of the reference solution that is reached.

The paper matches intermediate steps with a reference solution and leaves the rule open. Ours: a step's results are
the values of its calculator annotations (`<<48/2=24>>`), else of its equations, else its last number unless the
question already holds that number. A result earns credit when the reference solution has an equal one that has not
been credited yet. Writing an operation again that the reference solution has once, copying the question, or going on
after the final answer earns nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

from rlreason.answers.arithmetic import equations, last_number, numbers
from rlreason.answers.extraction import reasoning_of
from rlreason.answers.steps import through_answer
from rlreason.config.base import require, setting
from rlreason.rewards.base import RewardConfig, RewardRow, StepRewards
from rlreason.rewards.sparse import outcome_reward
from rlreason.types import Problem, Rollout, StepReward

if TYPE_CHECKING:
    from rlreason.orm.model import OutcomeModel

Result = tuple[str, Fraction]


@dataclass(frozen=True, kw_only=True)
class DenseRewardConfig(RewardConfig):
    """The sparse reward, and credit for every result of the reference solution that a step reaches."""

    name: str = setting("dense")
    weight: float = setting(
        "credit for all results of the reference solution together, shared among them; reward=sparse gives none",
        above=0,
    )
    threshold: float = setting("return from which expert iteration keeps a solution")

    def check(self) -> None:
        """Refuse credit for steps that weighs as much as a right answer, unless it is asked for."""
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
    return tuple(result for step in problem.steps for result in _results(step, problem))


def matched_results(steps: Sequence[str], problem: Problem) -> list[int]:
    """How many results of the reference solution each step reaches first.

    Args:
        steps: Texts of the steps, in order; shape `(steps,)`.
        problem: The problem with its reference solution.

    Returns:
        Counts of shape `(steps,)`; their sum is at most the number of reference results.
    """
    there = Counter(reference_results(problem))
    open_values = Counter(value for _, value in reference_results(problem))
    written: Counter[Result] = Counter()
    counts = []
    for step in steps:
        count = 0
        for result in _results(step, problem):
            # An operation written twice counts twice only where the reference solution itself repeats it.
            if written[result] < max(1, there[result]) and open_values[result[1]] > 0:
                open_values[result[1]] -= 1
                count += 1
            written[result] += 1
        counts.append(count)
    return counts


def _score(item: Rollout, config: DenseRewardConfig) -> StepRewards:
    total = len(reference_results(item.problem))
    if not total:
        return outcome_reward(item)
    steps = through_answer(item.steps)
    credit = config.weight / total
    matches = matched_results([step.text for step in steps], item.problem)
    values = [credit * count for count in matches]
    if item.correct and values:
        values[-1] += 1.0
    return tuple(
        StepReward(step.start, step.end, value) for step, value in zip(steps, values, strict=True) if value != 0
    )


def _results(step: str, problem: Problem) -> Iterator[Result]:
    """(how it was reached, value) of every result of a step."""
    reasoning = reasoning_of(step)
    words = " ".join(reasoning.split())
    if not words or words in _question(problem):
        return
    found = False
    for line in reasoning.splitlines():
        for equation in equations(line):
            if equation.value is not None:
                found = True
                yield equation.expression or words, equation.value
    number = last_number(reasoning)
    if not found and number is not None and number not in numbers(problem.question):
        yield words, number


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
