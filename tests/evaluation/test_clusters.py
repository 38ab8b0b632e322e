"""Intervals over clusters of questions: their coverage in simulation, and that lone questions change nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlreason.evaluation.statistics import (
    Interval,
    bootstrap_interval,
    crossed_estimate,
    paired_difference,
    questions_text,
)

SIMULATIONS, CLUSTERS = 300, 40
Covered = Callable[[np.ndarray, list[str | None] | None], bool]


def bootstrapped(values: np.ndarray, clusters: list[str | None] | None) -> bool:
    interval = bootstrap_interval(values[0], resamples=400, clusters=clusters)
    return interval.low <= 0 <= interval.high


def crossed(values: np.ndarray, clusters: list[str | None] | None) -> bool:
    estimate = crossed_estimate(values, clusters=clusters)
    return estimate.low <= 0 <= estimate.high


@pytest.mark.parametrize(("covers", "seeds"), [(bootstrapped, 1), (crossed, 1), (crossed, 3)])
def test_strongly_clustered_values_are_covered_by_intervals_over_clusters_only(covers: Covered, seeds: int) -> None:
    generator = np.random.default_rng(11)
    with_clusters = without = 0
    for _ in range(SIMULATIONS):
        sizes = generator.integers(1, 12, CLUSTERS)
        clusters: list[str | None] = [f"template {number}" for number in np.repeat(np.arange(CLUSTERS), sizes)]
        effects = np.repeat(generator.normal(0, 1, CLUSTERS), sizes)
        values = effects + generator.normal(0, 0.3, (seeds, len(clusters)))
        with_clusters += covers(values, clusters)
        without += covers(values, None)
    assert 0.91 <= with_clusters / SIMULATIONS <= 0.98
    assert without / SIMULATIONS < 0.75


NAMES = st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=20)


@settings(max_examples=60, deadline=None)
@given(NAMES, st.integers(0, 1000))
def test_the_mean_stays_over_questions(clusters: list[str | None], seed: int) -> None:
    values = np.random.default_rng(seed).random(len(clusters))
    different = len({name for name in clusters if name is not None}) + clusters.count(None)
    expected = None if different == len(clusters) else different
    for found in (
        bootstrap_interval(values, resamples=100, clusters=clusters),
        paired_difference(np.zeros_like(values), values, resamples=100, shares=True, clusters=clusters),
        crossed_estimate(values, clusters=clusters),
        crossed_estimate(values, kind="share", clusters=clusters),
    ):
        assert found.value == pytest.approx(values.mean())
        assert found.low - 1e-9 <= found.value <= found.high + 1e-9
        assert (found.problems, found.clusters) == (len(clusters), expected)


def test_one_question_in_each_cluster_changes_no_bit() -> None:
    generator = np.random.default_rng(0)
    values = generator.random((3, 50))
    for clusters in ([f"{number}" for number in range(50)], [None] * 50, ["a", *[None] * 49]):
        assert bootstrap_interval(values[0], clusters=clusters) == bootstrap_interval(values[0])
        assert paired_difference(*values[:2], clusters=clusters) == paired_difference(*values[:2])
        assert crossed_estimate(values, clusters=clusters) == crossed_estimate(values)


def test_equal_questions_within_clusters_count_as_often_as_there_are_clusters() -> None:
    by_cluster = np.random.default_rng(4).random(30)
    clusters = [f"{number // 5}" for number in range(150)]
    alone = bootstrap_interval(by_cluster, resamples=200)
    together = bootstrap_interval(np.repeat(by_cluster, 5), resamples=200, clusters=clusters)
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high))
    one, many = crossed_estimate(by_cluster), crossed_estimate(np.repeat(by_cluster, 5), clusters=clusters)
    assert (many.low, many.high, many.p_value) == pytest.approx((one.low, one.high, one.p_value))


def test_a_share_near_the_ends_is_as_certain_as_there_are_clusters() -> None:
    clusters = [f"{number // 5}" for number in range(20)]
    for kind in ("share", "difference"):
        for values in (np.zeros(20), np.ones(20)):
            together = bootstrap_interval(values, kind=kind, clusters=clusters)
            alone = bootstrap_interval(values[:4], kind=kind)
            assert (together.low, together.high) == pytest.approx((alone.low, alone.high))


def test_every_question_needs_its_cluster() -> None:
    for found in (bootstrap_interval, crossed_estimate):
        with pytest.raises(ValueError, match="2 for 3"):
            found([1.0, 2.0, 3.0], clusters=["a", "b"])


def test_questions_are_said_with_their_clusters() -> None:
    assert questions_text(Interval(0.5, 0.4, 0.6, 1319).to_dict()) == "1,319 questions"
    assert questions_text(Interval(0.5, 0.4, 0.6, 400, 99).to_dict()) == "400 questions in 99 clusters"
