"""Intervals over seeds and problems: their coverage and error rates in simulation, and small cases by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from rlreason.evaluation.statistics import crossed_estimate, holm, samples_to_reach

SIMULATIONS = 2000


def drawn(generator, seeds, problems, spread_of_seeds, spread_of_problems, spread_of_rest):
    """Values around 0: an effect of every seed, one of every problem, and the rest."""
    return (
        generator.normal(0, spread_of_seeds, (seeds, 1))
        + generator.normal(0, spread_of_problems, (1, problems))
        + generator.normal(0, spread_of_rest, (seeds, problems))
    )


@pytest.mark.parametrize(
    ("seeds", "spreads", "least"),
    [
        (3, (0.02, 0.4, 0.2), 0.935),  # questions differ most, as in accuracy
        (3, (0.5, 0.1, 0.1), 0.925),  # seeds matter most
        (3, (0.1, 0.4, 0.2), 0.92),  # seeds matter as much as the choice of questions: 0.935 in the long run
        (3, (0.0, 0.0, 0.4), 0.95),  # neither matters: wider than it had to be
        (5, (0.05, 0.3, 0.3), 0.935),
        (5, (0.1, 0.4, 0.2), 0.935),
        (2, (0.1, 0.4, 0.2), 0.90),  # two seeds say little about their own spread: 0.92 in the long run
    ],
)
def test_the_interval_covers_the_true_mean_at_the_stated_rate(seeds, spreads, least):
    generator = np.random.default_rng(5)
    covered = 0
    for _ in range(SIMULATIONS):
        estimate = crossed_estimate(drawn(generator, seeds, 60, *spreads))
        covered += estimate.low <= 0 <= estimate.high
    assert covered / SIMULATIONS >= least  # a rate of 0.95 has a Monte-Carlo error of 0.005


def test_the_interval_is_not_wider_than_needed_where_questions_prevail():
    generator = np.random.default_rng(6)
    covered = sum(
        estimate.low <= 0 <= estimate.high
        for estimate in (crossed_estimate(drawn(generator, 3, 60, 0.0, 0.4, 0.05)) for _ in range(SIMULATIONS))
    )
    assert covered / SIMULATIONS <= 0.975


def test_identical_arms_are_seldom_told_apart():
    """Two arms of the same accuracy, over the same questions and seeds, right or wrong at random."""
    generator = np.random.default_rng(7)
    found = 0
    for _ in range(SIMULATIONS):
        difficulty = generator.random(150)
        first, second = (generator.random((3, 150)) < difficulty for _ in range(2))
        found += crossed_estimate(first.astype(float) - second).p_value < 0.05
    assert found / SIMULATIONS <= 0.065


def test_many_identical_arms_are_seldom_told_apart_after_correction():
    generator = np.random.default_rng(8)
    found = 0
    for _ in range(300):
        difficulty = generator.random(100)
        arms = [(generator.random((2, 100)) < difficulty).astype(float) for _ in range(6)]
        best = max(arms, key=lambda arm: arm.mean())
        others = [crossed_estimate(best - arm).p_value for arm in arms if arm is not best]
        found += min(holm(others)) < 0.05
    # The best of six is chosen for being high, which the correction for five tests does not know about entirely.
    assert found / 300 <= 0.15


def test_one_seed_is_students_t_over_problems():
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    estimate = crossed_estimate(values)
    error = np.std(values, ddof=1) / math.sqrt(5)
    reach = t.ppf(0.975, 4) * error
    assert (estimate.low, estimate.high) == pytest.approx((0.6 - reach, 0.6 + reach))
    assert estimate.p_value == pytest.approx(2 * t.sf(0.6 / error, 4))
    assert (estimate.seeds, estimate.problems) == (1, 5)


def test_two_seeds_worked_by_hand():
    # Seed means 1 and 3, problem means 1, 2 and 3: MS_seeds = 3 x 2 = 6, MS_problems = 2 x 1 = 2, MS_rest = 0.
    estimate = crossed_estimate([[0, 1, 2], [2, 3, 4]])
    error, freedom = math.sqrt(8 / 6), 8**2 / (6**2 / 1 + 2**2 / 2 + 0)
    assert estimate.value == 2
    assert estimate.high - estimate.value == pytest.approx(t.ppf(0.975, freedom) * error)


def test_equal_values_have_no_width():
    for value, p_value in ((0.0, 1.0), (0.5, 0.0)):
        estimate = crossed_estimate(np.full((3, 4), value))
        assert (estimate.value, estimate.low, estimate.high, estimate.p_value) == (value, value, value, p_value)
    assert crossed_estimate([[0.3]]).high == 0.3


@pytest.mark.parametrize("values", [[], [[]], [[0.0, math.nan]], [math.inf], np.zeros((2, 2, 2))])
def test_values_that_have_no_mean_are_refused(values):
    with pytest.raises(ValueError, match="finite value"):
        crossed_estimate(values)


def test_the_interval_turns_with_its_sign():
    values = np.random.default_rng(1).normal(0.2, 1, (3, 20))
    there, back = crossed_estimate(values), crossed_estimate(-values)
    assert (there.low, there.p_value) == pytest.approx((-back.high, back.p_value))


def test_holm_worked_by_hand():
    # Ordered 0.005, 0.01, 0.03, 0.04, times 4, 3, 2 and 1, and none below the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([0.03]) == [0.03]


@settings(max_examples=100)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_no_correction_and_bonferroni(p_values):
    corrected = holm(p_values)
    assert all(raw <= item <= min(1.0, raw * len(p_values)) for raw, item in zip(p_values, corrected, strict=True))
    for one, first in zip(p_values, corrected, strict=True):
        assert all(first <= second for other, second in zip(p_values, corrected, strict=True) if one <= other)


@pytest.mark.parametrize(
    ("samples", "values", "target", "expected"),
    [
        ([0, 100], [0.0, 1.0], 0.25, 25),
        ([0, 100, 300], [0.0, 0.5, 0.9], 0.7, 200),
        ([0, 100], [0.6, 0.7], 0.5, 0),
        ([0, 100, 200, 300], [0.0, 0.8, 0.2, 0.9], 0.4, 50),
        ([0, 100], [0.0, 0.5], 0.5, 100),
        ([0, 100], [0.0, 0.5], 0.6, math.inf),
        ([], [], 0.5, math.inf),
    ],
)
def test_samples_to_reach(samples, values, target, expected):
    assert samples_to_reach(samples, values, target) == pytest.approx(expected)


@pytest.mark.parametrize("rate", [1e-3, 1e-2])
def test_samples_to_reach_on_a_curve_whose_answer_is_known(rate):
    samples = np.linspace(0, 5 / rate, 400)
    values = 1 - np.exp(-rate * samples)
    assert samples_to_reach(samples, values, 0.95) == pytest.approx(math.log(20) / rate, rel=1e-3)
