"""Bootstrap intervals against a plain loop, and their error rates in simulation."""

from __future__ import annotations

import json
import random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlreason.evaluation.statistics import Interval, bootstrap_interval, paired_difference

Values = npt.NDArray[np.float64]


def bernoulli(generator: np.random.Generator, rates: Values) -> Values:
    return (generator.random(rates.size) < rates).astype(np.float64)


def loop_bootstrap(values: list[float], resamples: int) -> tuple[float, float]:
    generator = random.Random(11)
    means = sorted(sum(generator.choices(values, k=len(values))) / len(values) for _ in range(resamples))
    return means[round(0.025 * resamples)], means[round(0.975 * resamples)]


@settings(max_examples=50)
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40))
def test_interval_contains_the_mean(values: list[float]) -> None:
    interval = bootstrap_interval(values, resamples=500)
    slack = 1e-9
    assert interval.low - slack <= interval.value <= interval.high + slack
    assert interval.value == pytest.approx(np.mean(values), abs=slack)
    assert interval.problems == len(values)


def test_interval_agrees_with_a_plain_loop() -> None:
    values = np.random.default_rng(3).exponential(size=40)
    interval = bootstrap_interval(values, resamples=20_000)
    low, high = loop_bootstrap(values.tolist(), 20_000)
    standard_error = values.std() / np.sqrt(values.size)
    # A 2.5 % quantile of 20,000 means has a Monte-Carlo error of about 0.02 standard errors; two are compared.
    assert interval.low == pytest.approx(low, abs=0.08 * standard_error)
    assert interval.high == pytest.approx(high, abs=0.08 * standard_error)


def test_interval_has_the_width_of_the_normal_approximation() -> None:
    values = np.random.default_rng(5).normal(size=1319)
    interval = bootstrap_interval(values)
    half_width = 1.96 * values.std() / np.sqrt(values.size)
    assert interval.high - interval.value == pytest.approx(half_width, rel=0.05)
    assert interval.value - interval.low == pytest.approx(half_width, rel=0.05)


def test_interval_covers_the_true_rate() -> None:
    generator = np.random.default_rng(17)
    rate, simulations = 0.4, 300
    intervals = [
        bootstrap_interval(bernoulli(generator, np.full(100, rate)), resamples=1000, seed=number)
        for number in range(simulations)
    ]
    covered = sum(interval.low <= rate <= interval.high for interval in intervals) / simulations
    assert 0.91 <= covered <= 0.98


def test_interval_depends_on_nothing_but_its_arguments() -> None:
    values = np.random.default_rng(1).random(3000)
    before = values.copy()
    assert bootstrap_interval(values, resamples=200) == bootstrap_interval(values, resamples=200)
    assert bootstrap_interval(values, resamples=200) != bootstrap_interval(values, resamples=200, seed=1)
    np.testing.assert_array_equal(values, before)


def test_more_confidence_gives_a_wider_interval() -> None:
    values = np.random.default_rng(1).random(50)
    narrow, wide = bootstrap_interval(values, confidence=0.5), bootstrap_interval(values, confidence=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize("values", [[0.1], [0.1] * 7, [True, True]])
def test_equal_values_give_an_interval_without_width(values: list[float]) -> None:
    assert bootstrap_interval(values) == Interval(float(values[0]), float(values[0]), float(values[0]), len(values))


@pytest.mark.parametrize(
    ("values", "message"),
    [([], "no problem"), ([[0.0, 1.0]], "shape"), ([0.0, float("nan")], "finite"), ([float("inf")], "finite")],
)
def test_values_that_have_no_mean_over_problems_are_refused(values: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(values)
    with pytest.raises(ValueError, match=message):
        paired_difference(values, values)


def test_impossible_settings_are_refused() -> None:
    for confidence in (0.0, 1.0, 95.0):
        with pytest.raises(ValueError, match="between 0 and 1"):
            bootstrap_interval([0.0, 1.0], confidence=confidence)
    with pytest.raises(ValueError, match="resample"):
        bootstrap_interval([0.0, 1.0], resamples=0)


def test_paired_difference_worked_by_hand() -> None:
    interval = paired_difference([0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 1.0])
    assert (interval.value, interval.low, interval.high, interval.problems) == (0.5, 0.0, 1.0, 4)
    assert paired_difference([0, 1, 0], [1, 2, 1]) == Interval(1.0, 1.0, 1.0, 3)


def test_paired_difference_changes_sign_with_its_arguments() -> None:
    generator = np.random.default_rng(2)
    before, after = generator.random(60), generator.random(60)
    forward, backward = paired_difference(before, after), paired_difference(after, before)
    assert (forward.value, forward.low, forward.high) == pytest.approx((-backward.value, -backward.high, -backward.low))


def test_paired_difference_refuses_unequal_lengths() -> None:
    with pytest.raises(ValueError, match="2 and 3"):
        paired_difference([0.0, 1.0], [0.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="1 and 3"):
        paired_difference([0.0], [0.0, 1.0, 1.0])


def test_paired_difference_seldom_finds_what_is_not_there() -> None:
    generator = np.random.default_rng(29)
    simulations, found = 400, 0
    for number in range(simulations):
        difficulty = generator.random(120)
        before, after = bernoulli(generator, difficulty), bernoulli(generator, difficulty)
        interval = paired_difference(before, after, resamples=1000, seed=number)
        found += interval.low > 0 or interval.high < 0
    assert 0.025 <= found / simulations <= 0.085


def test_pairing_narrows_the_interval_of_correlated_values() -> None:
    generator = np.random.default_rng(31)
    difficulty = generator.random(300)
    before, after = difficulty + generator.normal(0, 0.1, 300), difficulty + generator.normal(0.05, 0.1, 300)
    paired = paired_difference(before, after)
    unpaired = paired_difference(before, generator.permutation(after))
    assert paired.value == pytest.approx(unpaired.value)
    assert paired.high - paired.low < 0.5 * (unpaired.high - unpaired.low)
    assert paired.low > 0


def test_interval_is_written_as_plain_numbers() -> None:
    written = bootstrap_interval(np.array([0.0, 1.0], dtype=np.float32), resamples=100).to_dict()
    assert list(written) == ["value", "low", "high", "problems"]
    assert [type(entry) for entry in written.values()] == [float, float, float, int]
    assert json.loads(json.dumps(written)) == written
