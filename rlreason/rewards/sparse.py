"""The sparse reward: the outcome alone (paper, section on rewards)."""

from __future__ import annotations

from collections.abc import Sequence

from rlreason.answers.steps import through_answer
from rlreason.rewards.base import StepRewards
from rlreason.types import GradedRollout, StepReward


def sparse_reward(graded: Sequence[GradedRollout]) -> list[StepRewards]:
    """1 for every right final answer, received at the last token of its step; nothing for a wrong one."""
    return [outcome_reward(item) for item in graded]


def outcome_reward(item: GradedRollout) -> StepRewards:
    """The sparse reward of one rollout."""
    if not item.correct or not item.steps:
        return ()
    last = through_answer(item.steps)[-1]
    return (StepReward(last.start, last.end, 1.0),)
