"""Rewards: from problems and their rollouts to credit for steps, in one form whatever the source.

A reward is a function from graded rollouts to one tuple of `StepReward` each. Every credit is received at the token
that ends its step, none after the final answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rlreason.types import GradedRollout, StepReward

StepRewards = tuple[StepReward, ...]
Reward = Callable[[Sequence[GradedRollout]], list[StepRewards]]
