"""Which combinations a sweep runs, what it plans, and how it counts what failed."""

import itertools
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace

import pytest

from rlreason.errors import Failed, UserError
from rlreason.jobs import Outcome
from rlreason.sweep import Planned, in_folders_of_their_own, raise_failures, run_all, skipped

GRID = {
    "algo": ("sft", "ei", "ppo", "grpo", "rcrl"),
    "reward": ("sparse", "dense", "orm"),
    "init": ("scratch", "sft"),
    "data": ("gsm8k", "svamp"),
}


def sections(choices):
    return {group: {"name": name} for group, name in choices.items()}


def kept(**fixed):
    combinations = [dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values())]
    chosen = [item for item in combinations if skipped(sections(item)) is None]
    return [item for item in chosen if all(item[key] == value for key, value in fixed.items())]


def test_algorithms_that_use_a_reward_meet_every_reward_and_start():
    for algorithm in ("ei", "ppo", "grpo"):
        assert len(kept(algo=algorithm, data="gsm8k")) == 6


def test_algorithms_that_do_not_use_a_reward_are_run_once_a_start():
    assert kept(algo="sft", data="gsm8k") == [{"algo": "sft", "reward": "sparse", "init": "scratch", "data": "gsm8k"}]
    assert [(item["reward"], item["init"]) for item in kept(algo="rcrl", data="gsm8k")] == [
        ("sparse", "scratch"),
        ("sparse", "sft"),
    ]


def test_without_worked_solutions_nothing_that_needs_them_is_run():
    found = kept(data="svamp")
    assert {(item["algo"], item["reward"]) for item in found} == {
        *((algorithm, reward) for algorithm in ("ei", "ppo", "grpo") for reward in ("sparse", "orm")),
        ("rcrl", "sparse"),
    }
    assert {item["init"] for item in found} == {"scratch"}


def test_a_reason_names_the_choice():
    reason = skipped(sections({"algo": "sft", "reward": "dense", "init": "scratch", "data": "gsm8k"}))
    assert "algo=sft" in reason
    assert "\n" not in reason


def test_one_line_names_what_failed_and_the_code_says_whose_fault_it_was():
    mistake = Outcome("a-seed0", "wrong\nvalue")
    crash = Outcome("b-seed0", "ValueError: x", crashed=True)
    raise_failures([Outcome("c-seed0")])
    with pytest.raises(Failed) as ending:
        raise_failures([Outcome("c-seed0"), mistake])
    assert ending.value.code == 2
    assert "1 of 2 jobs failed" in str(ending.value)
    assert "a-seed0 (wrong value)" in str(ending.value)
    with pytest.raises(Failed) as ending:
        raise_failures([mistake, crash])
    assert ending.value.code == 1


class Launcher:
    """Runs jobs like Hydra's; one of them kills its process and so takes the others of the pool with it."""

    def __init__(self, folders, fatal):
        self.folders = folders
        self.fatal = fatal
        self.launched = []

    def __call__(self, overrides):
        self.launched.append([item[0] for item in overrides])
        for (name,) in overrides:
            self.folders[name].mkdir(exist_ok=True)
            (self.folders[name] / "config.yaml").touch()
            if name in self.fatal:
                raise BrokenProcessPool
            (self.folders[name] / "result.json").touch()
        return [SimpleNamespace(return_value=Outcome(name)) for (name,) in overrides]


def test_a_killed_process_costs_only_its_own_job(tmp_path):
    folders = {name: tmp_path / name for name in ("first", "fatal", "last")}
    launcher = Launcher(folders, fatal={"fatal"})
    outcomes = run_all({folder: (name,) for name, folder in folders.items()}, launcher)
    assert {outcome.name: outcome.crashed for outcome in outcomes} == {"first": False, "fatal": True, "last": False}
    assert launcher.launched == [["first", "fatal", "last"], ["fatal"], ["first", "last"]]
    assert "killed" in (tmp_path / "fatal" / "failure.txt").read_text()


def test_a_process_that_dies_before_any_job_begins_ends_too(tmp_path):
    def launch(overrides):
        raise BrokenProcessPool

    outcomes = run_all({tmp_path / "a": ("a",), tmp_path / "b": ("b",)}, launch)
    assert [outcome.crashed for outcome in outcomes] == [True, True]


def planned(folder, *overrides, was_named=False):
    return Planned(Path("runs") / folder, overrides, was_named, None)


def test_jobs_whose_folders_would_have_one_name_get_folders_of_their_own_which_stay_theirs():
    jobs = [planned("round-1", f"model.path={place}/round-1") for place in ("a", "b")]
    first, second, alone = in_folders_of_their_own([*jobs, planned("other", "seed=1")])
    assert first.folder != second.folder
    assert first.folder.name.startswith("round-1-")
    assert first.overrides == ("model.path=a/round-1", f"name={first.folder.name}")
    assert alone == planned("other", "seed=1")
    reversed_order = in_folders_of_their_own(jobs[::-1])
    assert {job.folder: job.overrides for job in reversed_order} == {
        job.folder: job.overrides for job in (first, second)
    }


def test_a_job_that_is_asked_for_twice_runs_once():
    assert in_folders_of_their_own([planned("a", "seed=0"), planned("a", "seed=0")]) == [planned("a", "seed=0")]


def test_a_given_name_that_several_jobs_would_have_is_refused_and_both_are_named():
    jobs = [planned("fixed", f"seed={seed}", was_named=True) for seed in (0, 1)]
    with pytest.raises(UserError, match=r"runs/fixed would be the folder of 2 jobs \(seed=0; seed=1\)") as refusal:
        in_folders_of_their_own(jobs)
    assert "\n" not in str(refusal.value)
