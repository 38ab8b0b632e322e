"""How well scores tell right solutions from wrong ones: ranking, accuracy, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from rlreason.evaluation.statistics import Clusters, Interval, Kind, interval_of_few

FIFTHS = 5
BINS = 10


def area_under_curve(scores: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """Probability that a right solution scores above a wrong one, ties counting half (area under the ROC curve).

    Returns:
        A value in [0, 1]; not a number when all solutions are right or all wrong.
    """
    from scipy.stats import rankdata

    right = np.asarray(correct, dtype=bool)
    positive, negative = int(right.sum()), int((~right).sum())
    if not positive or not negative:
        return float("nan")
    ranks = rankdata(np.asarray(scores, dtype=np.float64))
    return float((ranks[right].sum() - positive * (positive + 1) / 2) / (positive * negative))


def calibration_error(probabilities: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """Expected calibration error over ten bins of equal width (Guo et al. 2017, arXiv 1706.04599)."""
    total = len(np.asarray(probabilities))
    return sum(count * abs(mean - share) for mean, share, count in reliability(probabilities, correct)) / total


def reliability(probabilities: npt.ArrayLike, correct: npt.ArrayLike) -> list[tuple[float, float, int]]:
    """The reliability curve: (mean probability, share right, solutions) of every bin that is not empty."""
    values, right = np.asarray(probabilities, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    bins = np.minimum((values * BINS).astype(int), BINS - 1)
    inside = (bins == number for number in range(BINS))
    return [(float(values[mask].mean()), float(right[mask].mean()), int(mask.sum())) for mask in inside if mask.any()]


def score_at_fifth(scores: Sequence[float], fifth: int) -> float:
    """The score of the last step within the first `fifth` fifths of a solution's steps; at least its first step."""
    return scores[max(0, -(-fifth * len(scores) // FIFTHS) - 1)]


def judging_report(
    problem_ids: Sequence[str],
    step_scores: Sequence[Sequence[float]],
    correct: Sequence[bool],
    baselines: dict[str, Sequence[float]],
    threshold: float,
    resamples: int,
    clusters: Clusters | None = None,
) -> dict[str, Any]:
    """How well an outcome reward model judges the solutions of held-out questions.

    Args:
        problem_ids: The question of each solution; shape `(solutions,)`.
        step_scores: Probabilities at the end of every step of each solution.
        correct: Whether each is right.
        baselines: Other scores of the same solutions by name; one that ranks the wrong way round is turned.
        threshold: Probability from which a solution counts as right.
        resamples: Bootstrap resamples of the questions for each interval.
        clusters: The cluster of each solution's question, None where it stands alone; whole clusters are then drawn.

    Returns:
        `auc` and `accuracy` of the final step and `auc_above_NAME` with intervals, the same at each fifth,
        `calibration_error`, the `reliability` curve, and each baseline's AUC.
    """
    right = np.asarray(correct, dtype=bool)
    groups, problems = drawn_together(problem_ids, clusters), len(set(problem_ids))
    final = np.array([scores[-1] for scores in step_scores])
    hits = (final >= threshold) == right
    interval = partial(interval_over_groups, groups, problems, resamples)
    report: dict[str, Any] = {
        "solutions": len(right),
        "share_right": float(right.mean()),
        "auc": interval("share", lambda rows: area_under_curve(final[rows], right[rows])),
        "accuracy": interval("share", lambda rows: float(hits[rows].mean()), hits),
        "calibration_error": calibration_error(final, right),
        "reliability": reliability(final, right),
        "by_fifth": [],
        "baselines": {},
    }
    for fifth in range(1, FIFTHS + 1):
        part = np.array([score_at_fifth(scores, fifth) for scores in step_scores])
        report["by_fifth"].append(
            {"auc": area_under_curve(part, right), "accuracy": float(((part >= threshold) == right).mean())}
        )
    for name, values in baselines.items():
        other = np.asarray(values, dtype=np.float64)
        other = -other if area_under_curve(other, right) < 0.5 else other
        report["baselines"][name] = area_under_curve(other, right)
        report[f"auc_above_{name}"] = interval(
            "difference",
            lambda rows, other=other: area_under_curve(final[rows], right[rows])
            - area_under_curve(other[rows], right[rows]),
        )
    return report


def drawn_together(problem_ids: Sequence[str], clusters: Clusters | None) -> list[npt.NDArray[np.int64]]:
    """The rows of every cluster, and of every question that stands alone: what a bootstrap draws as one."""
    return rows_by_name(
        [
            f"question {problem}" if cluster is None else f"cluster {cluster}"
            for problem, cluster in zip(problem_ids, clusters or [None] * len(problem_ids), strict=True)
        ]
    )


def rows_by_name(names: Sequence[str]) -> list[npt.NDArray[np.int64]]:
    """The rows of every name."""
    different, first = np.unique(np.asarray(names), return_inverse=True)
    order = np.argsort(first, kind="stable")
    return np.split(order, np.cumsum(np.bincount(first, minlength=len(different)))[:-1])


def interval_over_groups(
    groups: list[npt.NDArray[np.int64]],
    problems: int,
    resamples: int,
    kind: Kind,
    statistic: Any,
    hits: npt.NDArray[np.bool_] | None = None,
) -> dict[str, float | int]:
    """A statistic of all rows with its 95 % percentile bootstrap interval over groups.

    `hits`: the values of which the statistic is the mean. Where all but a few of them are equal, or the statistic is
    the same in every resample, the interval is that of `interval_of_few`.
    """
    generator = np.random.default_rng(0)
    draws = (generator.integers(len(groups), size=len(groups)) for _ in range(resamples))
    values = np.array([statistic(np.concatenate([groups[index] for index in draw])) for draw in draws])
    low, high = np.nanquantile(values, [0.025, 0.975]) if np.isfinite(values).any() else (np.nan, np.nan)
    value = statistic(np.concatenate(groups))
    few = None
    if hits is not None:
        numbers = np.empty(len(hits), dtype=np.int64)
        for number, rows in enumerate(groups):
            numbers[rows] = number
        few = interval_of_few(hits.astype(np.float64), kind, 0.95, numbers)
    elif low == high:
        few = interval_of_few(np.full(len(groups), value), kind, 0.95)
    low, high = few or (low, high)
    clusters = None if len(groups) == problems else len(groups)
    return Interval(value, float(low), float(high), problems, clusters).to_dict()
