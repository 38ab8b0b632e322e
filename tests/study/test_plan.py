"""The plan of a study: written whole, merged by run folder, readable by later versions of the same command."""

import json

import pytest

from rlreason.errors import UserError
from rlreason.study.plan import Command, Job, add_to_plan, read_plan

FIRST = Job("ei-seed0", ("algo=ei", "seed=0"), {"algo": "ei"})
SECOND = Job("ppo-seed0", ("algo=ppo", "seed=0"), {"algo": "ppo"})
COMMAND = Command("rlreason -m study=s algo=ei", "2026-01-01T00:00:00+00:00")
OTHER = Command("rlreason -m study=s algo=ppo", "2026-01-02T00:00:00+00:00")


def test_a_second_sweep_adds_its_jobs_and_its_command(tmp_path):
    folder = tmp_path / "s"
    add_to_plan(folder, [FIRST], COMMAND)
    plan = add_to_plan(folder, [FIRST, SECOND], OTHER)
    assert plan.jobs == (FIRST, SECOND)
    assert plan.commands == (COMMAND, OTHER)
    assert read_plan(folder) == plan
    assert json.loads((folder / "study.json").read_text())["study"] == "s"


def test_the_same_command_again_changes_nothing(tmp_path):
    add_to_plan(tmp_path, [FIRST], COMMAND)
    before = (tmp_path / "study.json").read_bytes()
    add_to_plan(tmp_path, [FIRST], Command(COMMAND.command, "2027-01-01T00:00:00+00:00"))
    assert (tmp_path / "study.json").read_bytes() == before


def test_without_a_plan_there_are_no_jobs(tmp_path):
    assert read_plan(tmp_path).jobs == ()


@pytest.mark.parametrize("text", ["{", "[]", '{"jobs": [{"name": "a"}], "commands": []}'])
def test_a_plan_that_cannot_be_read_is_a_mistake_that_names_it(tmp_path, text):
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(UserError, match="cannot be read"):
        read_plan(tmp_path)


def test_a_plan_that_cannot_be_written_is_a_mistake(tmp_path):
    (tmp_path / "s").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="cannot write"):
        add_to_plan(tmp_path / "s", [FIRST], COMMAND)
