"""The reward that a run asks for, and scores of an outcome reward model, each rollout scored once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from rlreason.config.experiment import RewardConfig
from rlreason.config.rewards import DenseRewardConfig, OutcomeRewardConfig
from rlreason.lab.generation import Generation
from rlreason.orm.model import OutcomeModel, outcome_model_reward
from rlreason.rewards.base import Reward
from rlreason.rewards.dense import dense_reward
from rlreason.rewards.sparse import sparse_reward
from rlreason.run import store
from rlreason.types import Problem, ScoredRollout


def reward_function(config: RewardConfig, outcome_model: OutcomeModel | None) -> Reward:
    """The reward that the configuration names."""
    if isinstance(config, DenseRewardConfig):
        return partial(dense_reward, config=config)
    if isinstance(config, OutcomeRewardConfig):
        if outcome_model is None:
            raise RuntimeError("reward=orm was prepared without an outcome reward model")
        return partial(outcome_model_reward, model=outcome_model, config=config)
    return sparse_reward


def stored_scores(
    generation: Generation,
    stage: str,
    model: OutcomeModel,
    scored: Sequence[ScoredRollout],
    problems: Sequence[Problem],
    kind: str,
) -> list[tuple[float, ...]]:
    """p(right) at the end of every step of each rollout, computed once and kept beside the rollouts.

    Args:
        generation: Of the run.
        stage: Names the stage in the journal and its file.
        model: What scores.
        scored: The rollouts.
        problems: Their questions.
        kind: What the time is spent on.
    """
    run = generation.run
    path = run.rollouts / f"{stage}.parquet"
    if stage in run.journal:
        return store.read_scores(path)
    generation.engine.release()
    with generation.display.bar(f"{stage}: scoring {len(scored):,} solutions"), run.timed(kind):
        scores = model.step_scores(generation.as_graded(scored, problems))
        store.write_scores(path, [item.rollout for item in scored], scores)
    run.commit(stage)
    return scores
