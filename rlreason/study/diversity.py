"""How different solutions are: over training, between the samples of a question, and against the start."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rlreason.run.folder import training_files
from rlreason.study.arms import Arm
from rlreason.study.folders import StudyRun, read_columns

POINTS = 12
PAIRS = 400


@dataclass(frozen=True)
class Found:
    """What a run's own samples of training questions had found by some point of training.

    Args:
        samples: Training rollouts drawn until then.
        right: Share of right ones among the rollouts since the point before.
        distinct: Different right solutions per question so far; solutions of equal operations are one.
        repeated: Share of the right rollouts since the point before whose solution an earlier part had found already.
    """

    samples: int
    right: float
    distinct: float
    repeated: float


def over_training(run: StudyRun) -> list[Found]:
    """How many different right solutions training finds, at up to twelve points; empty without training rollouts.

    Raises:
        ValueError: A file of rollouts cannot be read.
    """
    files = training_files(run.folder)
    size = -(-len(files) // POINTS) or 1
    columns = ["problem_id", "correct", "operations"]
    known: pa.Array | None = None
    questions: set[str] = set()
    points = []
    drawn = 0
    for start in range(0, len(files), size):
        table = pa.concat_tables([read_columns(path, columns) for path in files[start : start + size]])
        drawn += table.num_rows
        right = table.filter(table["correct"])
        questions.update(pc.unique(table["problem_id"]).to_pylist())
        keys = pc.binary_join_element_wise(
            right["problem_id"].cast(pa.string()), right["operations"].cast(pa.string()), "\n"
        ).combine_chunks()
        different = pc.unique(keys)
        repeated = 0.0
        if known is not None and len(keys):
            repeated = float(pc.mean(pc.is_in(keys, value_set=known).cast(pa.float64())).as_py())
        known = different if known is None else pc.unique(pa.concat_arrays([known, different]))
        share = right.num_rows / max(1, table.num_rows)
        points.append(Found(drawn, share, len(known) / len(questions), repeated))
    return points


def edit_distance(run: StudyRun, checkpoint: str) -> float | None:
    """Mean edit distance in tokens, over the longer length, between two samples of a test question.

    Returns:
        From 0 (always the same tokens) to 1; None where the checkpoint drew no two samples of a question.

    Raises:
        ValueError: The file of rollouts cannot be read.
    """
    from rapidfuzz.distance import Levenshtein

    path = run.samples_file(checkpoint)
    if not path.exists():
        return None
    table = read_columns(path, ["problem_id", "sample", "token_ids"])
    first = {row["problem_id"]: row["token_ids"] for row in table.filter(pc.equal(table["sample"], 0)).to_pylist()}
    second = {row["problem_id"]: row["token_ids"] for row in table.filter(pc.equal(table["sample"], 1)).to_pylist()}
    pairs = [(first[problem], second[problem]) for problem in sorted(first) if problem in second][:PAIRS]
    if not pairs:
        return None
    return float(np.mean([Levenshtein.normalized_distance(one, other) for one, other in pairs]))


def edit_distances(arm: Arm, checkpoint: str) -> tuple[float, ...]:
    """`edit_distance` of every seed; none where one of them has none."""
    values = [edit_distance(run, checkpoint) for run in arm.runs]
    present = tuple(value for value in values if value is not None)
    return present if len(present) == len(values) else ()
