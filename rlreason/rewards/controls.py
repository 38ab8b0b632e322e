"""Rewards that say nothing about right and wrong: what training gains by them, it gains without being taught.

Shao et al. 2025 (arXiv 2506.10947) found gains from random rewards, and from rewards of the form alone, that came close
to those from right answers. An arm with one of these beside an arm with a real reward shows how much of a gain is the
reward's (`rlreason/study/controls.py`).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlreason.config.base import setting
from rlreason.rewards.base import RewardConfig, RewardRow, StepRewards, at_answer
from rlreason.types import Rollout

if TYPE_CHECKING:
    from rlreason.orm.model import OutcomeModel


@dataclass(frozen=True, kw_only=True)
class RandomRewardConfig(RewardConfig):
    """1 or 0 by a coin of each sample, whatever the solution: a control."""

    name: str = setting("random")
    probability: float = setting("how often the coin gives 1", above=0, below=1)
    threshold: float = setting("return from which expert iteration keeps a solution")


@dataclass(frozen=True, kw_only=True)
class FormatRewardConfig(RewardConfig):
    """1 for a final answer in the form that was asked for, right or wrong: a control."""

    name: str = setting("format")
    threshold: float = setting("return from which expert iteration keeps a solution")


def random_reward(
    rollouts: Sequence[Rollout], settings: RandomRewardConfig, outcome_model: OutcomeModel | None = None
) -> list[StepRewards]:
    """1 where the coin of a sample says so, received where an answer's reward is.

    The coin is that of the sample's seed, its question and its number, so that a resumed run throws the same ones.
    """
    return [at_answer(item) if _coin(item) < settings.probability else () for item in rollouts]


def format_reward(
    rollouts: Sequence[Rollout], settings: FormatRewardConfig, outcome_model: OutcomeModel | None = None
) -> list[StepRewards]:
    """1 for every solution in which the prompt's extraction finds a final answer."""
    return [at_answer(item) if item.answer is not None else () for item in rollouts]


def _coin(item: Rollout) -> float:
    return random.Random(f"{item.seed}/{item.problem.id}/{item.sample}/coin").random()


RANDOM = RewardRow(
    settings=RandomRewardConfig,
    score=random_reward,
    title="random",
    line=(0, (1, 3)),
    marker_filling="top",
    looks_at="nothing; it is a coin",
    control=True,
    needs_solutions=False,
    needs_outcome_model=False,
    lacks_reference=None,
)
FORMAT = RewardRow(
    settings=FormatRewardConfig,
    score=format_reward,
    title="format",
    line=(0, (5, 1, 1, 1)),
    marker_filling="right",
    looks_at="whether a final answer is stated, and not which",
    control=True,
    needs_solutions=False,
    needs_outcome_model=False,
    lacks_reference=None,
)
