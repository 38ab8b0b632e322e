"""The checking task: every path of the program once on the machine at hand, with a small run of each kind."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlreason.checking.step import FAILED, OK, SKIPPED, Found, Place, Row, Step
from rlreason.checking.steps import SMALL, STEPS
from rlreason.checking.worker import Ended, Worker
from rlreason.config.base import require
from rlreason.config.compose import from_plain, plain_values
from rlreason.config.experiment import ExperimentConfig
from rlreason.config.sections import CheckConfig
from rlreason.engines.start import choose_engine
from rlreason.errors import INTERRUPTED, Failed
from rlreason.planning.hardware import GIB, this_machine
from rlreason.run.files import write_atomically
from rlreason.study.measurements import FOLDER

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

OWN_CHOICES = ("algo", "reward", "init", "orm", "eval", "experiment", "budget", "name", "study", "tuned")
UNKNOWN: dict[str, Any] = {"versions": {}, "commit": None, "hardware": {"gpus": []}}


@dataclass
class Record:
    """What has been checked so far, in a file that is whole at any moment.

    Args:
        path: Of the file.
        command: What checks again.
        made: When it began.
        settings: Model, data, engine.
        titles: What is to be checked.
        rows: What was.
        environment: Versions, commit and hardware.
        in_use: Bytes in use after each step that did not fail: of the first GPU, or of main memory without one.
    """

    path: Path
    command: str
    made: str
    settings: Mapping[str, Any]
    titles: Sequence[str]
    rows: list[Row] = field(default_factory=list)
    environment: Mapping[str, Any] = field(default_factory=lambda: dict(UNKNOWN))
    in_use: dict[str, float] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Keep a row, and write the file anew."""
        self.rows.append(row)
        self.write()

    def titled(self, verdict: str) -> list[str]:
        """The titles of the rows with a verdict."""
        return [row.title for row in self.rows if row.verdict == verdict]

    def write(self) -> None:
        """The file, of the shape of a measurement, with all rows besides."""
        done = {row.title for row in self.rows}
        figures = {row.title: row.found.further for row in self.rows}
        gaps = [row.found.gap for row in self.rows if row.found.gap is not None]
        further = {
            "sampling_tokens_per_second": figures.get("engine: sample", {}).get("tokens_per_second"),
            "training_tokens_per_second": figures.get("training-speed", {}).get("tokens_per_second"),
            "mfu": figures.get("training-speed", {}).get("mfu"),
            "largest_sampler_gap": max(gaps, default=None),
            "failed": "; ".join(self.titled(FAILED)) or None,
            "skipped": "; ".join(self.titled(SKIPPED)) or None,
            "not_reached": "; ".join(title for title in self.titles if title not in done) or None,
        }
        record = {
            "measurement": "check",
            "what": "check of every path",
            "value": len(self.titled(OK)),
            "unit": f"of {len(self.titles)} ok",
            "further": further,
            "settings": self.settings,
            "command": self.command,
            "made": self.made,
            **self.environment,
            "gib_in_use_after": {name: gib(amount) for name, amount in self.in_use.items()},
            "rows": [plain(row) for row in self.rows],
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, json.dumps(record, indent=1) + "\n")


def check(
    config: ExperimentConfig,
    arguments: Sequence[str],
    before: Sequence[str],
    conf: Path,
    console: Console,
    steps: Sequence[Step] = STEPS,
) -> list[Row]:
    """Do every step that this machine can do, show what became of each, and leave a file with it.

    Args:
        config: Of the command.
        arguments: Its overrides, of which every step has those that are not its own.
        before: Arguments that stand before them, such as a folder of choices.
        conf: Folder of configuration files.
        console: Where to print.
        steps: What to do.

    Raises:
        UserError: A step is unknown, or a setting cannot work in one.
        Failed: A step has failed; all others were done.
    """
    wanted = config.task
    assert isinstance(wanted, CheckConfig)
    chosen = [step for step in steps if wanted.steps is None or step.name in (steps[0].name, *wanted.steps)]
    known = [step.name for step in steps]
    for name in wanted.steps or ():
        require(name in known, f"task.steps has {name!r}, which is no step; choose from: {', '.join(known)}")
    given = {key_of(item): item for item in arguments if not key_of(item).startswith(("task", "hydra"))}
    for key in given:
        require(key.split(".")[0] not in OWN_CHOICES, f"task=check chooses {key.split('.')[0]} itself; leave {key} out")
    gpus, engine = this_machine().gpus, choose_engine(config.engine.name)
    made = time.strftime("%Y%m%d-%H%M%S")
    root = (Path(config.runs_dir) / f"check-{config.model.name}-{made}").resolve()
    skipped = {step.name: reason for step in chosen if (reason := cannot(step, gpus, engine)) is not None}
    places = {step.name: place_of(step, given, before, root, conf) for step in chosen if step.name not in skipped}
    record = Record(
        Path(config.runs_dir) / FOLDER / f"{root.name}.json",
        shlex.join(["rlreason", *before, *arguments]),
        made,
        {"model": config.model.name, "data": config.data.name, "engine": engine, "steps": len(chosen)},
        [title for step in chosen for title in step.titles()],
    )
    root.mkdir(parents=True, exist_ok=True)
    log = root / "check.log"
    try:
        do_all(chosen, places, skipped, record, log, wanted.step_seconds, console)
    except KeyboardInterrupt:
        raise Failed(f"interrupted; what was checked until then is in {record.path}", INTERRUPTED) from None
    finally:
        if record.rows:
            console.print(table(record.rows))
        console.print(f"everything is in {record.path}, and what the steps printed in {log}", soft_wrap=True)
    if failed := record.titled(FAILED):
        raise Failed(f"{len(failed)} of {len(record.rows)} failed: {', '.join(failed)}; {log} has the reasons in full")
    return record.rows


def do_all(
    chosen: Sequence[Step],
    places: Mapping[str, Place],
    skipped: Mapping[str, str],
    record: Record,
    log: Path,
    seconds: float,
    console: Console,
) -> None:
    """Every step in its turn; a new process after one that failed."""
    worker: Worker | None = None
    try:
        for number, step in enumerate(chosen):
            reason = skipped.get(step.name)
            if step.after is not None and step.after not in record.titled(OK):
                reason = f"{step.after} has not been done"
            if reason is not None:
                for title in step.titles():
                    show(record, Row(title, SKIPPED, reason), console)
                continue
            worker = worker or Worker(log)
            with console.status(step.name):
                failed = do(step, places[step.name], worker, record, seconds, console)
            if failed:
                worker.end()
                worker = None
            remove_unneeded(chosen[: number + 1], chosen[number + 1 :], places)
    finally:
        if worker is not None:
            worker.end()
        remove_unneeded(chosen, (), places)
        shutil.rmtree(log.parent / "cache", ignore_errors=True)


def do(step: Step, place: Place, worker: Worker, record: Record, seconds: float, console: Console) -> bool:
    """One step; whether it failed."""
    titles = step.titles()
    for reached, answer in enumerate(worker.do(step, place, seconds), 1):
        if isinstance(answer, Ended):
            record.in_use[step.name] = answer.in_use
            record.write()
            return False
        record.environment = answer.found.environment or record.environment
        show(record, answer, console)
        if answer.verdict != OK:
            for title in titles[reached:]:
                show(record, Row(title, SKIPPED, f"{answer.title} has not come to its end"), console)
            return answer.verdict == FAILED
    return False


def show(record: Record, row: Row, console: Console) -> None:
    """Keep a row and print it in one line."""
    record.add(row)
    says = f": {row.says}" if row.says else f", {row.seconds:.1f} s"
    console.print(f"{row.title} {row.verdict}{says}", markup=False, highlight=False, soft_wrap=True)


def place_of(step: Step, given: Mapping[str, str], before: Sequence[str], root: Path, conf: Path) -> Place:
    """Where a step works, with its configuration composed and checked.

    Raises:
        UserError: A setting cannot work.
    """
    from hydra import compose

    small = {key_of(item): item for item in SMALL}
    own = {key_of(item): item for item in step.overrides}
    folders = {"runs_dir": f"runs_dir={root}", "name": f"name={step.name}"}
    overrides = list(({"task": "task=train"} | small | dict(given) | own | folders).values())
    plain = plain_values(compose("config", overrides))
    from_plain(plain)
    return Place(plain, (*before, *overrides), root / (step.after or step.name), conf)


def key_of(override: str) -> str:
    """What an override sets, such as "algo.samples"."""
    return override.lstrip("+").partition("=")[0]


def cannot(step: Step, gpus: int, engine: str) -> str | None:
    """Why this machine cannot do a step; None where it can."""
    if gpus < step.gpus:
        return f"{step.gpus} GPUs are needed, and there {'is' if gpus == 1 else 'are'} {gpus or 'none'}"
    if step.engine not in (None, engine):
        return f"engine={step.engine} alone does it, and the engine is {engine}"
    return None


def remove_unneeded(done: Sequence[Step], to_come: Sequence[Step], places: Mapping[str, Place]) -> None:
    """Remove the weights of steps that no later one reads: a full disk would fail those to come."""
    read = {step.after for step in to_come}
    for step in done:
        if step.name in places and step.name not in read:
            folder = places[step.name].folder
            for name in ("checkpoints", "other", "grown", "adapters", "export"):
                shutil.rmtree(folder / name, ignore_errors=True)


def plain(row: Row) -> dict[str, Any]:
    """A row for the file; memory in GiB."""
    found: Found = row.found
    return {
        "what": row.title,
        "verdict": row.verdict,
        "says": row.says or None,
        "seconds": round(row.seconds, 2),
        "gib_planned": gib(found.planned),
        "gib_held": gib(found.held),
        "gap": found.gap,
        "further": dict(found.further),
        "traceback": row.details or None,
    }


def gib(amount: float | None) -> float | None:
    """Bytes in GiB."""
    return None if amount is None else round(amount / GIB, 3)


def table(rows: Sequence[Row]) -> Table:
    """What became of everything."""
    from rich.table import Table
    from rich.text import Text

    made = Table(title="check of every path", title_justify="left")
    for heading in ("what", "verdict"):
        made.add_column(heading, overflow="fold")
    for heading in ("seconds", "GiB planned", "GiB held", "gap, nats", "tokens/s"):
        made.add_column(heading, justify="right", no_wrap=True)
    styles = {OK: "green", FAILED: "bold red", SKIPPED: "dim"}
    for row in rows:
        found = row.found
        speed = found.further.get("tokens_per_second")
        cells = [
            f"{row.seconds:.1f}" if row.verdict != SKIPPED else "",
            "" if found.planned is None else f"{found.planned / GIB:.2f}",
            "" if found.held is None else f"{found.held / GIB:.2f}",
            "" if found.gap is None else f"{found.gap:.4f}",
            "" if speed is None else f"{speed:,.0f}",
        ]
        verdict = f"{row.verdict}: {row.says}" if row.says else row.verdict
        made.add_row(Text(row.title), Text(verdict, styles[row.verdict]), *cells)
    return made
