"""Uncertainty over problems: bootstrap intervals of a mean and of a paired difference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# 2 MiB of 64-bit indices at a time: small enough to stay in cache, large enough to hide the overhead of Python.
_DRAWS_PER_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over problems with its confidence interval.

    Args:
        value: The mean, in the unit of the values.
        low: Lower end of the interval.
        high: Upper end of the interval.
        problems: How many problems the mean is over.
    """

    value: float
    low: float
    high: float
    problems: int

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval; for a difference, whether it is significant."""
        return self.low > 0 or self.high < 0

    def to_dict(self) -> dict[str, float | int]:
        """The fields by name, as plain Python numbers."""
        return {
            "value": float(self.value),
            "low": float(self.low),
            "high": float(self.high),
            "problems": int(self.problems),
        }


def bootstrap_interval(
    values: npt.ArrayLike, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Mean over problems with the percentile bootstrap interval (Efron 1979, Annals of Statistics 7(1)).

    Problems are drawn with replacement; the samples within a problem are not drawn again, so the interval speaks
    of other problems of the same kind. It is too narrow for a handful of problems, and of no width when all values
    are equal or there is only one.

    Args:
        values: One value per problem; shape `(problems,)`.
        confidence: Probability that the interval is to cover the true mean, between 0 and 1.
        resamples: Number of bootstrap means.
        seed: Seed of the draws; equal arguments give the equal interval.

    Returns:
        The mean and the `(1 - confidence) / 2` and `(1 + confidence) / 2` quantiles of the bootstrap means.

    Raises:
        ValueError: When `values` is empty, not of one dimension or not finite, `confidence` is not between 0 and 1,
            or `resamples` is not positive.
    """
    array = _checked(values)
    if not 0 < confidence < 1:
        raise ValueError(f"The confidence must lie between 0 and 1, but it is {confidence}.")
    if resamples < 1:
        raise ValueError(f"At least one bootstrap resample is needed, but {resamples} were asked for.")
    if array.min() == array.max():
        # The mean of equal values can differ from them in the last digit, which would give a width where there is none.
        constant = float(array[0])
        return Interval(value=constant, low=constant, high=constant, problems=array.size)
    means = _bootstrap_means(array, resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value=float(array.mean()), low=float(low), high=float(high), problems=array.size)


def paired_difference(
    before: npt.ArrayLike,
    after: npt.ArrayLike,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Mean of `after - before` over the same problems, with its bootstrap interval.

    Problems are drawn as pairs, so the difficulty that both values of a problem share cancels; the interval is
    narrower than one from two separate groups wherever the two correlate.

    Args:
        before: One value per problem; shape `(problems,)`.
        after: The same problems in the same order; shape `(problems,)`.
        confidence: As for `bootstrap_interval`.
        resamples: As for `bootstrap_interval`.
        seed: As for `bootstrap_interval`.

    Returns:
        The mean difference, positive when `after` is larger.

    Raises:
        ValueError: When the lengths differ, and whenever `bootstrap_interval` raises it.
    """
    first, second = _checked(before), _checked(after)
    if first.size != second.size:
        raise ValueError(
            f"A paired difference needs the same problems twice, but there are {first.size} and {second.size} values."
        )
    return bootstrap_interval(second - first, confidence, resamples, seed)


def _checked(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"There must be one value per problem, but the values have shape {array.shape}.")
    if array.size == 0:
        raise ValueError("There is no problem to take a mean over.")
    if not np.isfinite(array).all():
        raise ValueError("Every value must be finite, but some are infinite or not a number.")
    return array


def _bootstrap_means(
    values: npt.NDArray[np.float64], resamples: int, generator: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Means of `values` drawn with replacement; shape `(resamples,)`."""
    means = np.empty(resamples)
    rows = max(1, _DRAWS_PER_CHUNK // values.size)
    for start in range(0, resamples, rows):
        chunk = means[start : start + rows]
        drawn = generator.integers(values.size, size=(chunk.size, values.size))
        chunk[:] = values[drawn].mean(axis=1)
    return means
