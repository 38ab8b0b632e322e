"""Uncertainty: over problems (bootstrap), over problems and seeds together (variance components), of many tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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

    def to_dict(self) -> dict[str, float | int]:
        """The fields by name, as plain Python numbers."""
        return {
            "value": float(self.value),
            "low": float(self.low),
            "high": float(self.high),
            "problems": int(self.problems),
        }


def interval_text(interval: Mapping[str, float] | Interval, signed: bool = False) -> str:
    """An interval as text, such as "0.391 [0.345, 0.440]"; a mapping is what `Interval.to_dict` gives."""
    values = interval.to_dict() if isinstance(interval, Interval) else interval
    sign = "+" if signed else ""
    return f"{values['value']:{sign}.3f} [{values['low']:{sign}.3f}, {values['high']:{sign}.3f}]"


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


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds and problems.

    Args:
        value: The mean, in the unit of the values.
        low: Lower end of the interval.
        high: Upper end of the interval.
        p_value: The p-value of the hypothesis that the true mean is zero, two-sided; 1 when all values are zero.
        seeds: How many seeds the mean is over.
        problems: How many problems the mean is over.
    """

    value: float
    low: float
    high: float
    p_value: float
    seeds: int
    problems: int


def crossed_estimate(values: npt.ArrayLike, confidence: float = 0.95) -> Estimate:
    """Mean over seeds and problems, both drawn at random, with its interval and test.

    Two-way random effects: the variance of the mean is (MS_seeds + MS_problems - MS_rest) / (seeds x problems), with
    Satterthwaite's degrees of freedom (1946, Biometrics Bulletin 2(6)). A bootstrap over three seeds would be too
    narrow, because three draws say little about their own spread; Student's t knows that. The variance is taken to be
    at least that of the seeds alone and that of the problems alone. With one seed the interval is over problems only.

    Args:
        values: One value of every seed and problem, or a paired difference of two runs; shape `(seeds, problems)`.
        confidence: Probability that the interval is to cover the true mean, between 0 and 1.

    Raises:
        ValueError: When there is no value, or one that is not finite.
    """
    from scipy.stats import t

    array = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if array.ndim != 2 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"There must be a finite value for every seed and problem, but the shape is {array.shape}.")
    seeds, problems = array.shape
    mean = float(array.mean())
    by_seed, by_problem = array.mean(axis=1), array.mean(axis=0)
    components = []  # (mean square, degrees of freedom)
    if seeds > 1:
        components.append((problems * by_seed.var(ddof=1), seeds - 1))
    if problems > 1:
        components.append((seeds * by_problem.var(ddof=1), problems - 1))
    if not components or max(square for square, _ in components) <= 1e-24:
        return Estimate(mean, mean, mean, float(mean == 0), seeds, problems)
    variance, freedom = max(components)
    if len(components) == 2:
        rest = array - by_seed[:, None] - by_problem + mean
        residual = (float((rest**2).sum() / ((seeds - 1) * (problems - 1))), (seeds - 1) * (problems - 1))
        both = components[0][0] + components[1][0] - residual[0]
        if both > variance:
            spread = sum(square**2 / degrees for square, degrees in (*components, residual))
            variance, freedom = both, both**2 / spread
    error = math.sqrt(variance / array.size)
    reach = float(t.ppf((1 + confidence) / 2, freedom)) * error
    return Estimate(mean, mean - reach, mean + reach, float(2 * t.sf(abs(mean) / error, freedom)), seeds, problems)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm 1979, Scandinavian Journal of Statistics 6(2)), in the given order."""
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, position in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        highest = max(highest, min(1.0, p_values[position] * (len(p_values) - rank)))
        corrected[position] = highest
    return corrected


def samples_to_reach(samples: Sequence[float], values: Sequence[float], target: float) -> float:
    """Samples seen when a curve first reaches `target`, measured points joined by straight lines; infinite if never.

    Args:
        samples: Samples seen at each point, ascending; shape `(points,)`.
        values: The metric there; shape `(points,)`.
        target: The value to reach.
    """
    for position, value in enumerate(values):
        if value >= target:
            if position == 0:
                return float(samples[0])
            before, there = values[position - 1], samples[position - 1]
            return there + (samples[position] - there) * (target - before) / (value - before)
    return math.inf


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
