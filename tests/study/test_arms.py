"""Which runs are seeds of one thing, and which things stand in one table."""

from dataclasses import replace

import numpy as np
import pytest
from study.made import make_run

from rlreason.study.arms import comparisons
from rlreason.study.curves import learning_curve
from rlreason.study.folders import read_study
from rlreason.study.results import by_difficulty, out_of_distribution, pass_at_every_k


def compared(folder):
    return comparisons(read_study(folder).runs)


def test_runs_that_differ_in_their_seed_are_one_arm(comparison):
    assert [arm.seeds for arm in comparison.arms] == [(0, 1)] * 8
    labels = [arm.label for arm in comparison.arms]
    assert labels == [
        "EI, sparse, scratch, tiny",
        "EI, dense, scratch, tiny",
        "PPO, sparse, scratch, tiny",
        "GRPO, orm, scratch, tiny",
        "SFT, scratch, tiny",
        "EI, sparse, sft, tiny",
        "RCRL, sft, tiny",
        "EI, sparse, scratch, small",
    ]
    assert comparison.models == ("tiny", "small")
    assert comparison.metrics == ("maj@1", "maj@4", "rerank@4", "pass@4")
    assert comparison.title == "word problems, test questions, prompt=plain, K = 4"


def test_settings_that_differ_make_variants(tmp_path):
    for per in ("step", "solution"):
        make_run(tmp_path, "rcrl", accuracies=(0.2, 0.5), settings=(f"algo.per={per}",))
    (found,), notes = compared(tmp_path)
    assert [arm.variant for arm in found.arms] == ["algo.per=solution", "algo.per=step"]
    assert notes == []


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("eval.k=3", "eval.k"),
        ("data.test_size=7", "data.test_size"),
        ("eval.temperature=1.0", "eval.temperature"),
        ("prompt.examples=2", "prompt.examples"),
        ("data=gsm8k", "data.name"),
    ],
)
def test_runs_measured_differently_stand_in_tables_of_their_own(tmp_path, setting, named):
    make_run(tmp_path, accuracies=(0.2, 0.5))
    further = ("eval.k_between=0",) if setting == "eval.k=3" else ()
    make_run(tmp_path, accuracies=(0.2, 0.5), settings=(setting, *further))
    found, (note,) = compared(tmp_path)
    assert len(found) == 2
    assert found[0].title != found[1].title
    assert named in note and "2 separate tables" in note


def test_a_repeated_seed_is_named_and_left_out(tmp_path):
    make_run(tmp_path, accuracies=(0.2, 0.5), name="first")
    make_run(tmp_path, accuracies=(0.2, 0.5), name="second")
    (found,), notes = compared(tmp_path)
    assert [run.name for run in found.arms[0].runs] == ["first"]
    assert notes == ["second has the settings and the seed of first: left out"]


def test_sft_under_another_reward_is_the_same_arm(tmp_path):
    make_run(tmp_path, "sft", accuracies=(0.2, 0.5), seed=0)
    make_run(tmp_path, "sft", "dense", accuracies=(0.2, 0.5), seed=1)
    (found,), _ = compared(tmp_path)
    assert [arm.seeds for arm in found.arms] == [(0, 1)]


def test_estimates_are_means_over_seeds_and_questions(comparison):
    for arm in comparison.arms:
        values = np.stack([run.final.table["maj@4"] for run in arm.runs])
        estimate = arm.estimate("maj@4")
        assert estimate.value == pytest.approx(values.mean())
        assert (estimate.seeds, estimate.problems) == (2, 24)
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert comparison.arms[0].estimate("pass@64") is None
    assert comparison.arms[0].estimate("maj@4", "round-9") is None


def test_differences_pair_seeds_and_questions(comparison):
    first, second = comparison.arms[:2]
    difference = first.difference(second, "maj@1")
    assert difference.value == pytest.approx(first.estimate("maj@1").value - second.estimate("maj@1").value)
    back = second.difference(first, "maj@1")
    assert (back.value, back.low, back.p_value) == pytest.approx(
        (-difference.value, -difference.high, difference.p_value)
    )
    assert -1 <= difference.low <= difference.value <= difference.high <= 1
    assert first.difference(first, "maj@1").p_value == 1
    assert first.gain("maj@1").value == pytest.approx(
        first.estimate("maj@1").value - first.estimate("maj@1", "init").value
    )


def test_arms_without_a_common_seed_are_compared_over_questions(tmp_path):
    make_run(tmp_path, accuracies=(0.2, 0.5), seed=0)
    make_run(tmp_path, "ppo", accuracies=(0.2, 0.5), seed=5)
    (found,), _ = compared(tmp_path)
    difference = found.arms[0].difference(found.arms[1], "maj@1")
    assert difference.seeds == 1
    assert difference.value == pytest.approx(
        found.arms[0].estimate("maj@1").value - found.arms[1].estimate("maj@1").value
    )


def test_seeds_that_share_no_question_have_no_estimate(comparison):
    arm = comparison.arms[0]
    first, second = arm.runs

    def renamed(table):
        return table.rename(index=lambda name: f"other-{name}")

    strange = replace(
        second,
        evaluations=tuple(replace(item, table=renamed(item.table)) for item in second.evaluations),
        out_of_distribution={stage: renamed(table) for stage, table in second.out_of_distribution.items()},
    )
    apart = replace(arm, runs=(first, strange))
    assert apart.estimate("maj@1") is None
    assert (learning_curve(apart), pass_at_every_k(apart), by_difficulty(apart)) == ([], [], [])
    assert out_of_distribution(apart) is None
