"""What happens on the way: sample-complexity curves, and SFT's trade-off between maj@1 and pass@K."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlreason.evaluation.statistics import Bracket, Estimate, samples_to_reach
from rlreason.run.stage import FINAL
from rlreason.study.arms import Arm

SHARE_OF_FINAL = 0.95
LEAST_EVALUATIONS = 3  # the start and two on the way


@dataclass(frozen=True)
class SampleComplexity:
    """Training rollouts until the curve of each seed first reaches a target.

    Args:
        brackets: One for every seed: more rollouts than one evaluation, at most as many as another.
    """

    brackets: tuple[Bracket, ...]

    @property
    def median(self) -> Bracket:
        """Between which numbers the median over seeds lies."""
        above, at_most = ([getattr(item, end) for item in self.brackets] for end in ("above", "at_most"))
        return Bracket(statistics.median(above), statistics.median(at_most))

    @property
    def resolution(self) -> float:
        """The largest factor between the ends of a seed's bracket; infinite where one end is not known."""
        return max(item.at_most / item.above if item.above > 0 else math.inf for item in self.brackets)

    @property
    def text(self) -> str:
        """The median in words, such as "more than 4,480 and at most 8,960"."""
        return bracket_text(self.median)


def bracket_text(bracket: Bracket) -> str:
    """What is known of a number of rollouts, such as "at most 8,960" or "not reached by 36,000"."""
    if math.isinf(bracket.at_most):
        return f"not reached by {bracket.above:,.0f}"
    if bracket.at_most == 0:
        return "at the start"
    at_most = f"at most {bracket.at_most:,.0f}"
    return at_most if bracket.above == 0 else f"more than {bracket.above:,.0f} and {at_most}"


def learning_curve(arm: Arm, metric: str = "maj@1") -> list[tuple[float, Estimate]]:
    """(samples seen, mean over seeds; a metric there) at the checkpoints that all seeds reached."""
    points = []
    for checkpoint in (item.checkpoint for item in arm.runs[0].course):
        estimate = arm.estimate(metric, checkpoint)
        if estimate is not None:
            seen = [item.samples_seen for run in arm.runs for item in run.course if item.checkpoint == checkpoint]
            points.append((float(np.mean(seen)), estimate))
    return points


def sample_complexity(arm: Arm, target: float | None = None, metric: str = "maj@1") -> SampleComplexity | None:
    """Training rollouts until a metric first reaches a target, each seed on its own.

    Args:
        arm: Its runs.
        target: The value to reach; None: 95 % of the value that each seed ends with, which is easier the worse the end.
        metric: What is to reach it.

    Returns:
        None where the course was measured less than twice after the start, as with a single update: it has no curve.
    """
    reached = []
    for run in arm.runs:
        course = [item for item in run.course if metric in item.table]
        if len(course) < LEAST_EVALUATIONS or metric not in run.final.table or not run.samples_drawn:
            return None
        goal = SHARE_OF_FINAL * float(run.final.table[metric].mean()) if target is None else target
        values = [float(item.table[metric].mean()) for item in course]
        reached.append(samples_to_reach([item.samples_seen for item in course], values, goal))
    return SampleComplexity(tuple(reached))


def common_target(arms: Sequence[Arm], metric: str = "maj@1") -> float | None:
    """95 % of the final value of the best arm among those that learn from rewards; None where none has the metric."""
    ends = [arm.estimate(metric) for arm in arms if arm.algorithm.learns_from_rewards]
    return max((SHARE_OF_FINAL * item.value for item in ends if item is not None), default=None)


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
