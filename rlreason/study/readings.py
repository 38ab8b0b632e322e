"""What the stored rollouts of every arm tell, read once and only as far as needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from rlreason.run.stage import FINAL, INIT
from rlreason.study.arms import Arm
from rlreason.study.calibration import Calibration, calibration
from rlreason.study.diversity import Found, edit_distances, over_training

T = TypeVar("T")


@dataclass(frozen=True)
class Reading:
    """What an arm's rollouts tell; None and empty where there is nothing to tell it from.

    Args:
        found_by_seed: Different right solutions over training, of every seed.
        edit_distances_before: Mean edit distance between two samples of a test question, of the first policy of every
            seed.
        edit_distances: The same of the last policies.
        calibration: The calibration of the scores of the last policy's samples.
    """

    found_by_seed: tuple[tuple[Found, ...], ...] = ()
    edit_distances_before: tuple[float, ...] = ()
    edit_distances: tuple[float, ...] = ()
    calibration: Calibration | None = None

    @property
    def found(self) -> tuple[Found, ...]:
        """Means over seeds, point by point; seeds that trained longer than others are cut."""
        return tuple(
            Found(
                samples=round(float(np.mean([point.samples for point in points]))),
                right=float(np.mean([point.right for point in points])),
                distinct=float(np.mean([point.distinct for point in points])),
                repeated=float(np.mean([point.repeated for point in points])),
            )
            for points in zip(*self.found_by_seed, strict=False)
        )

    @property
    def edit_distance_before(self) -> float | None:
        """Of the first policy, mean over seeds."""
        return float(np.mean(self.edit_distances_before)) if self.edit_distances_before else None

    @property
    def edit_distance(self) -> float | None:
        """Of the last policy, mean over seeds."""
        return float(np.mean(self.edit_distances)) if self.edit_distances else None


def readings(arms: Iterable[Arm]) -> tuple[dict[Arm, Reading], list[str]]:
    """Read the rollouts of all arms.

    Returns:
        A reading for every arm, and a line for every file that was left out.
    """
    troubles: list[str] = []
    found = {}
    for arm in arms:
        found[arm] = Reading(
            found_by_seed=_attempt(arm, troubles, lambda one: tuple(tuple(over_training(run)) for run in one.runs), ()),
            edit_distances_before=_attempt(arm, troubles, lambda one: edit_distances(one, INIT), ()),
            edit_distances=_attempt(arm, troubles, lambda one: edit_distances(one, FINAL), ()),
            calibration=_attempt(arm, troubles, calibration, None),
        )
    return found, troubles


def _attempt(arm: Arm, troubles: list[str], read: Callable[[Arm], T], nothing: T) -> T:
    try:
        return read(arm)
    except ValueError as error:
        troubles.append(f"{arm.label}: {error}; what needs it is not shown for this arm")
        return nothing
