"""The sparse reward: the outcome alone (paper, section on rewards)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rlreason.config.base import setting
from rlreason.rewards.base import RewardConfig, RewardRow, StepRewards, at_answer
from rlreason.types import Rollout

if TYPE_CHECKING:
    from rlreason.orm.model import OutcomeModel


@dataclass(frozen=True, kw_only=True)
class SparseRewardConfig(RewardConfig):
    """1 for a right final answer, 0 otherwise, received at the last token of the answer."""

    name: str = setting("sparse")
    threshold: float = setting("return from which expert iteration keeps a solution")

    best_return: ClassVar[float | None] = 1.0

    @property
    def from_zero_to_one(self) -> bool:
        """It is paid at once, and is 0 or 1."""
        return self.function is None


def sparse_reward(
    rollouts: Sequence[Rollout], settings: SparseRewardConfig | None = None, outcome_model: OutcomeModel | None = None
) -> list[StepRewards]:
    """1 for every right final answer, received at the last token of its step; nothing for a wrong one."""
    return [outcome_reward(item) for item in rollouts]


def outcome_reward(item: Rollout) -> StepRewards:
    """The sparse reward of one rollout."""
    return at_answer(item) if item.correct else ()


SPARSE = RewardRow(
    settings=SparseRewardConfig,
    score=sparse_reward,
    title="sparse",
    line="-",
    marker_filling="full",
    looks_at="final answers only, so a right answer may stand below wrong steps",
    control=False,
    needs_solutions=False,
    needs_outcome_model=False,
    lacks_reference=None,
)
