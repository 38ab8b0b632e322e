"""What earlier runs left, as training data: their rollouts, and the policies that write new ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from rlreason.errors import UserError
from rlreason.lab.context import Context
from rlreason.lab.sampling import graded_rollouts
from rlreason.rewards.registry import REWARDS
from rlreason.rewards.sparse import sparse_reward
from rlreason.run import store
from rlreason.run.files import RESULT_FILE, read_result
from rlreason.run.folder import training_files
from rlreason.types import Rollout

ALIKE = ("model", "data", "init", "prompt", "seed")  # what a run shares with the one whose policy writes for it
CHECKED = 20  # rollouts whose text is compared with their tokens


def stored_rollouts(context: Context, path: Path) -> list[Rollout]:
    """The training rollouts of a run folder, of whatever algorithm, or those of a Parquet file, graded again.

    Args:
        context: Of this run; its tokeniser must be the one that the rollouts were sampled with, and they must be of its
            training questions.
        path: A run folder or a file of rollouts that a run has stored.

    Returns:
        The rollouts, with the sparse reward.

    Raises:
        UserError: There are none, they cannot be read, have no text, belong to other questions or another tokeniser.
    """
    training = context.splits.training
    files = training_files(path) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise UserError(
            f"algo.rollouts={path}: no rollouts there; name a run folder with training rollouts, or a Parquet file"
        )
    by_id = {problem.id: problem for problem in training}
    try:
        asked = [name for file in files for name in store.asked_problems(file)]
        foreign = [name for name in asked if name not in by_id]
        if foreign:
            raise UserError(
                f"algo.rollouts={path}: {len(foreign):,} of {len(asked):,} rollouts are not of this run's training "
                f"questions (first: {foreign[0]}); use the same data and data.seed"
            )
        found = [item for file in files for item in store.read_sealed(file.parent, file.stem, by_id)]
    except (OSError, KeyError, pa.ArrowException) as error:
        raise UserError(
            f"algo.rollouts={path}: not rollouts that rlreason stored ({' '.join(str(error).split())[:80]})"
        ) from error
    if not any(item.text.strip() for item in found):
        raise UserError(f"algo.rollouts={path}: no rollout has text; they cannot be graded or learned from")
    for item in found[:CHECKED]:
        spelled = context.decode(item.completion_ids)
        if not spelled.startswith((item.text, item.text.removeprefix(" "))):  # which some tokenisers drop
            raise UserError(f"algo.rollouts={path}: sampled with another tokeniser; choose the model that sampled them")
    graded = graded_rollouts(context, found, training)
    return [replace(item, rewards=earned) for item, earned in zip(graded, sparse_reward(graded), strict=True)]


def policy_of_study(context: Context, algo: str) -> tuple[Path, int]:
    """The selected checkpoint of a run beside this one, and the rollouts that it was learned from.

    Args:
        context: Of this run.
        algo: The other run's algorithm. Its model, data, start, prompt and seed are this run's, its reward is sparse.

    Raises:
        UserError: There is no such run, it has not finished, or there are several.
    """
    own, found = context.run.config, []
    for path in sorted(context.run.folder.parent.glob(f"*/{RESULT_FILE}")):
        result = read_result(path.parent)
        if result is None:
            continue
        there = result["config"]
        alike = all(there.get(section) == own[section] for section in ALIKE)
        if alike and there["algo"]["name"] == algo and there["reward"]["name"] == REWARDS.standard:
            found.append((path.parent, result))
    if len(found) != 1:
        names = ", ".join(folder.name for folder, _ in found) or "none has finished"
        raise UserError(
            f"algo.policy={algo} needs one run of algo={algo} beside {context.run.folder}, with the same model, data, "
            f"start, prompt and seed, and reward={REWARDS.standard}: {names}; run it first, or set algo.policy=start"
        )
    ((folder, result),) = found
    return folder / result["policy"], int(result["training_rollouts"])
