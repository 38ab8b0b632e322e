"""The learned reward: an outcome reward model's probability that the solution is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rlreason.answers.steps import through_answer
from rlreason.config.base import setting
from rlreason.rewards.base import RewardConfig, RewardRow, StepRewards
from rlreason.types import Rollout, StepReward

if TYPE_CHECKING:
    from rlreason.orm.model import OutcomeModel


@dataclass(frozen=True, kw_only=True)
class OutcomeRewardConfig(RewardConfig):
    """The outcome reward model's probability that the solution is right; the section `orm` says which model."""

    name: str = setting("orm")
    at: str = setting(
        "end: the last step's score at the last step; steps: each step receives what it adds to the score",
        choices=("end", "steps"),
    )
    threshold: float | None = setting(
        "score from which expert iteration keeps a solution; null: calibrated on the validation questions"
    )

    best_return: ClassVar[float | None] = 1.0

    @property
    def from_zero_to_one(self) -> bool:
        """A probability that is paid at once; its changes from step to step are of either sign."""
        return self.at == "end" and self.function is None


def outcome_model_reward(
    rollouts: Sequence[Rollout], settings: OutcomeRewardConfig, outcome_model: OutcomeModel | None
) -> list[StepRewards]:
    """The final score at the last step, or to every step what it adds to the score; both sum to the final score.

    The paper leaves open how scores become rewards; differences are our choice, so that a longer solution is not
    worth more for its length (potential-based shaping, Ng et al. 1999).
    """
    assert outcome_model is not None, "a run whose reward needs an outcome reward model is prepared with one"
    rewards = []
    for item, scores in zip(rollouts, outcome_model.step_scores(rollouts), strict=True):
        steps = through_answer(item.steps)
        before = (0.0, *scores)[: len(scores)]
        if settings.at == "end":
            steps, scores, before = steps[-1:], scores[-1:], (0.0,) * len(steps[-1:])
        rewards.append(
            tuple(
                StepReward(step.start, step.end, score - earlier)
                for step, score, earlier in zip(steps, scores, before, strict=True)
            )
        )
    return rewards


ORM = RewardRow(
    settings=OutcomeRewardConfig,
    score=outcome_model_reward,
    title="ORM",
    line=(0, (1.2, 1.4)),
    marker_filling="left",
    looks_at="what a learned model thinks of a solution, which can be wrong",
    control=False,
    needs_solutions=False,
    needs_outcome_model=True,
    lacks_reference=None,
)
