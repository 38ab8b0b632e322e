"""What a study is to consist of: `study.json`, written when a sweep starts and added to by later ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import filelock

from rlreason.config.experiment import ExperimentConfig
from rlreason.errors import UserError
from rlreason.run.files import write_atomically

FILE = "study.json"


@dataclass(frozen=True)
class Job:
    """A run that a study is to have.

    Args:
        name: Of its run folder.
        overrides: What was set on the command line or by the sweep, such as "algo=ei".
        choices: The choice of every configuration group that names a run, such as {"algo": "ei"}.
    """

    name: str
    overrides: tuple[str, ...] = ()
    choices: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Command:
    """A command line that started a sweep.

    Args:
        command: As it was typed.
        time: When it was first started, such as "2026-01-31T12:00:00+00:00".
    """

    command: str
    time: str


@dataclass(frozen=True)
class Plan:
    """All that a study is to have.

    Args:
        jobs: In the order in which they were planned.
        commands: The sweeps that planned them.
    """

    jobs: tuple[Job, ...] = ()
    commands: tuple[Command, ...] = ()


def add_to_plan(folder: Path, jobs: Sequence[Job], command: Command) -> Plan:
    """Add the jobs of a sweep to the plan of the study in `folder`; a job that is planned already stays once.

    Raises:
        UserError: The folder cannot be written, or its plan cannot be read.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / ".plan.lock"):
            there = read_plan(folder)
            planned = {job.name: job for job in (*there.jobs, *jobs)}
            commands = {item.command: item for item in (command, *there.commands)}
            new = [item for item in commands.values() if item not in there.commands]
            plan = Plan(tuple(planned.values()), (*there.commands, *new))
            text = {"study": folder.name, **asdict(plan)}
            write_atomically(folder / FILE, json.dumps(text, indent=1) + "\n")
    except OSError as error:
        raise UserError(
            f"cannot write {folder / FILE}: {error.strerror}; free some space or set runs_dir=FOLDER"
        ) from error
    return plan


def read_plan(folder: Path) -> Plan:
    """The plan of the study in `folder`; an empty one where no sweep has written any.

    Raises:
        UserError: It is there and cannot be read.
    """
    path = folder / FILE
    if not path.exists():
        return Plan()
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        jobs = tuple(Job(job["name"], tuple(job["overrides"]), dict(job["choices"])) for job in plan["jobs"])
        return Plan(jobs, tuple(Command(**item) for item in plan["commands"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}); remove it and start the sweep again") from error


def study_folder(config: ExperimentConfig) -> Path:
    """The folder of the study that is named.

    Raises:
        UserError: None is.
    """
    if config.study is None:
        known = sorted(path.parent.name for path in Path(config.runs_dir).glob(f"*/{FILE}"))
        there = f"there {'is' if len(known) == 1 else 'are'} {', '.join(known)}" if known else "there is none yet"
        raise UserError(f"task={config.task.name} needs study=NAME; in {config.runs_dir} {there}")
    return Path(config.runs_dir) / config.study
