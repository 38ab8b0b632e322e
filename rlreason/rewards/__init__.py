"""Rewards: from a problem and a rollout to credit for its steps, in one form whatever the source."""

from __future__ import annotations

from rlreason.types import Problem, Rollout, StepReward


def sparse(problem: Problem, rollout: Rollout, correct: bool) -> tuple[StepReward, ...]:
    """1 for a right final answer, received at the completion's last token; nothing for a wrong one (paper, section on
    rewards; Cobbe et al. 2021 grade the same way).
    """
    del problem
    return (StepReward(0, len(rollout.completion_ids), 1.0),) if correct else ()


REWARDS = {"sparse": sparse}
