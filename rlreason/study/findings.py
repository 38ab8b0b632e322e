"""The paper's findings as hypotheses, each tested on a study's own runs and never worded stronger than its interval.

A verdict needs an interval that decides, and three seeds of every arm: fewer say nothing of their own spread. "Holds"
and "does not hold" are each wrong in at most one of twenty studies whose truth lies just beyond what they claim. What
must be true everywhere is tested in each setting by itself; what need be true only somewhere is corrected for the
number of settings (Bonferroni), so that many settings do not make a chance result. Where a finding says that something
is absent or alike, a margin says how small is small; the margins are ours, for the paper states none. Where the
evidence does not suffice, the finding says what would, and the smallest difference that this study could have seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from rlreason.evaluation.metrics import KNOWN, KNOWN_NULL
from rlreason.evaluation.power import LARGEST, LEAST_SEEDS, needed, smallest_seen
from rlreason.evaluation.statistics import Estimate, interval_text
from rlreason.study.arms import Arm, Comparison, mean_difference
from rlreason.study.controls import is_control
from rlreason.study.curves import SampleComplexity, common_target, sample_complexity
from rlreason.study.results import best_arm

HOLDS, FAILS, UNKNOWN = "holds", "does not hold", "not enough evidence"
MARGIN = 0.05  # differences of maj@1 below this count as comparable
CLOSE = 0.10  # the paper's "under 10 points"
FACTOR = 2.0  # sample counts within this factor count as similar
MOST_SAMPLES = 3e6  # above this, samples are no longer of the order of 10^6
LEFT = 0.10  # a start is hardly left while its own samples would know at most this much more of the start

Contrast = Callable[[float], Estimate | None]  # an estimate at a given confidence
Distance = Callable[[float], float]  # how far a value lies from where its verdict would change


@dataclass(frozen=True)
class Finding:
    """One finding of the paper and what this study says of it.

    Args:
        number: As in the documentation.
        statement: The paper's claim.
        certainty: How sure it is that the paper says so, "known" or "likely".
        verdict: "holds", "does not hold" or "not enough evidence".
        evidence: The statistic and its numbers.
    """

    number: int
    statement: str
    certainty: str
    verdict: str
    evidence: str


def findings(comparison: Comparison) -> list[Finding]:
    """Test every finding on the runs of one comparison, those of controls left out."""
    comparison = replace(comparison, arms=tuple(arm for arm in comparison.arms if not is_control(arm)))
    tests: list[tuple[str, str, Callable[[Comparison], tuple[str, str]]]] = [
        ("Expert iteration is best in most settings of reward and start.", "known", _expert_iteration_is_best),
        ("Expert iteration raises maj@1 above SFT.", "likely", _above_sft),
        ("EI and PPO need similar numbers of samples, at most of the order of 10^6.", "known", _similar_samples),
        ("RL raises maj@1 and pass@K together; longer SFT raises maj@1 and lowers pass@K.", "known", _trade_off),
        ("Dense and ORM rewards do not improve final accuracy.", "likely", _rewards),
        ("RL brings the pretrained start to within 10 points of the SFT start.", "known", _gap_between_starts),
        ("Larger models find more diverse solutions during RL.", "known", _larger_is_more_diverse),
        ("Exploration is the limit: RL hardly leaves the solutions of SFT.", "known", _known_solutions),
        ("All algorithms come out comparable.", "known", _comparable),
    ]
    return [
        Finding(number, statement, certainty, *test(comparison))
        for number, (statement, certainty, test) in enumerate(tests, start=1)
    ]


def _expert_iteration_is_best(comparison: Comparison) -> tuple[str, str]:
    settings = [
        (ours, others)
        for ours in comparison.find(algo="ei")
        if (others := [other for other in _others(comparison, ours) if ours.difference(other, "maj@1") is not None])
    ]
    if not settings:
        return UNKNOWN, "No EI run has another algorithm beside it with the same reward, start and model."
    differences = [[_certain(ours.difference(other, "maj@1")) for other in others] for ours, others in settings]
    pairs = [
        (f"{_name(ours)} over {other.algorithm.title}", item)
        for (ours, others), found in zip(settings, differences, strict=True)
        for other, item in zip(others, found, strict=True)
    ]
    above = sum(all(item.value > 0 for item in found) for found in differences)
    mean = mean_difference([(ours, other) for ours, others in settings for other in others], "maj@1")
    on_average = "" if mean is None else f"; the mean of all {len(pairs)} differences is {_interval(mean)}"
    text = (
        f"EI has the highest maj@1 in {above} of {len(settings)} settings{on_average}. EI less others: {_shown(pairs)}."
    )
    # "Best" needs every difference of a setting above 0, "not best" needs one below; one-sided tests, two of a verdict.
    best = [max(_above_zero(item) for item in found) for found in differences]
    not_best = [min(1.0, len(found) * min(1 - _above_zero(item) for item in found)) for found in differences]
    most = len(settings) // 2 + 1
    if _at_least(best, most):
        verdict = HOLDS
    elif _at_least(not_best, len(settings) - most + 1):
        verdict = FAILS
    else:
        verdict = UNKNOWN
    return _judged(verdict, text, pairs, abs)


def _comparable(comparison: Comparison) -> tuple[str, str]:
    arms = [arm for arm in comparison.arms if arm.algorithm.learns_from_rewards]
    contrasts = [
        (f"{_name(one)} over {other.algorithm.title}", partial(one.difference, other, "maj@1"))
        for number, one in enumerate(arms)
        for other in _others(comparison, one)
        if other in arms[number + 1 :]
    ]
    pairs = _together(contrasts)
    if not pairs:
        return UNKNOWN, "No two algorithms were run with the same reward, start and model."
    text = f"Differences of maj@1, comparable within {MARGIN:.2f}: {_shown(pairs)}."
    if any(item.low > MARGIN or item.high < -MARGIN for _, item in pairs):
        verdict = FAILS
    else:
        # Two one-sided tests at 5 % each: the interval of 90 % lies within the margin.
        verdict = HOLDS if all(_within(item, MARGIN) for _, item in _each(contrasts, 0.90)) else UNKNOWN
    return _judged(verdict, text, pairs, lambda value: abs(MARGIN - abs(value)))


def _above_sft(comparison: Comparison) -> tuple[str, str]:
    gains = [(_name(arm), partial(arm.gain, "maj@1", "init")) for arm in comparison.find(algo="ei", init="sft")]
    return _all_above_zero(gains, "maj@1 after EI less that of its SFT start")


def _similar_samples(comparison: Comparison) -> tuple[str, str]:
    needs: list[tuple[str, SampleComplexity, SampleComplexity]] = []
    for ours in comparison.find(algo="ei", init="scratch"):
        target = common_target(comparison.find(init="scratch", model=ours.model))
        for other in _others(comparison, ours, "ppo"):
            first, second = sample_complexity(ours, target), sample_complexity(other, target)
            if first is not None and second is not None:
                needs.append((_name(ours, algorithm=False), first, second))
    if not needs:
        return UNKNOWN, "No pair of EI and PPO from the pretrained start was evaluated twice or more on the way."
    shown = "; ".join(f"{name}: EI {first.text}, PPO {second.text}" for name, first, second in needs)
    text = f"Rollouts to 95 % of the best final maj@1 of this model and start, median over seeds: {shown}."
    both = [item for _, *pair in needs for item in pair]
    seeds = min(len(item.brackets) for item in both)
    if seeds < LEAST_SEEDS:
        return UNKNOWN, f"{text} {_too_few_seeds(seeds)}"
    if any(_logarithm([item], len(both))[0] > math.log(MOST_SAMPLES) for item in both):
        return FAILS, text
    if any(item.resolution > FACTOR for item in both):
        return UNKNOWN, (
            f"{text} Needed: a target that every seed reaches, and around the place where it does evaluations no more "
            f"than a factor of {FACTOR:g} apart."
        )
    ratios = [_logarithm([first, second], len(needs)) for _, first, second in needs]
    shown = "; ".join(f"{math.exp(low):.2f} to {math.exp(high):.2f}" for low, high in ratios)
    text = f"{text} EI's as a multiple of PPO's: {shown}."
    limit = math.log(FACTOR)
    if any(low > limit or high < -limit for low, high in ratios):
        return FAILS, text
    if all(low >= -limit and high <= limit for low, high in ratios):
        return HOLDS, text
    return UNKNOWN, f"{text} Needed: more than {seeds} seeds, or evaluations closer together."


def _trade_off(comparison: Comparison) -> tuple[str, str]:
    wide = f"pass@{comparison.k}"
    trained = [arm for arm in comparison.arms if arm.algorithm.learns_from_rewards]
    tuned = {
        arm: checkpoints[1]
        for arm in comparison.find(algo="sft")
        if len(checkpoints := [item.checkpoint for item in arm.runs[0].course]) > 2
    }
    contrasts = [
        (f"{_name(arm)} {metric}", partial(arm.gain, metric, since))
        for arm, since in (*((arm, "init") for arm in trained), *tuned.items())
        for metric in ("maj@1", wide)
    ]
    pairs = _together(contrasts)
    found = dict(pairs)
    rl = [(found.get(f"{_name(arm)} maj@1"), found.get(f"{_name(arm)} {wide}")) for arm in trained]
    sft = [(found.get(f"{_name(arm)} maj@1"), found.get(f"{_name(arm)} {wide}")) for arm in tuned]
    both = [(one, two) for one, two in rl if one is not None and two is not None]
    traded = [(one, two) for one, two in sft if one is not None and two is not None]
    if not both or not traded:
        return UNKNOWN, f"This needs RL runs and an SFT run whose {wide} was measured on the way."
    text = f"Last less first checkpoint (for SFT, less the first one on the way): {_shown(pairs)}."
    agree = [one.low > 0 and two.low > 0 for one, two in both] + [one.low > 0 and two.high < 0 for one, two in traded]
    if any(one.high < 0 or two.high < 0 for one, two in both) or any(two.low > 0 for _, two in traded):
        verdict = FAILS
    else:
        verdict = HOLDS if all(agree) else UNKNOWN
    return _judged(verdict, text, pairs, abs)


def _rewards(comparison: Comparison) -> tuple[str, str]:
    contrasts = [
        (_name(arm), partial(arm.difference, sparse, "maj@1"))
        for arm in comparison.arms
        if arm.reward != "sparse" and arm.algorithm.learns_from_rewards
        for sparse in comparison.find(**{**arm.names, "reward": "sparse"})
    ]
    pairs = _together(contrasts)
    if not pairs:
        return UNKNOWN, "No algorithm was run with the sparse and with another reward."
    text = f"maj@1 less that of the sparse reward, no improvement within {MARGIN:.2f}: {_shown(pairs)}."
    if any(item.low > 0 for _, item in pairs):
        verdict = FAILS
    else:
        verdict = HOLDS if all(item.high <= MARGIN for _, item in _each(contrasts, 0.90)) else UNKNOWN
    return _judged(verdict, text, pairs, lambda value: max(value, MARGIN - value))


def _gap_between_starts(comparison: Comparison) -> tuple[str, str]:
    candidates = {}
    for model in comparison.models:
        trained = [arm for arm in comparison.find(model=model) if arm.algorithm.learns_from_rewards]
        scratch, tuned = ([arm for arm in trained if arm.init == init] for init in ("scratch", "sft"))
        if scratch and tuned and all(one.difference(other, "maj@1") for one in tuned for other in scratch):
            candidates[model] = (tuned, scratch)
    if not candidates:
        return UNKNOWN, "No model was trained from both starts."
    tests = sum(len(tuned) * len(scratch) for tuned, scratch in candidates.values())
    gaps = [
        (model, _gap(tuned, scratch, 1 - 0.05 / tests), best_arm(tuned, "maj@1"), best_arm(scratch, "maj@1"))
        for model, (tuned, scratch) in candidates.items()
    ]
    pairs = [(f"{model} ({_label(best)} over {_label(other)})", gap) for model, gap, best, other in gaps]
    text = f"Best maj@1 from SFT less best from the pretrained start, any of which may be best: {_shown(pairs)}."
    if any(item.low > CLOSE for _, item in pairs):
        verdict = FAILS
    else:
        verdict = HOLDS if all(item.high < CLOSE for _, item in pairs) else UNKNOWN
    return _judged(verdict, text, pairs, lambda value: abs(CLOSE - value), tests)


def _gap(ours: Sequence[Arm], others: Sequence[Arm], confidence: float) -> Estimate:
    """The highest maj@1 of some arms less the highest of others, at the confidence that each pair of arms has.

    The difference of two maxima is the maximum over the first of the minimum over the second of all differences. Where
    all their intervals cover, so does the interval of these ends, whichever arms are best.
    """
    grid = [[_certain(one.difference(other, "maj@1", confidence)) for other in others] for one in ours]
    value, low, high = (
        max(min(getattr(item, end) for item in row) for row in grid) for end in ("value", "low", "high")
    )
    middle = max((min(row, key=lambda item: item.value) for row in grid), key=lambda item: item.value)
    return replace(middle, value=value, low=low, high=high, seeds=min(item.seeds for row in grid for item in row))


def _larger_is_more_diverse(comparison: Comparison) -> tuple[str, str]:
    if len(comparison.models) < 2:
        return UNKNOWN, "All runs have the same model."
    small, large = comparison.models[0], comparison.models[-1]
    pairs = [
        (_name(arm, model=False), partial(arm.difference, other, "distinct_right"))
        for arm in comparison.find(model=large)
        if arm.algorithm.learns_from_rewards
        for other in comparison.find(**{**arm.names, "model": small})
    ]
    return _all_above_zero(pairs, f"Different right solutions per question of {large} less those of {small}")


def _known_solutions(comparison: Comparison) -> tuple[str, str]:
    contrasts = [
        (_name(arm), partial(arm.excess, KNOWN, KNOWN_NULL))
        for arm in comparison.find(init="sft")
        if arm.algorithm.learns_from_rewards
    ]
    pairs = _together(contrasts)
    if not pairs:
        return UNKNOWN, (
            "No RL run from SFT was sampled at its end and compared with its start; runs of earlier versions were not."
        )
    shares = "; ".join(
        f"{_name(arm)} {known.value:.3f} and {null.value:.3f}"
        for arm in comparison.find(init="sft")
        if arm.algorithm.learns_from_rewards
        and (known := arm.estimate(KNOWN)) is not None
        and (null := arm.estimate(KNOWN_NULL)) is not None
    )
    text = (
        f"Share of a policy's right samples whose solution SFT's own samples contain, and the same share of further "
        f"samples of SFT itself: {shares}. The difference, of which -{LEFT:.2f} counts as little: {_shown(pairs)}."
    )
    if any(item.high < -LEFT for _, item in pairs):
        verdict = FAILS
    else:
        verdict = HOLDS if all(item.low >= -LEFT for _, item in _each(contrasts, 0.90)) else UNKNOWN
    return _judged(verdict, text, pairs, lambda value: abs(value + LEFT))


def _each(contrasts: Iterable[tuple[str, Contrast]], confidence: float) -> list[tuple[str, Estimate]]:
    """The estimates that can be made, each by itself at this confidence."""
    made = [(name, contrast(confidence)) for name, contrast in contrasts]
    return [(name, estimate) for name, estimate in made if estimate is not None]


def _together(contrasts: Iterable[tuple[str, Contrast]]) -> list[tuple[str, Estimate]]:
    """The estimates that can be made, with intervals that cover together with 95 %."""
    every = list(contrasts)
    return _each(every, 1 - 0.05 / max(1, len(_each(every, 0.95))))


def _all_above_zero(contrasts: Sequence[tuple[str, Contrast]], meaning: str) -> tuple[str, str]:
    pairs = _together(contrasts)
    if not pairs:
        return UNKNOWN, "The study has no such runs, or none that measured it."
    text = f"{meaning}: {_shown(pairs)}."
    if any(item.high < 0 for _, item in pairs) or all(item.high <= 0 for _, item in pairs):
        verdict = FAILS
    else:
        verdict = HOLDS if all(item.low > 0 for _, item in _each(contrasts, 0.95)) else UNKNOWN
    return _judged(verdict, text, pairs, abs)


def _above_zero(item: Estimate) -> float:
    """The one-sided p-value of "not above 0"."""
    return item.p_value / 2 if item.value > 0 else 1 - item.p_value / 2


def _at_least(p_values: Sequence[float], count: int) -> bool:
    """Whether at least `count` of the alternatives are true, at 2.5 % (Benjamini and Heller 2008, Biometrics 64(4))."""
    return count > 0 and (len(p_values) - count + 1) * sorted(p_values)[count - 1] < 0.025


def _within(item: Estimate, margin: float) -> bool:
    return -margin <= item.low and item.high <= margin


def _logarithm(items: Sequence[SampleComplexity], tests: int) -> tuple[float, float]:
    """The ends of an interval for the mean logarithm of one arm's samples, or of the ratio of two arms', over seeds.

    Each end is that of the samples' lower or upper bounds, so what lies between two evaluations widens the interval.
    """
    from scipy.special import stdtrit

    low = high = variance = 0.0
    seeds = min(len(item.brackets) for item in items)
    for item, sign in zip(items, (1, -1), strict=False):
        if min(bracket.above for bracket in item.brackets) == 0:
            return -math.inf, math.inf
        above = np.log([bracket.above for bracket in item.brackets])
        at_most = np.log([bracket.at_most for bracket in item.brackets])
        ends = sorted((sign * float(above.mean()), sign * float(at_most.mean())))
        low, high = low + ends[0], high + ends[1]
        # Seeds in one bracket are not alike: they may lie anywhere in it.
        width = np.minimum(at_most - above, math.log(FACTOR))
        places = above + width / 2
        variance += (float(places.var(ddof=1)) + float((width**2).mean()) / 12) / len(item.brackets)
    reach = -float(stdtrit(seeds - 1, 0.025 / tests)) * math.sqrt(variance)
    return low - reach, high + reach


def _judged(
    verdict: str, text: str, pairs: Sequence[tuple[str, Estimate]], distance: Distance, tests: int | None = None
) -> tuple[str, str]:
    """A verdict with its evidence; without enough of it, with what would be needed.

    Args:
        verdict: As the intervals decide, were there seeds enough.
        text: The evidence.
        pairs: The named estimates that decide.
        distance: How far a value lies from where the verdict would change.
        tests: For how many intervals theirs are corrected; None: for as many as there are.
    """
    seeds = min(item.seeds for _, item in pairs)
    if seeds < LEAST_SEEDS:
        return UNKNOWN, f"{text} {_too_few_seeds(seeds)}"
    if verdict != UNKNOWN:
        return verdict, text
    confidence = 1 - 0.05 / (tests or len(pairs))
    seen = [
        smallest_seen(item.spread, item.seeds, max(2, item.clusters or item.problems), confidence) for _, item in pairs
    ]
    clarity = [distance(item.value) / (least or math.inf) for (_, item), least in zip(pairs, seen, strict=True)]
    name, item = pairs[clarity.index(min(clarity))]
    enough = needed(item, distance(item.value), confidence)
    ways = [f"{enough.seeds:,} seeds"] if enough.seeds else []
    ways += [f"{enough.questions:,} questions with {max(LEAST_SEEDS, item.seeds)} seeds"] if enough.questions else []
    more = " or ".join(ways) or f"more than {LARGEST} seeds, and more than {LARGEST} times as many questions"
    return UNKNOWN, (
        f"{text} This study sees differences of {min(seen):.3f} to {max(seen):.3f} four times in five. "
        f"Needed for the least clear one, {name}, if it is as large as measured: {more}."
    )


def _too_few_seeds(seeds: int) -> str:
    has = "one seed" if seeds == 1 else f"{seeds} seeds"
    return f"Needed: {LEAST_SEEDS} seeds or more of every arm, the same ones; an arm or a pair of arms has {has}."


def _certain(item: Estimate | None) -> Estimate:
    if item is None:
        raise ValueError("Two arms that are compared share no problem.")
    return item


def _others(comparison: Comparison, arm: Arm, algo: str | None = None) -> list[Arm]:
    """Arms of other RL algorithms with the same reward, start and model."""
    alike = comparison.find(reward=arm.reward, init=arm.init, model=arm.model)
    return [
        other
        for other in alike
        if other.algorithm.learns_from_rewards and other.algo != arm.algo and algo in (None, other.algo)
    ]


def _name(arm: Arm, algorithm: bool = True, model: bool = True) -> str:
    reward = arm.reward if arm.algorithm.uses_reward else ""
    parts = (arm.algorithm.title * algorithm, reward, arm.init, arm.model * model, arm.variant)
    return " ".join(filter(None, parts))


def _label(arm: Arm | None) -> str:
    return "" if arm is None else _name(arm, model=False)


def _interval(item: Estimate) -> str:
    return interval_text(item, signed=True)


def _shown(pairs: Iterable[tuple[str, Estimate]]) -> str:
    return "; ".join(f"{name} {_interval(item)}" for name, item in pairs)
