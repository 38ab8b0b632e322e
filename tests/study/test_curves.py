"""Sample complexity on curves whose answer is known."""

import math
from pathlib import Path

import pandas as pd
import pytest

from rlreason.evaluation.statistics import Bracket
from rlreason.run.stage import checkpoint_of_round
from rlreason.study.arms import Arm
from rlreason.study.curves import bracket_text, common_target, learning_curve, path, sample_complexity
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
    return StudyRun(Path("run"), {"config": {"seed": seed}, "training_rollouts": points[-1][0]}, tuple(evaluations))


def arm(*runs):
    return Arm("ei", "sparse", "scratch", "tiny", "", runs)


THREE = (run(0, (0, 0.0), (100, 0.4), (200, 1.0)), run(1, (0, 0.0), (100, 0.0), (200, 0.1), (300, 0.5)))


def test_samples_to_95_percent_of_the_end_lie_between_two_evaluations():
    # 0.95 x 0.8 = 0.76: 0.4 lies below, and nobody knows where in between it was reached.
    found = sample_complexity(arm(run(0, (0, 0.0), (1000, 0.4), (2000, 0.8))))
    assert found.brackets == (Bracket(1000, 2000),)
    assert (found.text, found.resolution) == ("more than 1,000 and at most 2,000", 2)


@pytest.mark.parametrize("first", [2240, 4480, 8960, 17920])
def test_a_target_that_the_first_evaluation_has_reached_says_at_most(first):
    found = sample_complexity(arm(run(0, (0, 0.05), (first, 0.9), (36000, 0.9))))
    assert (found.text, found.resolution) == (f"at most {first:,}", math.inf)


def test_every_seed_has_its_own_target_unless_there_is_a_common_one():
    assert sample_complexity(arm(*THREE)).brackets == (Bracket(100, 200), Bracket(200, 300))
    common = sample_complexity(arm(*THREE), 0.45)
    assert common.brackets == (Bracket(100, 200), Bracket(200, 300))
    found = sample_complexity(arm(*THREE), 0.9)
    assert found.brackets == (Bracket(100, 200), Bracket(300, math.inf))
    assert found.median.at_most == math.inf
    assert bracket_text(found.brackets[1]) == "not reached by 300"


def test_the_common_target_is_that_of_the_best_arm_that_learns_from_rewards():
    best = Arm("sft", "sparse", "scratch", "tiny", "", (run(0, (0, 0.0), (0, 1.0)),))
    assert common_target([arm(*THREE), best]) == pytest.approx(0.95 * 0.75)
    assert common_target([best]) is None


def test_the_median_lies_between_the_medians_of_the_ends():
    runs = [run(seed, (0, 0.0), (100 * (seed + 1), 0.0), (300, 0.4), (400, 1.0)) for seed in range(3)]
    middle = run(3, (0, 0.0), (100, 1.0), (200, 1.0))
    assert sample_complexity(arm(*runs[:2], middle)).median == Bracket(300, 400)


def test_the_first_reaching_counts_though_the_curve_falls_again():
    found = sample_complexity(arm(run(0, (0, 0.0), (100, 1.0), (200, 0.2), (300, 0.5))))
    assert found.median == Bracket(0, 100)


def test_a_start_that_is_good_enough_needs_no_samples():
    assert sample_complexity(arm(run(0, (0, 0.9), (100, 0.9), (200, 0.9)))).text == "at the start"


def test_what_makes_a_single_update_has_no_curve():
    assert sample_complexity(arm(run(0, (0, 0.0), (36000, 0.8)))) is None
    assert sample_complexity(arm(run(0, (0, 0.5)))) is None
    assert sample_complexity(arm(run(0, (0, 0.5), (100, 0.6), (200, 0.6))), metric="pass@4") is None


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
