"""From raw scores to probabilities and a verdict."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

VALIDATION_SAMPLES = 4  # solutions per validation question that score and threshold are calibrated on (ours)


@dataclass(frozen=True)
class Calibration:
    """Platt scaling (Platt 1999) and a threshold, fitted on validation questions.

    Args:
        slope: Factor of the logit.
        intercept: Added to it; among others it undoes the balance of the training data.
        threshold: Probability from which a solution counts as right: where most validation solutions are judged
            as they were graded.
    """

    slope: float
    intercept: float
    threshold: float

    def probability(self, logits: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """p(right) of raw logits, of any shape."""
        scaled = self.slope * np.asarray(logits, dtype=np.float64) + self.intercept
        probabilities: npt.NDArray[np.float64] = np.exp(-np.logaddexp(0.0, -scaled))
        return probabilities
