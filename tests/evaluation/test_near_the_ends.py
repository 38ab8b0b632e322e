"""Intervals of shares near 0 and 1, and of differences that hardly any question shows: their coverage, exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from rlreason.evaluation.evaluate import differences, intervals
from rlreason.evaluation.metrics import is_share
from rlreason.evaluation.statistics import bootstrap_interval, clopper_pearson, crossed_estimate, paired_difference

RATES = (0.0, 0.01, 0.05, 0.5, 0.95, 1.0)


def shares(right: int, problems: int) -> np.ndarray:
    return np.repeat([1.0, 0.0], [right, problems - right])


@pytest.mark.parametrize("problems", [4, 10, 50, 400])
def test_a_share_is_covered_at_the_stated_rate(problems: int) -> None:
    """Not drawn: every count of right answers with its probability, so the rate is exact."""
    found = {}
    for rate in RATES:
        covered = 0.0
        for right in range(problems + 1):
            probability = binom.pmf(right, problems, rate)
            if probability < 1e-6:
                continue
            if right not in found:
                found[right] = bootstrap_interval(shares(right, problems), resamples=1000, kind="share")
            covered += probability * (found[right].low <= rate <= found[right].high)
        assert covered >= 0.93, rate
        assert covered == pytest.approx(1) or rate not in (0.0, 1.0)


@pytest.mark.parametrize("problems", [4, 10, 50])
@pytest.mark.parametrize("rates", [(0.0, 0.0), (0.01, 0.01), (0.05, 0.05), (0.3, 0.3), (0.05, 0.0), (0.15, 0.05)])
def test_a_difference_of_shares_is_covered_at_the_stated_rate(problems: int, rates: tuple[float, float]) -> None:
    gained, lost = rates
    covered = 0.0
    for up in range(problems + 1):
        for down in range(problems + 1 - up):
            probability = binom.pmf(up, problems, gained) * binom.pmf(down, problems - up, lost / (1 - gained))
            if probability < 1e-5:
                continue
            after = shares(up, problems)
            before = shares(down, problems)[::-1]
            interval = paired_difference(before, after, resamples=500, shares=True)
            covered += probability * (interval.low <= gained - lost <= interval.high)
    assert covered >= 0.93


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_rare_share_is_covered_over_seeds_too(seeds: int) -> None:
    generator = np.random.default_rng(3)
    for rate in (0.0, 0.005, 0.99, 1.0):
        covered = 0
        for _ in range(300):
            estimate = crossed_estimate(generator.random((seeds, 100)) < rate, kind="share")
            assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
            covered += estimate.low <= rate <= estimate.high
        assert covered / 300 >= 0.93


def test_none_of_four_and_ten_of_ten() -> None:
    for right, problems in ((0, 4), (10, 10), (2, 200), (1, 1)):
        exact = binomtest(right, problems).proportion_ci(method="exact")
        for interval in (
            bootstrap_interval(shares(right, problems), kind="share"),
            crossed_estimate(shares(right, problems), kind="share"),
            intervals({"maj@1": shares(right, problems)}, 100)["maj@1"],
        ):
            assert (interval.low, interval.high) == pytest.approx((exact.low, exact.high))
            assert interval.value == right / problems
    assert clopper_pearson(0.0, 4)[0] == 0.0
    assert clopper_pearson(1.0, 10)[1] == 1.0


def test_equal_values_between_the_ends_have_a_width_too() -> None:
    interval = bootstrap_interval([0.5] * 8, kind="share")
    assert interval.low < 0.5 < interval.high
    assert interval.value == 0.5


def test_no_question_on_which_two_policies_differ_is_no_proof_that_they_are_alike() -> None:
    right = shares(20, 40)
    for before, after in ((right, right), (shares(0, 40), shares(40, 40))):
        interval = paired_difference(before, after, shares=True)
        assert -1 <= interval.low < interval.high <= 1
        assert interval.low <= interval.value <= interval.high
        assert interval.high - interval.low < 0.2
        estimate = crossed_estimate(after - before, kind="difference")
        assert (estimate.low, estimate.high) == pytest.approx((interval.low, interval.high))
    assert crossed_estimate(right - right, kind="difference").p_value == 1
    assert crossed_estimate(shares(40, 40), kind="difference").p_value < 1e-6


def test_five_questions_that_all_gained_are_not_enough_and_eight_are() -> None:
    """As in McNemar's exact test, whose p-value is 0.0625 for five and 0.0078 for eight."""
    for gained, low in ((5, False), (8, True)):
        difference = shares(gained, 400)
        assert (paired_difference(np.zeros(400), difference, shares=True).low > 0) is low
        estimate = crossed_estimate(difference, kind="difference")
        assert (estimate.low > 0, estimate.p_value < 0.05) == (low, low)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_intervals_hold_the_mean_stay_possible_and_turn_with_their_sign(
    first: list[float], second: list[float]
) -> None:
    size = min(len(first), len(second))
    before, after = np.array(first[:size]), np.array(second[:size])
    share = bootstrap_interval(before, resamples=100, kind="share")
    assert -1e-9 <= share.low <= share.value + 1e-9
    assert share.value - 1e-9 <= share.high <= 1 + 1e-9
    there, back = (crossed_estimate(pair, kind="difference") for pair in (after - before, before - after))
    assert (there.low, there.high, there.p_value) == pytest.approx((-back.high, -back.low, back.p_value), abs=1e-9)
    assert -1 <= there.low <= there.value + 1e-9
    mirrored = bootstrap_interval(1 - before, resamples=100, kind="share")
    if np.unique(before).size == 1:
        assert (mirrored.low, mirrored.high) == pytest.approx((1 - share.high, 1 - share.low))


def test_what_is_not_near_the_ends_keeps_its_bootstrap_interval() -> None:
    values = shares(37, 80)
    assert bootstrap_interval(values, kind="share") == bootstrap_interval(values)
    assert paired_difference(values, values[::-1], shares=True) == paired_difference(values, values[::-1])


def test_which_metrics_are_shares() -> None:
    half, ones = np.array([0.5, 0.25]), np.array([1.0, 0.0])
    for name in ("maj@1", "maj@96", "rerank@4", "weighted@4", "pass@2", "accuracy@temperature", "right_known_at_start"):
        assert is_share(name, half)
    for name in ("distinct_right", "distinct_answers"):
        assert not is_share(name, ones)
    assert is_share("ends_with_a_marker", ones, ones)  # of eval.metrics: known by its values
    assert not is_share("ends_with_a_marker", ones, half)


def test_metrics_are_given_the_interval_of_their_kind() -> None:
    values = {"maj@1": np.ones(9), "distinct_right": np.ones(9), "solution_tokens": np.full(9, 7.0)}
    found = intervals(values, 100)
    assert found["maj@1"].low < 1
    assert found["distinct_right"].low == found["distinct_right"].high == 1
    assert found["solution_tokens"].low == found["solution_tokens"].high == 7
    changed = differences(values, values, 100)
    assert changed["maj@1"].low < 0 < changed["maj@1"].high
    assert changed["distinct_right"].high == changed["solution_tokens"].high == 0
