"""Uncertainty: over problems (bootstrap), over problems and seeds together (variance components), of many tests.

Two things hold of every interval here. A share whose values are nearly all 0 or nearly all 1 says nothing of its own
spread, and neither does a difference of shares with hardly a question on which they differ: 0 right of 4 is no proof
that nothing is ever right. There the interval is Clopper and Pearson's, or that of Bonett and Price. And where problems
come in clusters, such as variants of one template, clusters take the place of problems: the mean is still over
problems, the interval is as wide as the number of clusters allows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

# What is known of the values: any numbers, shares from 0 to 1, or differences of two shares.
Kind = Literal["number", "share", "difference"]
Clusters = Sequence[str | None]  # of every problem, None for one that stands alone
Parts = tuple[tuple[float, int], ...]  # of the variance of a mean, each with its degrees of freedom

# Below this number of problems that differ from the others, resampling says too little about how many there could be.
FEW = 6

# The part of the rest that stays with the seeds. Without any, seeds that lie close together by chance count as no
# source of variance at all, and the interval around three of them misses up to 9 % of the time instead of 6 %.
REST_WITH_SEEDS = 0.5
_NOTHING = 1e-24  # a variance that is an error of rounding

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
        clusters: In how many clusters they come; None where each stands alone.
    """

    value: float
    low: float
    high: float
    problems: int
    clusters: int | None = None

    def to_dict(self) -> dict[str, float | int]:
        """The fields by name, as plain Python numbers; without `clusters` where there are none."""
        fields: dict[str, float | int] = {
            "value": float(self.value),
            "low": float(self.low),
            "high": float(self.high),
            "problems": int(self.problems),
        }
        return fields if self.clusters is None else {**fields, "clusters": int(self.clusters)}


def interval_text(interval: Mapping[str, float] | Interval | Estimate, signed: bool = False) -> str:
    """An interval as text, such as "0.391 [0.345, 0.440]"; a mapping is what `Interval.to_dict` gives."""
    ends = ("value", "low", "high")
    values = interval if isinstance(interval, Mapping) else {name: getattr(interval, name) for name in ends}
    sign = "+" if signed else ""
    return f"{values['value']:{sign}.3f} [{values['low']:{sign}.3f}, {values['high']:{sign}.3f}]"


def questions_text(interval: Mapping[str, float]) -> str:
    """What an interval is over, such as "1,319 questions" or "400 questions in 99 clusters"; see `Interval.to_dict`."""
    clusters = f" in {interval['clusters']:,} clusters" if "clusters" in interval else ""
    return f"{interval['problems']:,} questions{clusters}"


def bootstrap_interval(
    values: npt.ArrayLike,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    kind: Kind = "number",
    clusters: Clusters | None = None,
) -> Interval:
    """Mean over problems with the percentile bootstrap interval (Efron 1979, Annals of Statistics 7(1)).

    Problems are drawn with replacement; the samples within a problem are not drawn again, so the interval speaks
    of other problems of the same kind. It is too narrow for a handful of problems, and of no width when all values
    are equal or there is only one; for shares and their differences, where that would be false, see `interval_of_few`.

    Args:
        values: One value per problem; shape `(problems,)`.
        confidence: Probability that the interval is to cover the true mean, between 0 and 1.
        resamples: Number of bootstrap means.
        seed: Seed of the draws; equal arguments give the equal interval.
        kind: What the values are.
        clusters: The cluster of each problem; whole clusters are then drawn. None: each problem stands alone.

    Returns:
        The mean and the `(1 - confidence) / 2` and `(1 + confidence) / 2` quantiles of the bootstrap means.

    Raises:
        ValueError: When `values` is empty, not of one dimension or not finite, `confidence` is not between 0 and 1,
            `resamples` is not positive, or there is not one cluster per problem.
    """
    array = _checked(values)
    if not 0 < confidence < 1:
        raise ValueError(f"The confidence must lie between 0 and 1, but it is {confidence}.")
    if resamples < 1:
        raise ValueError(f"At least one bootstrap resample is needed, but {resamples} were asked for.")
    groups = _grouped(clusters, array.size)
    count = None if groups is None else int(groups.max()) + 1
    # The mean of equal values can differ from them in the last digit, which would give a width where there is none.
    mean = float(array[0] if array.min() == array.max() else array.mean())
    few = interval_of_few(array, kind, confidence, groups)
    if few is not None:
        return Interval(mean, *few, array.size, count)
    if array.min() == array.max():
        return Interval(mean, mean, mean, array.size, count)
    means = _bootstrap_means(_by_cluster(array, groups), resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    if kind != "number":
        low, high = max(low, _LOWEST[kind]), min(high, 1.0)
    return Interval(mean, float(low), float(high), array.size, count)


def paired_difference(
    before: npt.ArrayLike,
    after: npt.ArrayLike,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    shares: bool = False,
    clusters: Clusters | None = None,
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
        shares: Whether both are shares.
        clusters: As for `bootstrap_interval`.

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
    kind: Kind = "difference" if shares else "number"
    return bootstrap_interval(second - first, confidence, resamples, seed, kind, clusters)


_LOWEST: dict[Kind, float] = {"number": -math.inf, "share": 0.0, "difference": -1.0}
_COMMON: dict[Kind, tuple[float, ...]] = {"number": (), "share": (0.0, 1.0), "difference": (-1.0, 0.0, 1.0)}


def interval_of_few(
    values: npt.NDArray[np.float64], kind: Kind, confidence: float, groups: npt.NDArray[np.int64] | None = None
) -> tuple[float, float] | None:
    """The interval of shares, or of their differences, of which all but a few are equal.

    Clopper and Pearson's for shares (1934, Biometrika 26), as Wilson's covers less than it says at a handful of
    problems; the adjusted Wald interval of Bonett and Price for differences of paired shares (2012, Journal of
    Educational and Behavioral Statistics 37(4)), which adds one question to either side. Values between 0 and 1 spread
    less than these two expect.

    Args:
        values: One value per problem; shape `(problems,)`.
        kind: What they are.
        confidence: Probability that the interval is to cover the true mean.
        groups: The number of each problem's cluster, from 0; clusters then count instead of problems.

    Returns:
        Its ends; None for other numbers, and where `FEW` problems or more differ from 0, and from 1 (and from -1), and
        not all are equal: there resampling, or Student's t, knows more.
    """
    if kind == "number":
        return None
    places = np.arange(values.size) if groups is None else groups
    different = (np.unique(places[values != common]).size for common in _COMMON[kind])
    if values.min() != values.max() and all(count >= FEW for count in different):
        return None
    count = int(places.max()) + 1
    mean = float(np.clip(values.mean(), _LOWEST[kind], 1.0))
    if kind == "share":
        return clopper_pearson(mean, count, confidence)
    centre, error = _adjusted(values, count)
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * error
    return min(mean, max(-1.0, centre - reach)), max(mean, min(1.0, centre + reach))


def clopper_pearson(share: float, count: float, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of a share of `count` independent draws; `share x count` need not be a whole number."""
    from scipy.stats import beta

    hits, misses = share * count, (1 - share) * count
    low = float(beta.ppf((1 - confidence) / 2, hits, misses + 1)) if hits > 0 else 0.0
    high = float(beta.ppf((1 + confidence) / 2, hits + 1, misses)) if misses > 0 else 1.0
    return min(low, share), max(high, share)


def _adjusted(differences: npt.NDArray[np.float64], count: int) -> tuple[float, float]:
    """A paired difference of shares and its standard error, one question added to either side."""
    up, down = ((count * float(np.maximum(side, 0).mean()) + 1) / (count + 2) for side in (differences, -differences))
    return up - down, math.sqrt(max(0.0, up + down - (up - down) ** 2) / (count + 2))


@dataclass(frozen=True, slots=True)
class Spread:
    """How values over seeds and problems vary: the variances of a two-way random-effects model.

    Args:
        seeds: Of the true means of seeds; 0 with one seed, which says nothing of others.
        problems: Of the true means of problems, or of clusters of them.
        rest: Of what remains; with one seed it is part of `problems`.
        means: Of the means of seeds as they were measured, over these problems; 0 with one seed.
    """

    seeds: float
    problems: float
    rest: float
    means: float = 0.0


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
        spread: How the values vary.
        clusters: In how many clusters they come; None where each stands alone.
        least_p_value: What `p_value` cannot be below, as all but a few values are equal.
    """

    value: float
    low: float
    high: float
    p_value: float
    seeds: int
    problems: int
    spread: Spread
    clusters: int | None = None
    least_p_value: float = 0.0


def crossed_estimate(
    values: npt.ArrayLike, confidence: float = 0.95, kind: Kind = "number", clusters: Clusters | None = None
) -> Estimate:
    """Mean over seeds and problems, both drawn at random, with its interval and test.

    Two-way random effects. Seeds add (MS_seeds - MS_rest) / (seeds x problems) to the variance of the mean, known with
    no more degrees of freedom than there are seeds but one; problems add MS_problems / (seeds x problems), known well.
    Each part has the quantile of Student's t of its own, and their squares are added (after Graybill and Wang 1980,
    Journal of the American Statistical Association 75). One common number of degrees of freedom, by Satterthwaite, is
    too large whenever seeds happen to lie close together, and a bootstrap over three seeds is too narrow. With one seed
    the interval is over problems only.

    The interval of shares ends at 0 and 1, that of their differences at -1 and 1. Where all but a few are equal it is
    that of `interval_of_few`, and no narrower than the seeds' own spread makes it.

    Args:
        values: One value of every seed and problem, or a paired difference of two runs; shape `(seeds, problems)`.
        confidence: Probability that the interval is to cover the true mean, between 0 and 1.
        kind: What the values are.
        clusters: The cluster of each problem, which then takes the place of problems; None: each stands alone.

    Raises:
        ValueError: When there is no value, or one that is not finite, or not one cluster per problem.
    """
    array = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if array.ndim != 2 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"There must be a finite value for every seed and problem, but the shape is {array.shape}.")
    seeds, problems = array.shape
    groups = _grouped(clusters, problems)
    mean = float(array.mean())
    by_cluster = _by_cluster(array, groups)
    spread = _spread(by_cluster)
    parts = _parts(spread, seeds, by_cluster.shape[1], spread.means, seeds - 1)
    reach = _reach(parts, (1 - confidence) / 2)
    low, high, p_value, least = mean - reach, mean + reach, _p_value(parts, mean), 0.0
    few = interval_of_few(array.mean(axis=0), kind, confidence, groups)
    if few is not None:
        low, high = few if seeds == 1 else (min(low, few[0]), max(high, few[1]))
        if kind == "difference":
            centre, error = _adjusted(array.mean(axis=0), by_cluster.shape[1])
            least = 2 * (1 - NormalDist().cdf(abs(centre) / error))
            p_value = least if seeds == 1 else max(p_value, least)
    if kind != "number":
        low, high = max(_LOWEST[kind], low), min(1.0, high)
    count = None if groups is None else int(groups.max()) + 1
    return Estimate(mean, low, high, p_value, seeds, problems, spread, count, least)


def p_values_together(differences: Sequence[Estimate], groups: int) -> list[float]:
    """P-values of the differences of all pairs of some groups, by what all of them say of how seeds vary.

    Many pairs ask for far tails, and the two degrees of freedom of three seeds give none: a pair whose seeds lie close
    together by chance seems certain, and one that differs by much is not shown to. Pooled over pairs the variance
    of the means of seeds has (groups - 1) x (seeds - 1) degrees of freedom, as in an analysis of variance of groups and
    seeds. A pair whose seeds vary more than that keeps its own variance.

    Args:
        differences: As `crossed_estimate` gives them; those with one seed keep their p-value.
        groups: Of how many groups they are the pairs.
    """
    several = [item for item in differences if item.seeds > 1]
    if groups < 3 or not several:
        return [item.p_value for item in differences]
    freedoms = [item.seeds - 1 for item in several]
    means = sum(item.spread.means * freedom for item, freedom in zip(several, freedoms, strict=True)) / sum(freedoms)
    freedom = (groups - 1) * min(freedoms)

    def together(item: Estimate) -> float:
        if item.seeds == 1:
            return item.p_value
        units = item.clusters or item.problems
        parts = _parts(item.spread, item.seeds, units, max(means, item.spread.means), freedom)
        return max(_p_value(parts, item.value), item.least_p_value)

    return [together(item) for item in differences]


def _spread(array: npt.NDArray[np.float64]) -> Spread:
    """How values vary, by their analysis of variance; shape `(seeds, problems)`."""
    seeds, problems = array.shape
    of_seeds, of_problems = array.mean(axis=1), array.mean(axis=0)
    means = float(of_seeds.var(ddof=1)) if seeds > 1 else 0.0
    by_problem = float(seeds * of_problems.var(ddof=1)) if problems > 1 else 0.0
    rest = 0.0
    if seeds > 1 and problems > 1:
        remaining = array - of_seeds[:, None] - of_problems + array.mean()
        rest = float((remaining**2).sum() / ((seeds - 1) * (problems - 1)))
    return Spread(
        seeds=max(0.0, problems * means - rest) / problems,
        problems=max(0.0, by_problem - rest) / seeds,
        rest=rest,
        means=means,
    )


def _parts(spread: Spread, seeds: int, problems: int, means: float, freedom: int) -> Parts:
    """What problems and seeds add to the variance of a mean.

    The part of problems has the rest in it, so that problems that happen to be alike do not seem certain.

    Args:
        spread: How the values vary.
        seeds: How many.
        problems: How many, or clusters of them.
        means: The variance of the means of seeds, with `freedom` degrees of freedom.
        freedom: See `means`.
    """
    of_problems = (spread.problems + spread.rest / seeds) / problems
    of_seeds = max(0.0, means - REST_WITH_SEEDS * spread.rest / problems) / seeds
    parts = ((of_problems, problems - 1), (of_seeds, freedom))
    return tuple((part, degrees) for part, degrees in parts if part * seeds * problems > _NOTHING)


def _reach(parts: Parts, tail: float) -> float:
    """Half the width of an interval that leaves out `tail` on either side."""
    from scipy.special import stdtrit

    return math.sqrt(sum(variance * float(stdtrit(freedom, tail)) ** 2 for variance, freedom in parts))


def _p_value(parts: Parts, mean: float) -> float:
    """Twice the tail at which the interval around `mean` ends at 0."""
    from scipy.optimize import brentq
    from scipy.special import stdtr

    if not parts or mean == 0:
        return float(mean == 0)
    if len(parts) == 1:
        variance, freedom = parts[0]
        return float(2 * stdtr(freedom, -abs(mean) / math.sqrt(variance)))
    # The logarithm of the tail, as tails that a large mean leaves are too small for steps of equal size.
    smallest, largest = -300.0, math.log(0.5)
    if _reach(parts, math.exp(smallest)) <= abs(mean):
        return 0.0
    return 2 * math.exp(brentq(lambda tail: _reach(parts, math.exp(tail)) - abs(mean), smallest, largest, xtol=1e-9))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm 1979, Scandinavian Journal of Statistics 6(2)), in the given order."""
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, position in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        highest = max(highest, min(1.0, p_values[position] * (len(p_values) - rank)))
        corrected[position] = highest
    return corrected


@dataclass(frozen=True, slots=True)
class Bracket:
    """A number of samples that is known to lie between two evaluations: above one, at most the other.

    Args:
        above: Samples at the last evaluation before the target was reached; 0 where that is the start, or the start
            itself was good enough.
        at_most: Samples at the first evaluation that reached it; infinite where none did.
    """

    above: float
    at_most: float


def samples_to_reach(samples: Sequence[float], values: Sequence[float], target: float) -> Bracket:
    """Between which two evaluations a curve first reaches `target`.

    What lies between two evaluations was not measured, so nothing is put between them: a straight line would place
    the answer by where the evaluations are.

    Args:
        samples: Samples seen at each evaluation, ascending; shape `(points,)`.
        values: The metric there; shape `(points,)`.
        target: The value to reach.
    """
    for position, value in enumerate(values):
        if value >= target:
            return Bracket(float(samples[max(0, position - 1)]), float(samples[position]))
    return Bracket(float(samples[-1]) if len(samples) else 0.0, math.inf)


def _checked(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"There must be one value per problem, but the values have shape {array.shape}.")
    if array.size == 0:
        raise ValueError("There is no problem to take a mean over.")
    if not np.isfinite(array).all():
        raise ValueError("Every value must be finite, but some are infinite or not a number.")
    return array


def _grouped(clusters: Clusters | None, problems: int) -> npt.NDArray[np.int64] | None:
    """The number of each problem's cluster, from 0; None where each problem stands alone."""
    if clusters is None:
        return None
    if len(clusters) != problems:
        raise ValueError(f"There must be one cluster per problem, but there are {len(clusters)} for {problems}.")
    numbers: dict[tuple[bool, str | int], int] = {}
    keys = ((False, place) if name is None else (True, name) for place, name in enumerate(clusters))
    groups = np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)
    return None if len(numbers) == problems else groups


def _by_cluster(values: npt.NDArray[np.float64], groups: npt.NDArray[np.int64] | None) -> npt.NDArray[np.float64]:
    """One value per cluster, by which the mean over problems varies to first order; the mean itself stays.

    The mean over problems is a ratio of two sums over clusters, of values and of problems. A cluster of which `n`
    problems have the sum `s` counts as `mean + (s - mean x n) x clusters / problems` (Cochran 1977, Sampling
    Techniques, 9.7). Along the last axis of `values`.
    """
    if groups is None:
        return values
    count, problems = int(groups.max()) + 1, values.shape[-1]
    mean = values.mean(axis=-1, keepdims=True)
    order = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[order], np.arange(count))
    sums = np.add.reduceat((values - mean)[..., order], starts, axis=-1)
    linear: npt.NDArray[np.float64] = mean + sums * (count / problems)
    return linear


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
