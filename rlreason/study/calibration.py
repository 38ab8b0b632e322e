"""How far an outcome reward model's scores of an arm's test samples can be believed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlreason.evaluation.evaluate import rank_score
from rlreason.orm.judging import area_under_curve, calibration_error, reliability
from rlreason.run.stage import FINAL
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


def calibration(arm: Arm) -> Calibration | None:
    """The calibration on the samples of the last policies; None where none were scored.

    Raises:
        ValueError: A file cannot be read, or its scores belong to other samples.
    """
    scored = [pair for run in arm.runs if (pair := scores_and_outcomes(run, FINAL)) is not None]
    if not scored:
        return None
    scores = np.concatenate([pair[0] for pair in scored])
    right = np.concatenate([pair[1] for pair in scored])
    return Calibration(
        curve=tuple(reliability(scores, right)),
        auc=float(np.mean([area_under_curve(*pair) for pair in scored])),
        error=float(np.mean([calibration_error(*pair) for pair in scored])),
        solutions=len(scores),
        seeds=len(scored),
    )


def scores_and_outcomes(run: StudyRun, checkpoint: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]] | None:
    """The score of every sampled solution's last step, and whether it is right; None where none were scored.

    Raises:
        ValueError: A file cannot be read, or its scores belong to other samples.
    """
    samples, scored = run.samples_file(checkpoint), run.scores_file(checkpoint)
    if not scored.exists() or not samples.exists():
        return None
    keys = ["problem_id", "sample"]
    scores = read_columns(scored, [*keys, "step_scores"])
    outcomes = read_columns(samples, [*keys, "correct"])
    last = [rank_score(steps, "final") for steps in scores["step_scores"].to_pylist()]
    joined = outcomes.join(
        scores.select(keys).append_column("score", [last]), keys, join_type="inner", use_threads=False
    )
    if joined.num_rows != outcomes.num_rows:
        raise ValueError(f"{scored.name} scores other samples than {samples.name} holds")
    return joined["score"].to_numpy(), joined["correct"].to_numpy()
