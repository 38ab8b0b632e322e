"""The run folder: the journal decides what is finished, and a folder belongs to one configuration."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlreason.errors import UserError
from rlreason.run.folder import Run, append_line, read_lines
from rlreason.run.identity import run_name
from rlreason.run.stage import orm_solutions, sampling_batch, sampling_round, shared

CONFIG = {"seed": 0, "algo": {"name": "ei", "rounds": 2}, "tracker": {"name": "none"}, "runs_dir": "a"}


def test_costs_add_up_over_processes(tmp_path):
    run = Run(tmp_path / "r", CONFIG)
    with run.timed("sample"):
        pass
    run.commit(sampling_round(1), tokens={"sample": 5}, rollouts=3)
    run.close()
    run = Run(tmp_path / "r", CONFIG)
    run.commit(sampling_round(2), tokens={"sample": 7}, rollouts=3)
    assert run.totals("tokens") == {"sample": 12}
    assert run.totals("seconds")["total"] >= run.totals("seconds")["sample"]
    assert run.journal["round-1"]["rollouts"] == 3
    run.close()


def test_a_stage_is_made_once_and_read_ever_after(tmp_path):
    made = []

    def make():
        made.append(1)
        return "made", {"rollouts": 5}

    for _ in range(2):
        run = Run(tmp_path / "r", CONFIG)
        found = [run.once(sampling_batch(3), make, lambda: "read") for _ in range(2)]
        run.close()
    assert (made, found) == ([1], ["read", "read"])
    assert (run.journal["batch-00003"]["kind"], run.journal["batch-00003"]["number"]) == ("rollouts", 3)


def test_training_rollouts_are_those_of_rounds_and_batches(tmp_path):
    run = Run(tmp_path / "r", CONFIG)
    for stage, count in ((sampling_round(1), 3), (sampling_batch(1), 4), (orm_solutions("training"), 100)):
        run.commit(stage, rollouts=count)
    run.close()
    assert run.training_rollouts == 7


@pytest.mark.parametrize(("teaches", "learned"), [(True, 107), (False, 7)])
def test_rollouts_of_an_outcome_reward_model_count_where_it_teaches(tmp_path, teaches, learned):
    run = Run(tmp_path / "r", CONFIG)
    run.commit(shared("orm"), orm_rollouts=100, orm_teaches=teaches)
    run.commit(sampling_round(1), rollouts=7)
    run.close()
    assert (run.training_rollouts, run.outcome_model_rollouts) == (learned, learned - 7)


def test_another_configuration_is_refused_and_named(tmp_path):
    Run(tmp_path / "r", CONFIG).close()
    with pytest.raises(UserError, match=r"algo.rounds=2 there, 3 asked for"):
        Run(tmp_path / "r", {**CONFIG, "algo": {"name": "ei", "rounds": 3}})


def test_what_does_not_decide_numbers_may_change(tmp_path):
    Run(tmp_path / "r", CONFIG).close()
    Run(tmp_path / "r", {**CONFIG, "tracker": {"name": "wandb"}, "runs_dir": "b"}).close()


def test_a_folder_in_use_is_refused(tmp_path):
    run = Run(tmp_path / "r", CONFIG)
    with pytest.raises(UserError, match="in use"):
        Run(tmp_path / "r", CONFIG)
    run.close()


def test_a_line_that_was_cut_off_is_dropped_and_the_next_one_is_whole(tmp_path):
    path = tmp_path / "journal.jsonl"
    append_line(path, {"stage": "a"})
    with path.open("a") as file:
        file.write('{"stage": "b", "sec')
    assert read_lines(path) == [{"stage": "a"}]
    append_line(path, {"stage": "c"})
    assert read_lines(path) == [{"stage": "a"}, {"stage": "c"}]


def test_an_unwritable_place_is_one_clear_sentence(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="cannot write to"):
        Run(tmp_path / "file" / "r", CONFIG)


def test_a_result_is_read_back(tmp_path):
    run = Run(tmp_path / "r", CONFIG)
    assert run.result() is None
    run.finish({"name": "r"})
    assert run.result() == {"name": "r"}
    assert json.loads((tmp_path / "r" / "result.json").read_text()) == {"name": "r"}
    run.close()


@given(st.dictionaries(st.text(min_size=1, max_size=30), st.text(max_size=60), max_size=6))
def test_names_are_safe_as_folders(changes):
    name = run_name({"algo": "ei", "model": "tiny"}, changes, 3)
    assert name.startswith("ei-tiny")
    assert name.endswith("-seed3")
    assert len(name) <= 200
    assert "/" not in name
    assert not name.startswith(".")
