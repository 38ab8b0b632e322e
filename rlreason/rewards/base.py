"""What a reward is: from rollouts to credit for their steps, in one form whatever the source.

Every credit is received at the token that ends its step, none after the final answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rlreason.answers.steps import through_answer
from rlreason.config.base import Settings, setting
from rlreason.errors import UserError
from rlreason.types import Problem, Rollout, StepReward

StepRewards = tuple[StepReward, ...]
Reward = Callable[[Sequence[Rollout]], list[StepRewards]]


@dataclass(frozen=True, kw_only=True)
class RewardConfig(Settings):
    """What every reward has in the section `reward`; those with settings of their own extend it."""

    name: str = setting("the reward")
    threshold: float | None = setting(
        "return from which expert iteration keeps a solution; null: the outcome reward model's own, calibrated on the "
        "validation questions"
    )
    function: str | None = setting("a function of your own whose reward is added to this one; null: none", own=True)
    function_weight: float = setting("what the values of that function are multiplied by")
    function_seconds: float = setting(
        "time that one call of it may take, in seconds; of an async function, all calls together", above=0
    )

    # What the best solution of any question earns, without a function of the user's own; None: unknown.
    best_return: ClassVar[float | None] = None

    @property
    def from_zero_to_one(self) -> bool:
        """Whether what is still to be earned is known to lie between 0 and 1 at every token of every solution."""
        return False

    def check(self) -> None:
        """Refuse a threshold that no solution can reach."""
        refuse_out_of_reach("reward.threshold", self.threshold, self)


def refuse_out_of_reach(key: str, threshold: float | None, reward: RewardConfig) -> None:
    """Refuse a threshold of returns that no solution of any question can reach.

    Raises:
        UserError: It is above what the best solution earns.
    """
    best = None if reward.function is not None else reward.best_return
    if threshold is not None and best is not None and threshold > best:
        raise UserError(
            f"{key}={threshold:g} is out of reach: with reward={reward.name} the best solution of a question earns "
            f"{best:g}; lower it to {best:g} or less"
        )


@dataclass(frozen=True, kw_only=True)
class RewardRow:
    """Everything that the program knows about a reward.

    Args:
        settings: The dataclass of its section of the configuration.
        score: Rewards graded rollouts: `score(rollouts, settings, outcome_model)`, one tuple of credits for each; the
            outcome reward model is None unless `needs_outcome_model`.
        title: In tables and figures.
        line: Line style in figures, as matplotlib takes it.
        marker_filling: Filling of markers in figures, as matplotlib takes it.
        looks_at: What it looks at and what it may overlook, as a model card says it behind "The reward looked at".
        control: Whether it says nothing about right and wrong, so that its arms are no results but controls of others.
        needs_solutions: Whether it compares with worked solutions.
        needs_outcome_model: Whether an outcome reward model gives it.
        lacks_reference: Whether a problem's reference solution has nothing for it to compare with; None where it
            compares with none.
    """

    settings: type[RewardConfig]
    score: Callable[..., list[StepRewards]]
    title: str
    line: Any
    marker_filling: str
    looks_at: str
    control: bool
    needs_solutions: bool
    needs_outcome_model: bool
    lacks_reference: Callable[[Problem], bool] | None


def at_answer(item: Rollout) -> StepRewards:
    """1 at the last step through the final answer; nothing for an empty completion, which has no step."""
    return tuple(StepReward(step.start, step.end, 1.0) for step in through_answer(item.steps)[-1:])
