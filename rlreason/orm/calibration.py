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


def fit_calibration(logits: npt.ArrayLike, correct: npt.ArrayLike) -> Calibration:
    """Fit slope, intercept and the threshold of highest accuracy.

    Args:
        logits: Raw score of each solution; shape `(solutions,)`.
        correct: Whether it is right, both values occurring; shape `(solutions,)`.
    """
    from sklearn.linear_model import LogisticRegression

    raw, right = np.asarray(logits, dtype=np.float64), np.asarray(correct, dtype=bool)
    fitted = LogisticRegression(C=1e4).fit(raw[:, None], right)
    scaling = Calibration(float(fitted.coef_[0, 0]), float(fitted.intercept_[0]), 0.5)
    return Calibration(scaling.slope, scaling.intercept, best_threshold(scaling.probability(raw), right))


def best_threshold(scores: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """The score from which calling a solution right is most often true; between two scores, their middle."""
    values, right = np.asarray(scores, dtype=np.float64), np.asarray(correct, dtype=bool)
    order = np.argsort(values)
    values, right = values[order], right[order]
    # Number judged as graded when everything from position i on is called right.
    agreeing = np.concatenate([[0], np.cumsum(~right)]) + np.concatenate([np.cumsum(right[::-1])[::-1], [0]])
    between = np.concatenate([[True], values[1:] > values[:-1], [True]])
    best = int(np.argmax(np.where(between, agreeing, -1)))
    low = values[best - 1] if best > 0 else min(0.0, values[0])
    high = values[best] if best < len(values) else np.nextafter(values[-1], np.inf)
    middle = (low + high) / 2
    return float(middle if middle > low or best == 0 else high)
