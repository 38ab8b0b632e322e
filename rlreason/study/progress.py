"""How far a study is, read from its files while other processes work on it."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

from rlreason.errors import UserError
from rlreason.run.files import RESULT_FILE, read_result
from rlreason.run.folder import JOURNAL, held, read_journal, read_lines, training_rollouts
from rlreason.run.identity import NAMED_GROUPS
from rlreason.run.stage import CONTROL, Kind, measurement
from rlreason.run.store import unsealed
from rlreason.study.plan import Command, Job, read_plan

FINISHED, RUNNING, FAILED, WAITING = "finished", "running", "failed", "waiting"


@dataclass(frozen=True)
class JobProgress:
    """How far one job is.

    Args:
        job: What was planned.
        state: "finished", "running", "failed" or "waiting".
        stage: What it is doing, or why it failed.
        samples_seen: Training rollouts drawn so far.
        accuracy: Newest maj@1 by split, such as {"validation": 0.4, "test": 0.5}.
        seconds: Spent so far.
        changed: When its files last changed, in seconds since 1970; 0 where there are none.
    """

    job: Job
    state: str
    stage: str = ""
    samples_seen: int = 0
    accuracy: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    changed: float = 0.0


@dataclass(frozen=True)
class StudyProgress:
    """How far a study is.

    Args:
        name: The study's name.
        jobs: In the order of the plan, then those that are not in it.
        commands: The sweeps that planned them.
        seconds_left: An estimate; None where no job has finished yet.
    """

    name: str
    jobs: tuple[JobProgress, ...]
    commands: tuple[Command, ...]
    seconds_left: float | None

    def count(self, state: str) -> int:
        """How many jobs are in a state."""
        return sum(item.state == state for item in self.jobs)

    @property
    def ended(self) -> bool:
        """Whether no job is running or waiting."""
        return all(item.state in (FINISHED, FAILED) for item in self.jobs)


def study_progress(folder: Path, now: float) -> StudyProgress:
    """Read how far the study in `folder` is.

    Args:
        folder: `runs_dir/STUDY`.
        now: Seconds since 1970.

    Raises:
        UserError: There is no such study, or it has no job.
    """
    if not folder.is_dir():
        raise UserError(f"there is no study in {folder}; start one with rlreason -m study={folder.name} ...")
    plan = read_plan(folder)
    planned = {job.name: job for job in plan.jobs}
    jobs = {**planned, **{job.name: job for job in _not_planned(folder, known=planned)}}
    if not jobs:
        raise UserError(f"the study in {folder} has no job; start some with rlreason -m study={folder.name} ...")
    found = tuple(job_progress(folder / name, job, now) for name, job in jobs.items())
    return StudyProgress(folder.name, found, plan.commands, seconds_left(found))


def job_progress(folder: Path, job: Job, now: float) -> JobProgress:
    """Read how far the job is whose run folder is `folder`."""
    if read_result(folder) is not None:
        return _finished(folder, job, (folder / RESULT_FILE).stat().st_mtime_ns)
    records = read_journal(folder)
    seconds = sum(record["seconds"].get("total", 0.0) for record in records)
    changed = _changed(folder / JOURNAL)
    if held(folder):
        state, stage = RUNNING, current_stage(folder, records)
        seconds += max(0.0, now - changed) if records else 0.0
    elif (folder / "failure.txt").exists():
        state, stage = FAILED, (folder / "failure.txt").read_text(encoding="utf-8").partition("\n")[0]
    else:
        state, stage = WAITING, current_stage(folder, records) if records else ""
    return JobProgress(job, state, stage, training_rollouts(records), _accuracy(folder), seconds, changed)


def current_stage(folder: Path, records: Sequence[dict[str, Any]]) -> str:
    """What the process that works in a run folder is doing, as far as its files show."""
    parts = unsealed(folder / "rollouts")
    if parts:
        return f"sampling {parts[max(parts, key=_changed)]}"
    training = sorted((folder / "training").glob("train-*"), key=_changed)
    if training:
        return f"working on {training[-1].name}"
    done = [record["stage"] for record in records if record["kind"] != Kind.LOG]
    return f"after {done[-1]}" if done else "starting"


def seconds_left(jobs: Sequence[JobProgress]) -> float | None:
    """An estimate of the time until all jobs have finished, with as many at once as there are now.

    A job is expected to take as long as those finished took, on average: of its algorithm and model if there are any,
    else of its algorithm, else all. None where none has finished.
    """
    finished = [item for item in jobs if item.state == FINISHED]
    if not finished:
        return None
    left = 0.0
    for item in jobs:
        if item.state in (RUNNING, WAITING):
            likest = max(_likeness(item.job, other.job) for other in finished)
            expected = mean(other.seconds for other in finished if _likeness(item.job, other.job) == likest)
            left += max(0.0, expected - item.seconds)
    return left / max(1, sum(item.state == RUNNING for item in jobs))


def _likeness(one: Job, other: Job) -> int:
    """2 for the same algorithm and model, 1 for the same algorithm, else 0."""
    if one.choices.get("algo") != other.choices.get("algo"):
        return 0
    return 2 if one.choices.get("model") == other.choices.get("model") else 1


@cache
def _finished_facts(folder: Path, changed_ns: int) -> tuple[float, int, tuple[tuple[str, float], ...]]:
    """Seconds, samples and accuracy of a finished run; read once, as they do not change."""
    del changed_ns
    records = read_journal(folder)
    try:
        seconds = float(json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))["seconds"]["total"])
    except (ValueError, KeyError, TypeError):
        seconds = sum(record["seconds"].get("total", 0.0) for record in records)
    return seconds, training_rollouts(records), tuple(_accuracy(folder).items())


def _finished(folder: Path, job: Job, changed_ns: int) -> JobProgress:
    seconds, samples, accuracy = _finished_facts(folder, changed_ns)
    return JobProgress(job, FINISHED, "", samples, dict(accuracy), seconds, changed_ns / 1e9)


def _accuracy(folder: Path) -> dict[str, float]:
    newest: dict[str, float] = {}
    for line in read_lines(folder / "metrics.jsonl"):
        for key, value in line.items():
            split, _, metric = key.rpartition("/")
            if metric == "maj@1" and split and line["stage"] != measurement(CONTROL):
                newest["validation" if split == "validation" else "test"] = value
    return newest


def _not_planned(folder: Path, known: Container[str]) -> Iterator[Job]:
    """Runs in the study's folder that no sweep has planned, such as those of a W&B agent."""
    for path in sorted(folder.glob("*/config.yaml")):
        if path.parent.name in known:
            continue
        try:
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
            choices = {group: config[group]["name"] for group in NAMED_GROUPS}
        except (OSError, yaml.YAMLError, KeyError, TypeError):
            choices = {}
        yield Job(path.parent.name, (), choices)


def _changed(path: Path) -> float:
    """When a file changed; 0 where it was removed since it was listed."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
