"""What the stored rollouts of every arm tell, read once and only as far as needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from rlreason.run.stage import FINAL, INIT
from rlreason.study.arms import Arm
from rlreason.study.calibration import Calibration, calibration
from rlreason.study.diversity import Found, mean_edit_distance, over_training

T = TypeVar("T")


@dataclass(frozen=True)
class Reading:
    """What an arm's rollouts tell; None and empty where there is nothing to tell it from.

    Args:
        found: Different right solutions over training, mean over seeds.
        edit_distance_before: Mean edit distance between two samples of a test question, of the first policy.
        edit_distance: The same of the last policy.
        calibration: The calibration of the scores of the last policy's samples.
    """

    found: tuple[Found, ...] = ()
    edit_distance_before: float | None = None
    edit_distance: float | None = None
    calibration: Calibration | None = None


def readings(arms: Iterable[Arm]) -> tuple[dict[Arm, Reading], list[str]]:
    """Read the rollouts of all arms.

    Returns:
        A reading for every arm, and a line for every file that was left out.
    """
    troubles: list[str] = []
    found = {}
    for arm in arms:
        found[arm] = Reading(
            found=_attempt(arm, troubles, _mean_found, ()),
            edit_distance_before=_attempt(arm, troubles, lambda one: mean_edit_distance(one, INIT), None),
            edit_distance=_attempt(arm, troubles, lambda one: mean_edit_distance(one, FINAL), None),
            calibration=_attempt(arm, troubles, calibration, None),
        )
    return found, troubles


def _attempt(arm: Arm, troubles: list[str], read: Callable[[Arm], T], nothing: T) -> T:
    try:
        return read(arm)
    except ValueError as error:
        troubles.append(f"{arm.label}: {error}; what needs it is not shown for this arm")
        return nothing


def _mean_found(arm: Arm) -> tuple[Found, ...]:
    """Means over seeds, point by point; seeds that trained longer than others are cut."""
    courses = [over_training(run) for run in arm.runs]
    return tuple(
        Found(
            samples=round(float(np.mean([point.samples for point in points]))),
            right=float(np.mean([point.right for point in points])),
            distinct=float(np.mean([point.distinct for point in points])),
            repeated=float(np.mean([point.repeated for point in points])),
        )
        for points in zip(*courses, strict=False)
    )
