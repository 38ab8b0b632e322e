"""The state of every job, read from folders like those that runs leave."""

import json

import filelock
import pytest

from rlreason.errors import UserError
from rlreason.run import stage as stages
from rlreason.study.plan import Command, Job, add_to_plan
from rlreason.study.progress import JobProgress, job_progress, seconds_left, study_progress

JOB = Job("ei-seed0", ("algo=ei",), {"algo": "ei", "model": "tiny"})


def write_lines(path, *records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def begun(folder, *done):
    """A run folder with a journal of stages that took 10 seconds and drew 100 rollouts each."""
    facts = {"seconds": {"total": 10.0}, "tokens": {}, "rollouts": 100}
    records = [{"stage": stage.name, "kind": stage.kind, "number": stage.number, **facts} for stage in done]
    write_lines(folder / "journal.jsonl", *records)
    return folder


VALIDATION, ROUND = stages.selection("init", 0), stages.sampling_round(1)


def finished(folder, seconds):
    begun(folder, VALIDATION, ROUND, stages.RESULT)
    (folder / "result.json").write_text(json.dumps({"seconds": {"total": seconds}}))


def test_a_job_without_a_folder_is_waiting(tmp_path):
    assert job_progress(tmp_path / "none", JOB, now=0.0) == JobProgress(JOB, "waiting")


def test_a_folder_that_nobody_holds_is_waiting_and_keeps_what_was_spent(tmp_path):
    found = job_progress(begun(tmp_path, stages.greedy("test", "init"), ROUND), JOB, now=1e12)
    assert (found.state, found.stage, found.samples_seen, found.seconds) == ("waiting", "after round-1", 100, 20.0)


def test_a_held_folder_is_running_and_its_clock_goes_on(tmp_path):
    begun(tmp_path, VALIDATION, ROUND, stages.log_of("sampled-round-1"))
    since = (tmp_path / "journal.jsonl").stat().st_mtime
    with filelock.FileLock(tmp_path / ".lock"):
        found = job_progress(tmp_path, JOB, now=since + 7)
    assert (found.state, found.stage) == ("running", "after round-1")
    assert found.seconds == pytest.approx(37)


def test_looking_does_not_take_the_lock(tmp_path):
    begun(tmp_path, ROUND)
    (tmp_path / ".lock").touch()
    job_progress(tmp_path, JOB, now=0.0)
    lock = filelock.FileLock(tmp_path / ".lock")
    lock.acquire(timeout=0)
    lock.release()


def test_what_is_being_sampled_or_trained_is_the_stage(tmp_path):
    begun(tmp_path, ROUND)
    (tmp_path / "training" / "train-round-1").mkdir(parents=True)
    with filelock.FileLock(tmp_path / ".lock"):
        assert job_progress(tmp_path, JOB, now=0.0).stage == "working on train-round-1"
        (tmp_path / "rollouts").mkdir()
        (tmp_path / "rollouts" / "test-final-sampled.part-0.arrows").touch()
        assert job_progress(tmp_path, JOB, now=0.0).stage == "sampling test-final-sampled"


def test_a_failure_is_shown_until_someone_tries_again(tmp_path):
    begun(tmp_path, ROUND)
    (tmp_path / "failure.txt").write_text("ValueError: broken\n\nTraceback\n")
    found = job_progress(tmp_path, JOB, now=0.0)
    assert (found.state, found.stage) == ("failed", "ValueError: broken")
    with filelock.FileLock(tmp_path / ".lock"):
        assert job_progress(tmp_path, JOB, now=0.0).state == "running"
    finished(tmp_path, 30.0)
    assert job_progress(tmp_path, JOB, now=0.0).state == "finished"


def test_the_newest_accuracy_counts_and_the_control_experiment_does_not(tmp_path):
    begun(tmp_path, ROUND)
    write_lines(
        tmp_path / "metrics.jsonl",
        {"stage": "evaluate-init", "samples_seen": 0, "validation/maj@1": 0.1, "test/maj@1": 0.2},
        {"stage": "sampled-round-1", "samples_seen": 9, "train/samples_right": 0.9},
        {"stage": "evaluate-round-1", "samples_seen": 9, "validation/maj@1": 0.3, "ood/maj@1": 0.4},
        {"stage": "evaluate-asked-for-bad", "samples_seen": 9, "test/maj@1": 0.01},
    )
    assert job_progress(tmp_path, JOB, now=0.0).accuracy == {"validation": 0.3, "test": 0.4}


def test_a_run_of_an_older_version_is_one_line(tmp_path):
    write_lines(tmp_path / "journal.jsonl", {"stage": "round-1", "seconds": {"total": 10.0}, "tokens": {}})
    with pytest.raises(UserError, match="made by an older version"):
        job_progress(tmp_path, JOB, now=0.0)


def test_a_study_is_its_plan_and_the_runs_beside_it(tmp_path):
    add_to_plan(tmp_path, [JOB, Job("ppo-seed0", (), {"algo": "ppo"})], Command("rlreason -m", "now"))
    finished(tmp_path / "ei-seed0", 60.0)
    extra = begun(tmp_path / "agent-seed0", ROUND)
    choices = {group: {"name": "x"} for group in ("model", "data", "init", "reward")}
    (extra / "config.yaml").write_text(json.dumps({"algo": {"name": "sft"}, **choices}))
    progress = study_progress(tmp_path, now=0.0)
    assert [(item.job.name, item.state) for item in progress.jobs] == [
        ("ei-seed0", "finished"),
        ("ppo-seed0", "waiting"),
        ("agent-seed0", "waiting"),
    ]
    assert progress.jobs[2].job.choices["algo"] == "sft"
    assert progress.count("waiting") == 2
    assert not progress.ended


def test_a_finished_and_a_failed_job_end_a_study(tmp_path):
    add_to_plan(tmp_path, [JOB, Job("ppo-seed0")], Command("rlreason -m", "now"))
    finished(tmp_path / "ei-seed0", 60.0)
    (tmp_path / "ppo-seed0").mkdir()
    (tmp_path / "ppo-seed0" / "failure.txt").write_text("no\n")
    assert study_progress(tmp_path, now=0.0).ended


@pytest.mark.parametrize("exists", [False, True])
def test_a_missing_or_empty_study_is_one_line(tmp_path, exists):
    folder = tmp_path / "s"
    if exists:
        folder.mkdir()
    with pytest.raises(UserError, match="rlreason -m study=s"):
        study_progress(folder, now=0.0)


def jobs(*described):
    return [
        JobProgress(Job(str(number), (), {"algo": algo, "model": model}), state, seconds=seconds)
        for number, (algo, model, state, seconds) in enumerate(described)
    ]


def test_the_time_left_follows_jobs_of_the_same_kind():
    done = [("ei", "tiny", "finished", 100.0), ("ei", "small", "finished", 300.0), ("ppo", "tiny", "finished", 50.0)]
    assert seconds_left(jobs(*done, ("ei", "tiny", "waiting", 0.0))) == 100
    assert seconds_left(jobs(*done, ("ei", "huge", "waiting", 0.0))) == 200
    assert seconds_left(jobs(*done, ("sft", "tiny", "waiting", 0.0))) == 150
    assert seconds_left(jobs(*done, ("ei", "tiny", "running", 30.0), ("ei", "small", "running", 400.0))) == 35
    assert seconds_left(jobs(*done, ("ei", "tiny", "failed", 0.0))) == 0
    assert seconds_left(jobs(("ei", "tiny", "running", 30.0))) is None
