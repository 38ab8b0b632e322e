"""What is read of a study, and what is said of what cannot be read."""

import json
import shutil

import pandas as pd
import pytest
from study.made import make_run

from rlreason.errors import UserError
from rlreason.run.folder import training_files
from rlreason.study.arms import comparisons
from rlreason.study.figures.style import looks, short_label
from rlreason.study.folders import read_study
from rlreason.study.plan import Command, Job, add_to_plan


@pytest.fixture
def study(tmp_path):
    make_run(tmp_path / "study", seed=0)
    make_run(tmp_path / "study", seed=1)
    return tmp_path / "study"


def test_a_run_is_read_whole(study):
    run = read_study(study).runs[0]
    assert [item.checkpoint for item in run.evaluations] == ["init", "round-1", "round-2", "final"]
    assert [item.samples_seen for item in run.evaluations] == [0, 60, 120, 120]
    assert [item.checkpoint for item in run.course] == ["init", "round-1", "round-2"]
    assert list(run.out_of_distribution) == ["init", "final"]
    assert (run.seed, run.samples_drawn, len(run.final.table)) == (0, 120, 24)
    recorded = {item["stage"]: item["metrics"] for item in run.result["evaluations"]}
    for item in run.evaluations:
        assert item.table["maj@1"].mean() == pytest.approx(recorded[item.checkpoint]["maj@1"]["value"])


def test_rollouts_come_in_the_order_of_training(tmp_path):
    make_run(tmp_path / "study", "ppo", accuracies=(0.2,) + (0.3,) * 2, files=6)
    names = [path.stem for path in training_files(read_study(tmp_path / "study").runs[0].folder)]
    assert names == [f"batch-{number:05}" for number in range(1, 13)]
    make_run(tmp_path / "long", accuracies=(0.2,) * 12)
    names = [path.stem for path in training_files(read_study(tmp_path / "long").runs[0].folder)]
    assert names == [f"round-{number}" for number in range(1, 12)]


def test_runs_that_are_planned_or_begun_are_missing(study):
    make_run(study, "ppo", finished=False, name="begun")
    jobs = [Job("planned"), Job("begun"), Job("ei-tiny-scratch-sparse-seed0")]
    add_to_plan(study, jobs, Command("rlreason -m study=s", "2026-01-31T12:00:00+00:00"))
    found = read_study(study)
    assert found.missing == ("begun", "planned")
    assert found.commands == ("rlreason -m study=s",)


@pytest.mark.parametrize("plan", ["{", "[]", '{"jobs": 3}', '{"jobs": [{}]}'])
def test_a_plan_that_makes_no_sense_is_named(study, plan):
    (study / "study.json").write_text(plan)
    found = read_study(study)
    assert found.missing == ()
    assert "study.json cannot be read" in found.troubles[0]


def test_no_study_and_no_finished_run_are_one_line(tmp_path):
    with pytest.raises(UserError, match=r"there is no study in .*nowhere"):
        read_study(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no finished run in .*empty$"):
        read_study(tmp_path / "empty")
    make_run(tmp_path / "empty", finished=False)
    with pytest.raises(UserError, match=r"no finished run in .*; 1 "):
        read_study(tmp_path / "empty")


def corrupt(path):
    path.write_bytes(path.read_bytes()[:100])


def test_a_corrupt_checkpoint_on_the_way_is_named_and_skipped(study):
    corrupt(study / "ei-tiny-scratch-sparse-seed1/evaluations/test-round-1.parquet")
    found = read_study(study)
    assert [item.checkpoint for item in found.runs[1].evaluations] == ["init", "round-2", "final"]
    (trouble,) = found.troubles
    assert trouble.startswith("ei-tiny-scratch-sparse-seed1: without round-1, test-round-1.parquet cannot be read")


def test_a_run_whose_last_evaluation_is_corrupt_or_gone_is_left_out(study):
    corrupt(study / "ei-tiny-scratch-sparse-seed1/evaluations/test-final.parquet")
    found = read_study(study)
    assert [run.seed for run in found.runs] == [0]
    (trouble,) = found.troubles
    assert "seed1: left out, test-final.parquet cannot be read" in trouble
    shutil.rmtree(study / "ei-tiny-scratch-sparse-seed1/evaluations")
    (trouble,) = read_study(study).troubles
    assert "left out, test-final.parquet is not there" in trouble


def test_corrupt_questions_of_another_kind_cost_only_themselves(study):
    corrupt(study / "ei-tiny-scratch-sparse-seed0/evaluations/ood-final.parquet")
    found = read_study(study)
    assert len(found.runs) == 2
    assert len(found.runs[0].out_of_distribution) == 1
    assert "ood-final.parquet cannot be read" in found.troubles[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "result.json cannot be read"),
        ("{}", "no 'config'"),
        ("[]", "left out"),
        ("", "result.json cannot be read"),
    ],
)
def test_a_result_that_makes_no_sense_is_left_out(study, text, words):
    (study / "ei-tiny-scratch-sparse-seed1/result.json").write_text(text)
    found = read_study(study)
    assert len(found.runs) == 1
    (trouble,) = found.troubles
    assert trouble.startswith("ei-tiny-scratch-sparse-seed1: left out")
    assert words in trouble


@pytest.mark.parametrize("group", ["algo", "reward", "data", "init"])
def test_a_run_of_what_nobody_has_declared_is_left_out(study, group):
    path = study / "ei-tiny-scratch-sparse-seed1/result.json"
    result = json.loads(path.read_text())
    result["config"][group]["name"] = "xyz"
    path.write_text(json.dumps(result))
    found = read_study(study)
    assert [run.seed for run in found.runs] == [0]
    assert f"seed1: left out, {group}=xyz is not declared" in found.troubles[0]


def test_a_run_of_an_algorithm_from_outside_the_package_has_its_title_and_its_look(tmp_path, monkeypatch):
    (tmp_path / "outside_rows.py").write_text(
        "from dataclasses import replace\n"
        "from rlreason.algorithms.registry import ALGORITHMS\n"
        "MINE = replace(ALGORITHMS['ei'], title='Mine', color='#123456')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = make_run(tmp_path / "study", accuracies=(0.2, 0.5)) / "result.json"
    result = json.loads(path.read_text())
    result["config"]["algo"] |= {"name": "mine-of-the-study", "row": "outside_rows.MINE"}
    path.write_text(json.dumps(result))
    (found,), _ = comparisons(read_study(tmp_path / "study").runs)
    (arm,) = found.arms
    assert short_label(arm) == "Mine sparse"
    assert looks(found)[arm].color == "#123456"


def test_evaluations_of_a_model_are_no_arms(study):
    make_run(study, name="look", settings=("task=evaluate",))
    found = read_study(study)
    assert len(found.runs) == 2
    assert found.troubles == ("look: left out, task=evaluate trains nothing",)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.drop(columns="maj@1"), "test-final.parquet has no maj@1"),
        (lambda table: table.assign(**{"pass@2": float("nan")}), "must have finite values"),
        (lambda table: table.assign(problem_id="q1"), "once for every question"),
        (lambda table: table.iloc[:0], "must have finite values"),
    ],
)
def test_an_evaluation_that_makes_no_sense_is_named(study, change, words):
    path = study / "ei-tiny-scratch-sparse-seed0/evaluations/test-final.parquet"
    change(pd.read_parquet(path)).to_parquet(path, index=False)
    (trouble,) = read_study(study).troubles
    assert words in trouble
