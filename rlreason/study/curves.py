"""What happens on the way: sample-complexity curves, and SFT's trade-off between maj@1 and pass@K."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rlreason.evaluation.statistics import Estimate, samples_to_reach
from rlreason.run.stage import FINAL
from rlreason.study.arms import Arm

SHARE_OF_FINAL = 0.95


@dataclass(frozen=True)
class SampleComplexity:
    """Samples until a curve first reaches 95 % of its final value.

    Args:
        median: Over seeds.
        low: The value of the quickest seed.
        high: The value of the slowest seed.
        seeds: How many there are.
    """

    median: float
    low: float
    high: float
    seeds: int


def learning_curve(arm: Arm, metric: str = "maj@1") -> list[tuple[float, Estimate]]:
    """(samples seen, mean over seeds; a metric there) at the checkpoints that all seeds reached."""
    points = []
    for checkpoint in (item.checkpoint for item in arm.runs[0].course):
        estimate = arm.estimate(metric, checkpoint)
        if estimate is not None:
            seen = [item.samples_seen for run in arm.runs for item in run.course if item.checkpoint == checkpoint]
            points.append((float(np.mean(seen)), estimate))
    return points


def sample_complexity(arm: Arm, metric: str = "maj@1") -> SampleComplexity | None:
    """Samples to reach 95 % of the final value, each seed on its own; None where the course was not measured.

    The first reaching counts; between two measured points the curve is taken to be straight, so the figure is no
    finer than the distance of evaluations.
    """
    reached = []
    for run in arm.runs:
        course = [item for item in run.course if metric in item.table]
        if len(course) < 2 or metric not in run.final.table:
            return None
        target = SHARE_OF_FINAL * float(run.final.table[metric].mean())
        values = [float(item.table[metric].mean()) for item in course]
        reached.append(samples_to_reach([item.samples_seen for item in course], values, target))
    if any(math.isinf(value) for value in reached):
        return None
    return SampleComplexity(float(np.median(reached)), min(reached), max(reached), len(reached))


def path(arm: Arm, horizontal: str, vertical: str) -> list[tuple[Estimate, Estimate]]:
    """Two metrics of every checkpoint that has both, in the order of training, the last policy at the end."""
    points = {}
    for checkpoint in (*(item.checkpoint for item in arm.runs[0].course), FINAL):
        across, up = arm.estimate(horizontal, checkpoint), arm.estimate(vertical, checkpoint)
        if across is not None and up is not None:
            points[checkpoint] = (across, up)
    if len(points) > 1 and arm.runs[0].course[-1].checkpoint in points:
        points.pop(FINAL, None)  # the last checkpoint is the last policy
    return list(points.values())
