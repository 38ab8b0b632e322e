"""Scores of an outcome reward model, each rollout scored once, and the reward that a run asks for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from rlreason.lab.context import Context
from rlreason.orm.model import OutcomeModel
from rlreason.rewards.base import Reward
from rlreason.rewards.custom import with_own
from rlreason.rewards.registry import REWARDS
from rlreason.run import store
from rlreason.run.stage import Stage
from rlreason.types import Rollout


def reward_function(context: Context) -> Reward:
    """The reward that the configuration names, with the user's own added to it."""
    settings = context.config.reward
    shipped = partial(REWARDS[settings.name].score, settings=settings, outcome_model=context.outcome_model)
    return with_own(shipped, settings)


def step_scores(
    context: Context, stage: Stage, model: OutcomeModel, rollouts: Sequence[Rollout], spent_on: str
) -> list[tuple[float, ...]]:
    """p(right) at the end of every step of each rollout, computed once and kept beside the rollouts.

    Args:
        context: The run's context.
        stage: Names the stage in the journal and its file.
        model: What scores.
        rollouts: Graded ones.
        spent_on: What the time is spent on: "reward" or "evaluate".
    """
    path = context.run.rollouts / f"{stage.name}.parquet"

    def make() -> tuple[list[tuple[float, ...]], dict[str, Any]]:
        description = f"{stage.name}: scoring {len(rollouts):,} solutions"
        with context.display.bar(description) as bar, context.run.timed(spent_on):
            bar.update(0, len(rollouts), "")
            scores = model.step_scores(rollouts, lambda done, total: bar.update(done, total, ""))
            store.write_scores(path, rollouts, scores)
        return scores, {}

    return context.run.once(stage, make, lambda: store.read_scores(path))
