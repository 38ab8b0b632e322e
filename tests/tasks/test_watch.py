"""The view of a study: everything once without a terminal, until the end on one."""

import io
import json
from types import SimpleNamespace

import pytest
from rich.console import Console

from rlreason.errors import UserError
from rlreason.study.plan import Command, Job, add_to_plan
from rlreason.study.progress import JobProgress
from rlreason.tasks.watch import duration, most_telling, watch


def study(tmp_path, *finished):
    folder = tmp_path / "s"
    jobs = [Job(name, (), {"algo": "ei", "model": "tiny"}) for name in ("one", "two", "three")]
    add_to_plan(folder, jobs, Command("rlreason -m study=s seed=0,1,2", "now"))
    for name in finished:
        finish(folder / name)
    return SimpleNamespace(study="s", runs_dir=str(tmp_path), task=SimpleNamespace(name="watch"))


def finish(folder):
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps({"seconds": {"total": 90.0}}))
    metrics = {"stage": "evaluate-final", "samples_seen": 5, "test/maj@1": 0.625}
    (folder / "metrics.jsonl").write_text(json.dumps(metrics) + "\n")


def shown(config, **keywords):
    console = Console(file=io.StringIO(), width=120, **keywords)
    watch(config, console, refresh_seconds=0.01)
    return console.file.getvalue()


def test_without_a_terminal_it_prints_every_job_once_and_ends(tmp_path):
    text = shown(study(tmp_path, "one"))
    assert "s: 1 of 3 jobs finished, 2 waiting; 2 min of work done, about 3 min left" in text
    for word in ("one", "two", "three", "0.625", "2 min", "to go on: rlreason -m study=s seed=0,1,2"):
        assert word in text
    assert text.count("jobs finished") == 1


def test_on_a_terminal_it_follows_until_all_jobs_have_ended(tmp_path, monkeypatch):
    config = study(tmp_path, "one")
    left = ["two", "three"]
    monkeypatch.setattr("time.sleep", lambda seconds: finish(tmp_path / "s" / left.pop(0)))
    text = shown(config, force_terminal=True, height=40)
    assert left == []
    assert "3 of 3 jobs finished" in text


def test_a_low_terminal_shows_what_matters_most():
    def job(state, changed=0.0):
        return JobProgress(Job(f"{state}-{changed:.0f}"), state, changed=changed)

    jobs = (*(job("finished", number) for number in range(9)), job("failed"), job("running"), job("waiting"))
    names = [item.job.name for item in most_telling(jobs, 5)]
    assert names == ["running-0", "failed-0", "finished-8", "finished-7", "waiting-0"]


def test_a_study_must_be_named(tmp_path):
    config = study(tmp_path)
    config.study = None
    with pytest.raises(UserError, match=r"study=NAME; in .* there is s"):
        watch(config)


@pytest.mark.parametrize(("seconds", "text"), [(7, "7 s"), (120, "2 min"), (3900, "1 h 05 min")])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_command_starts_without_heavy_libraries_and_ends_by_itself(cold_rlreason, tmp_path):
    study(tmp_path, "one", "two", "three")
    done = cold_rlreason(tmp_path, "task=watch", "study=s", "runs_dir=.").check()
    assert "3 of 3 jobs finished" in done.output
    missing = cold_rlreason(tmp_path, "task=watch", "study=none", "runs_dir=.")
    assert missing.code == 2
    assert len(missing.output.strip().splitlines()) == 1
