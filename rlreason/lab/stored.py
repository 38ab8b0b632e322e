"""Rollouts of earlier runs, read back as training data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from rlreason.errors import UserError
from rlreason.lab.generation import Generation
from rlreason.rewards.sparse import sparse_reward
from rlreason.run import store
from rlreason.types import Problem, ScoredRollout

CHECKED = 20  # rollouts whose text is compared with their tokens


def read_stored(path: Path, training: Sequence[Problem], generation: Generation) -> list[ScoredRollout]:
    """The rollouts of a run folder (its rounds) or of a Parquet file, graded again.

    Args:
        path: A run folder or a file that `rlreason.run.store.seal` wrote.
        training: Questions that may be trained on; rollouts of other questions are refused.
        generation: Of this run; its tokeniser must be the one that the rollouts were sampled with.

    Returns:
        The rollouts, with the sparse reward.

    Raises:
        UserError: There are none, they cannot be read, have no text, belong to other questions or another tokeniser.
    """
    files = sorted((path / "rollouts").glob("round-*.parquet")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise UserError(f"algo.rollouts={path}: no rollouts there; name a run folder with rounds, or a Parquet file")
    try:
        scored = [item for file in files for item in store.read_sealed(file.parent, file.stem)]
    except (OSError, KeyError, pa.ArrowException) as error:
        raise UserError(
            f"algo.rollouts={path}: not rollouts that rlreason stored ({' '.join(str(error).split())[:80]})"
        ) from error
    if not any(item.rollout.text.strip() for item in scored):
        raise UserError(f"algo.rollouts={path}: no rollout has text; they cannot be graded or learned from")
    known = {problem.id for problem in training}
    foreign = [item.rollout.problem_id for item in scored if item.rollout.problem_id not in known]
    if foreign:
        raise UserError(
            f"algo.rollouts={path}: {len(foreign):,} of {len(scored):,} rollouts are not of this run's training "
            f"questions (first: {foreign[0]}); use the same data and data.seed"
        )
    for item in scored[:CHECKED]:
        if not generation.tokenizer.decode(item.rollout.completion_ids, skip_special_tokens=True).startswith(
            item.rollout.text
        ):
            raise UserError(f"algo.rollouts={path}: sampled with another tokeniser; choose the model that sampled them")
    graded = generation.graded([item.rollout for item in scored], training)
    return [
        ScoredRollout(item.rollout, item.answer, item.correct, rewards)
        for item, rewards in zip(graded, sparse_reward(graded), strict=True)
    ]
