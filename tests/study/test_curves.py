"""Sample complexity on curves whose answer is known."""

from pathlib import Path

import pandas as pd
import pytest

from rlreason.run.stage import checkpoint_of_round
from rlreason.study.arms import Arm
from rlreason.study.curves import learning_curve, path, sample_complexity
from rlreason.study.folders import Evaluation, StudyRun


def run(seed, *points, final=None, metric="maj@1"):
    """Points are (samples seen, value); the last policy has the last value unless told otherwise."""
    evaluations = [
        Evaluation(checkpoint_of_round(number), True, seen, pd.DataFrame({metric: [value] * 3}))
        for number, (seen, value) in enumerate(points)
    ]
    evaluations.append(
        Evaluation(
            "final", False, points[-1][0], pd.DataFrame({metric: [points[-1][1] if final is None else final] * 3})
        )
    )
    return StudyRun(Path("run"), {"config": {"seed": seed}}, tuple(evaluations))


def arm(*runs):
    return Arm("ei", "sparse", "scratch", "tiny", "", runs)


def test_samples_to_95_percent_of_the_final_value():
    # 0.95 x 0.8 = 0.76 is reached 0.36/0.4 of the way from 1,000 to 2,000.
    found = sample_complexity(arm(run(0, (0, 0.0), (1000, 0.4), (2000, 0.8))))
    assert (found.median, found.low, found.high, found.seeds) == (
        pytest.approx(1900),
        pytest.approx(1900),
        pytest.approx(1900),
        1,
    )


def test_every_seed_has_its_own_target():
    runs = run(0, (0, 0.0), (100, 1.0)), run(1, (0, 0.0), (100, 0.0), (200, 0.5)), run(2, (0, 0.0), (50, 0.5))
    found = sample_complexity(arm(*runs))
    assert (found.low, found.median, found.high) == pytest.approx((47.5, 95, 195))


def test_the_first_reaching_counts_though_the_curve_falls_again():
    assert sample_complexity(arm(run(0, (0, 0.0), (100, 1.0), (200, 0.2), (300, 0.5)))).median == pytest.approx(47.5)


def test_a_start_that_is_good_enough_needs_no_samples():
    assert sample_complexity(arm(run(0, (0, 0.9), (100, 0.9)))).median == 0


def test_a_final_value_that_the_course_never_reaches_has_no_answer():
    assert sample_complexity(arm(run(0, (0, 0.0), (100, 0.5), final=0.9))) is None
    assert sample_complexity(arm(run(0, (0, 0.5)))) is None
    assert sample_complexity(arm(run(0, (0, 0.5), (100, 0.6))), "pass@4") is None


def test_a_learning_curve_has_the_stages_that_all_seeds_reached():
    points = learning_curve(arm(run(0, (0, 0.0), (100, 0.4), (200, 0.8)), run(1, (0, 0.2), (120, 0.6))))
    assert [(samples, estimate.value) for samples, estimate in points] == [
        (0, pytest.approx(0.1)),
        (110, pytest.approx(0.5)),
    ]


def test_a_path_ends_with_the_last_policy():
    def both(up_between):
        tables = [{"maj@1": [0.1], "pass@4": [0.5]}, {"maj@1": [0.4]} | up_between, {"maj@1": [0.6], "pass@4": [0.7]}]
        stages = ("init", "round-1", "final")
        evaluations = tuple(
            Evaluation(stage, stage != "final", 0, pd.DataFrame(table))
            for stage, table in zip(stages, tables, strict=True)
        )
        points = path(arm(StudyRun(Path("run"), {"config": {"seed": 0}}, evaluations)), "maj@1", "pass@4")
        return [(across.value, up.value) for across, up in points]

    assert both({}) == [(0.1, 0.5), (0.6, 0.7)]
    assert both({"pass@4": [0.6]}) == [(0.1, 0.5), (0.4, 0.6)]  # the last checkpoint is the last policy
