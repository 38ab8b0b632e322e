"""Ranking, calibration and thresholds against counting and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from rlreason.orm.calibration import Calibration, best_threshold, fit_calibration
from rlreason.orm.judging import (
    area_under_curve,
    calibration_error,
    judging_report,
    reliability,
    score_at_fifth,
)

JUDGED = st.lists(st.tuples(st.integers(0, 8).map(lambda value: value / 8), st.booleans()), min_size=1, max_size=30)


@given(JUDGED)
def test_area_under_the_curve_counts_pairs(judged):
    scores, right = zip(*judged, strict=True)
    pairs = [(a, b) for a, good in judged for b, other in judged if good and not other]
    if not pairs:
        assert np.isnan(area_under_curve(scores, right))
        return
    counted = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)
    assert area_under_curve(scores, right) == pytest.approx(counted)
    assert area_under_curve(scores, right) == pytest.approx(roc_auc_score(right, scores))


@given(JUDGED)
def test_no_threshold_judges_better_than_the_best(judged):
    scores, right = (np.array(values) for values in zip(*judged, strict=True))
    chosen = best_threshold(scores, right)
    reached = ((scores >= chosen) == right).mean()
    assert all(((scores >= other) == right).mean() <= reached for other in np.linspace(-0.1, 1.1, 200))


def test_calibration_error_by_hand():
    probabilities = [0.05, 0.05, 0.95, 0.95]
    assert calibration_error(probabilities, [False, False, True, True]) == pytest.approx(0.05)
    assert calibration_error(probabilities, [True, False, True, False]) == pytest.approx((0.45 + 0.45) / 2)
    assert reliability([0.0, 1.0, 1.0], [False, True, False]) == [(0.0, 0.0, 1), (1.0, 0.5, 2)]


def test_a_fitted_calibration_is_calibrated():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=20_000) * 3
    right = generator.random(20_000) < 1 / (1 + np.exp(-(0.5 * logits - 1)))
    found = fit_calibration(logits, right)
    assert (found.slope, found.intercept) == (pytest.approx(0.5, abs=0.05), pytest.approx(-1, abs=0.08))
    assert calibration_error(found.probability(logits), right) < 0.02


@given(st.floats(-1e6, 1e6))
def test_probabilities_neither_overflow_nor_leave_the_interval(logit):
    assert 0 <= float(Calibration(1.0, 0.0, 0.5).probability(logit)) <= 1


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]), ([1, 2], [1, 1, 2, 2, 2]), ([7], [7] * 5), ([1, 2, 3], [1, 2, 2, 3, 3])],
)
def test_scores_after_each_fifth(scores, expected):
    assert [score_at_fifth(scores, fifth) for fifth in range(1, 6)] == expected


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000))
def test_the_report_turns_baselines_and_compares_on_the_same_questions(seed):
    generator = np.random.default_rng(seed)
    right = generator.random(200) < 0.4
    right[:2] = [True, False]
    good = (right + generator.normal(size=200) * 0.3).clip(0, 1)
    ids = [f"p{number // 5}" for number in range(200)]
    report = judging_report(ids, [(0.5, value) for value in good], right.tolist(), {"length": -good}, 0.5, 100)
    assert report["auc"]["value"] == pytest.approx(area_under_curve(good, right))
    assert report["auc"]["problems"] == 40
    assert report["auc"]["low"] <= report["auc"]["value"] <= report["auc"]["high"]
    assert report["baselines"]["length"] == pytest.approx(report["auc"]["value"])
    assert report["auc_above_length"]["value"] == pytest.approx(0)
    assert report["by_fifth"][0]["auc"] == pytest.approx(0.5)
    assert report["by_fifth"][-1]["auc"] == pytest.approx(report["auc"]["value"])


def test_perfect_judgement_of_a_few_questions_is_not_certain():
    right = [True, False] * 10
    scores = [(0.9,) if good else (0.1,) for good in right]
    ids = [f"p{number // 2}" for number in range(20)]
    report = judging_report(ids, scores, right, {"same": [score[0] for score in scores]}, 0.5, 100)
    for name in ("auc", "accuracy"):
        assert report[name]["value"] == report[name]["high"] == 1
        assert 0.5 < report[name]["low"] < 0.9
    assert report["auc_above_same"]["low"] < 0 < report["auc_above_same"]["high"]
    clusters = [f"c{number // 4}" for number in range(20)]
    clustered = judging_report(ids, scores, right, {}, 0.5, 100, clusters)
    assert (clustered["auc"]["problems"], clustered["auc"]["clusters"]) == (10, 5)
    assert clustered["accuracy"]["low"] < report["accuracy"]["low"]
