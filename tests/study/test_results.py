"""The tidy table against numbers worked out by hand, and pass@k against its closed form."""

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlreason.evaluation.statistics import holm
from rlreason.study.arms import Arm, Comparison
from rlreason.study.folders import Evaluation, StudyRun
from rlreason.study.results import (
    TIDY_COLUMNS,
    as_table,
    best_arm,
    by_difficulty,
    costs,
    measured,
    out_of_distribution,
    pass_at_every_k,
)


def run(seed, columns, stages=("init", "final"), **result):
    table = pd.DataFrame({"samples": 4, "reference_steps": 1, "right": 0, **columns})
    table.index = pd.Index([f"q{number}" for number in range(len(table))], name="problem_id")
    config = {"seed": seed, "model": {"parameters": 1}, "eval": {"split": "test"}}
    whole = {
        "config": config,
        "training_rollouts": 100,
        "seconds": {"train": 3.0, "total": 5.0},
        "tokens": {"sample": 11, "train": 13},
        **result,
    }
    evaluations = tuple(Evaluation(stage, stage == "init", 0, table * (stage != "init")) for stage in stages)
    return StudyRun(Path(f"run-{seed}"), whole, evaluations)


def arm(name, *runs):
    return Arm(name, "sparse", "scratch", "tiny", "", runs)


def table_of(*arms, k=0):
    return as_table(measured(Comparison("made", k, {}, arms)))


def test_a_table_worked_by_hand():
    low = arm("ei", run(0, {"maj@1": [0.0, 1, 0, 0]}), run(1, {"maj@1": [0.0, 1, 1, 0]}))
    high = arm("ppo", run(0, {"maj@1": [1.0, 1, 1, 0]}), run(1, {"maj@1": [1.0, 1, 1, 1]}))
    table = table_of(low, high)
    assert tuple(table.columns) == TIDY_COLUMNS
    final = table[(table["stage"] == "final") & (table["metric"] == "maj@1")].set_index("algo")
    assert final.loc["ei", "value"] == 3 / 8
    assert final.loc["ppo", "value"] == 7 / 8
    assert list(final["best"]) == [False, True]
    assert final.loc["ei", "below_best"] == 0.5
    assert math.isnan(final.loc["ppo", "below_best"])
    assert (final.loc["ei", "samples_drawn"], final.loc["ei", "seconds"], final.loc["ei", "tokens"]) == (100, 5, 24)
    start = table[table["stage"] == "init"]
    assert (start["value"] == 0).all() and (start["samples_drawn"] == 0).all()
    assert start["p_value"].isna().all()


def test_p_values_are_corrected_for_all_pairs_of_arms():
    generator = np.random.default_rng(0)
    arms = [
        arm(name, run(0, {"maj@1": (generator.random(200) < rate).astype(float)}))
        for name, rate in (("ei", 0.97), ("ppo", 0.8), ("rcrl", 0.75), ("grpo", 0.85))
    ]
    table = table_of(*arms)
    final = table[table["stage"] == "final"].set_index("algo")
    assert best_arm(arms, "maj@1") is arms[0]
    raw = [one.difference(other, "maj@1").p_value for one, other in combinations(arms, 2)]
    assert list(final["p_value"].iloc[1:]) == pytest.approx(holm(raw)[:3])  # the first three pairs have the best arm
    assert sum(final["best"]) == 1


def test_an_arm_alone_is_not_called_the_best():
    assert not table_of(arm("ei", run(0, {"maj@1": [0.0, 1]})))["best"].any()


def test_pass_at_every_k_is_the_closed_form():
    right = [0, 1, 3, 6]
    made = arm("ei", run(0, {"samples": 6, "right": right, "maj@1": [0.0] * 4}))
    curve = dict(pass_at_every_k(made))
    assert sorted(curve) == [1, 2, 4, 6]
    for k, estimate in curve.items():
        expected = np.mean([1 - math.comb(6 - count, k) / math.comb(6, k) for count in right])
        assert estimate.value == pytest.approx(expected)


def test_pass_at_k_of_the_study_is_what_its_runs_recorded(comparison):
    for one in comparison.arms:
        assert dict(pass_at_every_k(one))[4].value == pytest.approx(one.estimate("pass@4").value)
        assert dict(pass_at_every_k(one, "init"))[2].value == pytest.approx(one.estimate("pass@2", "init").value)


def test_accuracy_by_steps_leaves_out_questions_without_a_solution():
    columns = {"reference_steps": [1, 1, 2, 0], "maj@1": [1.0, 0, 1, 1]}
    found = by_difficulty(arm("ei", run(0, columns)))
    assert [(steps, estimate.value) for steps, estimate in found] == [(1, 0.5), (2, 1.0)]
    assert by_difficulty(arm("ei", run(0, columns, stages=("final",))), checkpoint="init") == []


def test_questions_of_another_kind(comparison):
    first, last = out_of_distribution(comparison.arms[0])
    runs = comparison.arms[0].runs
    assert first.value == np.mean([one.out_of_distribution["init"]["maj@1"].mean() for one in runs])
    assert last.value == np.mean([one.out_of_distribution["final"]["maj@1"].mean() for one in runs])
    assert out_of_distribution(arm("ei", run(0, {"maj@1": [1.0]}))) is None


def test_costs_are_means_over_seeds():
    second = {"seconds": {"train": 5.0, "total": 9.0}, "training_rollouts": 300}
    found = costs(arm("ei", run(0, {"maj@1": [1.0]}), run(1, {"maj@1": [1.0]}, **second)))
    assert found == {
        "samples": 200,
        "seconds train": 4,
        "seconds total": 7,
        "tokens sample": 11,
        "tokens train": 13,
    }
