"""Controls: an arm that gains no more than they do is named; equal means: what is left of a budget is shown."""

import json
from pathlib import Path

import pytest
from study.made import make_run

from rlreason.study.arms import Comparison, comparisons
from rlreason.study.budgets import budget_table
from rlreason.study.controls import controlled
from rlreason.study.findings import findings
from rlreason.study.folders import read_study
from rlreason.study.measures import whole_table
from rlreason.study.readings import readings
from rlreason.study.tables import Table

NONE, SOME, MUCH = (0.2, 0.2), (0.2, 0.3), (0.1, 1.0)


def compared(folder: Path) -> Comparison:
    (found,), _ = comparisons(read_study(folder).runs)
    return found


def budgets(folder: Path) -> Table:
    study = read_study(folder)
    found, _ = comparisons(study.runs)
    read, _ = readings([arm for item in found for arm in item.arms])
    return budget_table(found[0], whole_table(found, read, study.outcome_models))


@pytest.mark.parametrize("control", ["random", "format"])
def test_an_arm_is_named_where_a_control_gains_as_much_and_only_there(tmp_path: Path, control: str) -> None:
    for seed in (0, 1, 2):
        make_run(tmp_path, "ei", seed=seed, accuracies=NONE, ood=False, settings=())
        make_run(tmp_path, "ei", control, seed=seed, accuracies=NONE, ood=False)
        make_run(tmp_path, "grpo", seed=seed, accuracies=MUCH, ood=False)
        make_run(tmp_path, "grpo", control, seed=seed, accuracies=SOME, ood=False)
        make_run(tmp_path, "ppo", seed=seed, accuracies=NONE, ood=False)  # has no control beside it
    (line,) = controlled(compared(tmp_path))
    assert line.startswith(f"EI, sparse, scratch, tiny is not shown to gain more than its control EI, {control}")


def test_controls_are_no_settings_of_the_findings(tmp_path: Path) -> None:
    make_run(tmp_path, "ei", accuracies=NONE, ood=False)
    make_run(tmp_path, "ppo", accuracies=MUCH, ood=False)
    without = findings(compared(tmp_path))
    make_run(tmp_path, "ei", "random", accuracies=MUCH, ood=False)
    make_run(tmp_path, "ppo", "random", accuracies=NONE, ood=False)
    assert findings(compared(tmp_path)) == without


def test_what_an_arm_left_of_its_budget_is_shown_with_its_last_checkpoint(tmp_path: Path) -> None:
    make_run(tmp_path, "ei", accuracies=(0.2, 0.9), ood=False, settings=["budget=100"], last=0.0)
    make_run(tmp_path, "ppo", accuracies=(0.2, 0.4, 0.6), ood=False, settings=["budget=120"])
    make_run(tmp_path, "sft", accuracies=(0.2, 0.4), ood=False, settings=["budget=120"])
    rows = {row.name.split(", ")[2].split()[0]: [cell.text for cell in row.cells] for row in budgets(tmp_path).rows}
    assert rows["EI"][:4] == ["100", "60", "0", "40"]
    assert rows["EI"][5] == "0.000" != rows["EI"][4]
    assert rows["PPO"][:4] == ["120", "120", "0", "0"]
    assert rows["PPO"][4] == rows["PPO"][5]
    assert rows["SFT"][:4] == ["", "0", "0", ""]


def test_rollouts_of_the_outcome_reward_model_are_told_from_the_policys(tmp_path: Path) -> None:
    run = make_run(tmp_path, "rcrl", accuracies=(0.2, 0.4), ood=False, settings=["budget=100"])
    result = json.loads((run / "result.json").read_text())
    result |= {"training_rollouts": 100, "outcome_model_rollouts": 40}
    (run / "result.json").write_text(json.dumps(result))
    (row,) = budgets(tmp_path).rows
    assert [cell.text for cell in row.cells[:4]] == ["100", "100", "40", "0"]


def test_a_run_that_an_older_version_made_has_no_last_checkpoint_but_everything_else(tmp_path: Path) -> None:
    run = make_run(tmp_path, "ei", accuracies=(0.2, 0.4), ood=False)
    result = json.loads((run / "result.json").read_text())
    del result["last"]
    (run / "result.json").write_text(json.dumps(result))
    (row,) = budgets(tmp_path).rows
    assert row.cells[4].text and row.cells[5].text == ""
