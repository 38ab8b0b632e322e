"""What was gained: form or answers, under one prompt or two, and of which questions; with the null of each."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from study.made import make_run

from rlreason.evaluation.metrics import ANSWERED
from rlreason.study.arms import Arm, Comparison, comparisons
from rlreason.study.commands import settings
from rlreason.study.coverage import arm_coverage, coverage_lines
from rlreason.study.folders import Evaluation, StudyRun, read_study
from rlreason.study.gained import gained_tables
from rlreason.study.gains import gain_lines, gain_split, two_prompts
from rlreason.study.measures import whole_table
from rlreason.study.readings import readings
from rlreason.study.report import write_report

QUESTIONS, STUDIES = 120, 120
SECOND = {"name": "few_shot"}


def table(greedy, **columns):
    greedy = np.asarray(greedy, dtype=float)
    made = pd.DataFrame({"reference_steps": 1, "samples": 0, "right": 0, "maj@1": greedy, **columns})
    made.index = pd.Index([f"q{number:03}" for number in range(len(made))], name="problem_id")
    return made


def run(seed, start, end, second=()):
    evaluations = (Evaluation("init", True, 0, start), Evaluation("final", False, 10, end))
    config = {"seed": seed, "model": {"parameters": 1}, "eval": {"split": "test", "second_prompt": SECOND}}
    result = {
        "config": config,
        "second_prompt": {"prompt": "few_shot"},
        "training_rollouts": 10,
        "seconds": {"total": 1.0},
        "tokens": {},
    }
    return StudyRun(Path(f"run-{seed}"), result, evaluations, {}, dict(zip(("init", "final"), second, strict=False)))


def arm(*runs):
    return Arm("ei", "sparse", "scratch", "tiny", "", runs)


def compared(*arms):
    return Comparison("made", 0, {}, arms)


def drawn(generator, found, right):
    there = generator.random(QUESTIONS) < found
    return table(there & (generator.random(QUESTIONS) < right), **{ANSWERED: there.astype(float)})


def study(generator, found, right):
    return arm(*(run(seed, *(drawn(generator, *end) for end in zip(found, right, strict=True))) for seed in range(3)))


def test_a_gain_of_form_is_named_and_one_of_answers_is_not():
    generator = np.random.default_rng(0)
    form, answers = study(generator, (0.4, 0.95), (0.5, 0.5)), study(generator, (0.95, 0.95), (0.2, 0.6))
    (line,) = gain_lines(compared(form, answers))
    assert line.startswith("EI, sparse, scratch, tiny: most of its gain of maj@1, +0.")
    assert "is answers found, not answers right" in line
    assert gain_split(answers).found_more.high < 0


@pytest.mark.parametrize(("found", "right"), [((0.6, 0.6), (0.4, 0.4)), ((0.5, 0.7), (0.5, 0.7))])
def test_where_form_is_no_more_than_half_it_is_seldom_named(found, right):
    generator = np.random.default_rng(1)
    named = sum(bool(gain_lines(compared(study(generator, found, right)))) for _ in range(STUDIES))
    assert named / STUDIES <= 0.05


def test_a_start_that_hardly_answers_is_said_to_leave_its_gain_unsplit():
    ends = table(np.zeros(100), **{ANSWERED: 0.0}), table(np.ones(100), **{ANSWERED: 1.0})
    nothing = arm(run(0, *ends), run(1, *ends))
    (line,) = gain_lines(compared(nothing))
    assert "an answer was found in 0.000 of its solutions at the start and in 1.000 at the end" in line
    assert gain_lines(compared(arm(run(0, table(np.zeros(9)), table(np.ones(9)))))) == []  # nobody knows


def prompted(generator, trained, second, seeds=3):
    hard = generator.random(QUESTIONS)

    def asked(accuracy):
        return table(hard + 0.1 * generator.standard_normal(QUESTIONS) < accuracy)

    return arm(*(run(seed, *map(asked, trained), tuple(map(asked, second))) for seed in range(seeds)))


def test_a_gain_under_the_training_prompt_only_is_named():
    generator = np.random.default_rng(2)
    lines = gain_lines(compared(prompted(generator, (0.3, 0.7), (0.3, 0.3))))
    assert len(lines) == 1
    assert "is shown to gain under its training prompt only: maj@1 +0." in lines[0]
    assert "under prompt=few_shot" in lines[0]
    assert gain_lines(compared(prompted(generator, (0.3, 0.7), (0.2, 0.6)))) == []


def test_a_start_that_is_better_under_the_second_prompt_is_named_with_what_is_gained_over_it():
    generator = np.random.default_rng(3)
    lines = gain_lines(compared(prompted(generator, (0.1, 0.6), (0.55, 0.55))))
    assert len(lines) == 2
    assert "its start is better under prompt=few_shot, maj@1 0.5" in lines[1]
    assert "over that start it gains +0." in lines[1]


@pytest.mark.parametrize("end", [0.4, 0.5])
def test_equal_gains_under_both_prompts_are_seldom_told_apart(end):
    generator = np.random.default_rng(4)
    named = sum(bool(gain_lines(compared(prompted(generator, (0.4, end), (0.4, end))))) for _ in range(STUDIES))
    assert named / STUDIES <= 0.05


def test_prompts_are_compared_on_the_questions_that_both_asked():
    generator = np.random.default_rng(5)
    made = prompted(generator, (0.3, 0.7), (0.3, 0.7), seeds=1)
    shorter = {name: item.iloc[:50] for name, item in made.runs[0].second_prompt.items()}
    both = two_prompts(arm(replace(made.runs[0], second_prompt=shorter)))
    assert both.trained.problems == both.second.problems == 50
    start, end = (made.runs[0].table(name)["maj@1"].iloc[:50] for name in ("init", "final"))
    assert both.trained.value == pytest.approx((end - start).mean())
    assert both.excess.value == pytest.approx(both.trained.value - both.second.value)


def test_what_was_not_measured_is_not_made_up():
    generator = np.random.default_rng(6)
    made = prompted(generator, (0.3, 0.7), (0.3, 0.7))
    assert two_prompts(arm(*(replace(one, second_prompt={}) for one in made.runs))) is None
    start = replace(made.runs[0], second_prompt={"init": made.runs[0].second_prompt["init"]})
    assert two_prompts(arm(start)) is None
    assert two_prompts(arm(start, *made.runs[1:])).trained.seeds == 2
    assert gain_split(made) is None  # answers found were not counted
    assert arm_coverage(made) is None


def sampled(generator, chances, samples=8):
    return table(chances > 0.5, samples=samples, right=generator.binomial(samples, chances))


def test_one_end_that_was_sampled_is_not_compared_and_named():
    generator = np.random.default_rng(7)
    chances = generator.random(QUESTIONS)
    both = arm(*(run(seed, sampled(generator, chances), sampled(generator, chances)) for seed in (0, 1)))
    assert arm_coverage(both).samples == 8
    assert coverage_lines((both,)) == []
    one = arm(run(0, table(chances > 0.5), sampled(generator, chances)))
    assert arm_coverage(one) is None
    assert coverage_lines((one,)) == [
        "EI, sparse, scratch, tiny: its start was not sampled, so which questions it has gained or lost is not known; "
        "eval.k samples both"
    ]
    assert coverage_lines((arm(run(0, table([1]), table([1]))),)) == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    study = tmp_path_factory.mktemp("gains") / "study"
    for seed in (0, 1):
        make_run(study, seed=seed, accuracies=(0.2, 0.8), second=(0.2, 0.3), ood=False)
    make_run(study, "ppo", accuracies=(0.2, 0.6), ood=False)
    return study


def test_tables_show_what_results_csv_holds(folder):
    read = read_study(folder)
    (comparison,), _ = comparisons(read.runs)
    rows = whole_table([comparison], readings(comparison.arms)[0], [])
    tables = gained_tables(comparison, rows)
    assert [item.title.partition(":")[0].partition(",")[0] for item in tables] == [
        "What was gained", "The gain under a second prompt", "pass@k from the start to the end of training",
        "Questions solved by a sample of the start"]  # fmt: skip
    chosen = rows[(rows["algo"] == "ei") & (rows["stage"] == "final")].set_index("metric")["value"]
    assert chosen["gain_by_answers_found"] + chosen["gain_by_answers_right"] == pytest.approx(chosen["gain_maj@1"])
    assert sum(chosen[chosen.index.str.startswith("solved_by_")][:4]) == pytest.approx(1)
    names = [row.name for row in tables[1].rows if row.cells]
    assert names == ["EI sparse"]  # of PPO it was not measured
    assert tables[1].rows[1].cells[0].text == "few_shot"


def test_a_run_of_an_older_version_has_its_answers_counted_from_its_rollouts(folder, tmp_path):
    run = make_run(tmp_path, accuracies=(0.2, 0.8))
    for path in (run / "evaluations").glob("test-*.parquet"):
        old = pd.read_parquet(path).drop(columns=ANSWERED)
        old.to_parquet(path)
    (old,) = read_study(tmp_path).runs
    assert old.final.table[ANSWERED].tolist() == [1.0] * len(old.final.table)
    assert gain_split(arm(old)) is not None
    for path in (run / "rollouts").glob("*-greedy.parquet"):
        path.unlink()
    (without,) = read_study(tmp_path).runs
    assert ANSWERED not in without.final.table
    assert gain_split(arm(without)) is None


def test_the_report_and_its_commands_name_the_second_prompt(folder, compose, monkeypatch):
    monkeypatch.setattr("rlreason.study.report.draw_all", lambda *_: [])
    write_report(read_study(folder), compose)
    for name in ("report.md", "report.html"):
        text = (folder / name).read_text(encoding="utf-8").replace("\\", "")
        assert "eval.second_prompt=few_shot" in text
        assert "The gain under a second prompt" in text
    config = json.loads(next(folder.glob("ei-*0/result.json")).read_text())["config"]
    assert "eval.second_prompt=few_shot" in settings(config, compose)
