"""How far an outcome reward model's scores of an arm's test samples can be believed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rlreason.orm.judging import area_under_curve, calibration_error, reliability
from rlreason.study.arms import Arm
from rlreason.study.folders import StudyRun, read_columns


@dataclass(frozen=True)
class Calibration:
    """The final scores of sampled solutions against their outcomes, over all seeds of an arm.

    Args:
        curve: (mean score, share right, solutions) of every tenth of the scores that occurs.
        auc: Probability that a right solution scores above a wrong one; mean over seeds, not a number when all
            solutions of a seed are right or all wrong.
        error: Expected calibration error, mean over seeds.
        solutions: How many there are.
        seeds: How many runs had scores.
    """

    curve: tuple[tuple[float, float, int], ...]
    auc: float
    error: float
    solutions: int
    seeds: int


def calibration(arm: Arm, stage: str = "final") -> Calibration | None:
    """The calibration on a stage's samples; None where none were scored.

    Raises:
        ValueError: A file cannot be read, or its scores belong to other samples.
    """
    judged = [pair for run in arm.runs if (pair := scores_and_outcomes(run, stage)) is not None]
    if not judged:
        return None
    scores = np.concatenate([pair[0] for pair in judged])
    right = np.concatenate([pair[1] for pair in judged])
    return Calibration(
        curve=tuple(reliability(scores, right)),
        auc=float(np.mean([area_under_curve(*pair) for pair in judged])),
        error=float(np.mean([calibration_error(*pair) for pair in judged])),
        solutions=len(scores),
        seeds=len(judged),
    )


def scores_and_outcomes(run: StudyRun, stage: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]] | None:
    """The score of every sampled solution's last step, and whether it is right; None where none were scored.

    Raises:
        ValueError: A file cannot be read, or its scores belong to other samples.
    """
    name = f"{run.settings['eval.split']}-{stage}-sampled"
    folder = run.folder / "rollouts"
    if not (folder / f"scores-{name}.parquet").exists() or not (folder / f"{name}.parquet").exists():
        return None
    keys = ["problem_id", "sample"]
    scores = read_columns(folder / f"scores-{name}.parquet", [*keys, "step_scores"])
    outcomes = read_columns(folder / f"{name}.parquet", [*keys, "correct"])
    last = pa.table({**{key: scores[key] for key in keys}, "score": _last(scores["step_scores"].combine_chunks())})
    joined = outcomes.join(last, keys, join_type="inner", use_threads=False)
    if joined.num_rows != outcomes.num_rows:
        raise ValueError(f"scores-{name}.parquet scores other samples than {name}.parquet holds")
    return (
        joined["score"].to_numpy().astype(np.float64),
        joined["correct"].to_numpy(zero_copy_only=False).astype(bool),
    )


def _last(lists: pa.ListArray) -> npt.NDArray[np.float64]:
    """The last value of every list; 0 for an empty one, as `rank_score` has it."""
    ends = lists.offsets.to_numpy()
    values = lists.values.to_numpy()
    found = np.zeros(len(lists))
    filled = ends[1:] > ends[:-1]
    found[filled] = values[ends[1:][filled] - 1]
    return found
