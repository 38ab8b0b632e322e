"""One job, alone or as part of a sweep: its folder, its task, and what became of it."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rlreason.distributed import ranks
from rlreason.errors import USER_ERROR, Failed, FolderRefused, UserError, in_one_line

if TYPE_CHECKING:
    from rich.console import Console

    from rlreason.config.experiment import ExperimentConfig

DISK_TROUBLE = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT)


@dataclass
class Outcome:
    """What became of a job.

    Args:
        name: Of its run folder.
        error: What went wrong, in one line; None where nothing did.
        crashed: Whether that was no mistake of the user's.
    """

    name: str
    error: str | None = None
    crashed: bool = False


def run_job(composed: Any) -> Outcome:
    """One experiment, as Hydra composed it: convert, check, then run its task or show what it ended with.

    Returns:
        What became of it, in a sweep.

    Raises:
        SystemExit: A mistake of the user's, in a job that is no part of a sweep; it has been shown.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from rich.console import Console

    from rlreason.config.compose import from_plain, own_parts, plain_values
    from rlreason.distributed import launch
    from rlreason.distributed.placement import take_slot

    hydra_config = HydraConfig.get()
    folder = run_folder(composed, hydra_config)
    in_sweep = hydra_config.mode == RunMode.MULTIRUN
    with contained(folder, in_sweep, bool(composed.study)) as outcome:
        plain = plain_values(composed)
        config = from_plain(plain)
        if not launch.started_here():
            for line in taken_from_runs(composed, plain):
                print(f"rlreason: {line}", file=sys.stderr, flush=True)
        launch.check(config)
        if ranks.size() > 1:
            launch.prepare()
            if ranks.rank() > 0:
                ranks.serve()
                return outcome
        if config.budget is not None:
            plain["algo"].update(asdict(config.algo))
        if parts := own_parts(config):
            plain["sources"] = {part.path: part.digest for part in parts}
        console = Console() if sys.stdout.isatty() else Console(width=120)
        if config.task.name == "check":
            from rlreason.tasks.check import check

            check(config, hydra_config.overrides.task, own_config_folder(hydra_config), config_folder(), console)
            return outcome
        if done_without_a_run(config, folder, hydra_config.overrides.task, console):
            return outcome
        from rlreason.display import Display
        from rlreason.engines.start import choose_engine
        from rlreason.lab.contents import contents
        from rlreason.planning.installation import check_installation

        plain["contents"] = contents(config)
        beside_others = take_slot() if ranks.size() == 1 else False
        # The lines of jobs that run side by side would mix; each says how it ended, and task=watch shows the rest.
        display = Display(Console(quiet=True) if beside_others else console)
        result = finished_result(folder, plain)
        finished_earlier = result is not None
        if in_sweep and not beside_others and not finished_earlier:
            console.rule(folder.name)
        if result is None:
            check_installation(choose_engine(config.engine.name))
        if result is None and launch.wanted(config):
            arguments = [*own_config_folder(hydra_config), *hydra_config.overrides.task]
            launch.start(config.launcher, config.nproc, arguments)
            return outcome
        with ranks.leading():
            if result is None:
                from rlreason.tasks.making import do

                result = do(config, plain, folder, display)
        if in_sweep and (finished_earlier or beside_others):
            Display(console).brief(result, finished_earlier)
        else:
            display.table(result)
            display.closing(result, folder)
    return outcome


@contextlib.contextmanager
def contained(folder: Path, in_sweep: bool, in_study: bool) -> Iterator[Outcome]:
    """Do a job; a mistake of the user's ends the program, and in a sweep it and any failure become the outcome.

    Caught here, inside Hydra, so that a failed job does not stop a sweep and Hydra adds no lines of its own.

    Args:
        folder: The run folder.
        in_sweep: Whether there are other jobs.
        in_study: Whether somebody may look at what failed in the run folder.
    """
    outcome = Outcome(folder.name)
    try:
        yield outcome
        (folder / "failure.txt").unlink(missing_ok=True)
    except Exception as error:
        message = user_message(error)
        if not in_sweep:
            if isinstance(error, Failed):
                fail(str(error), error.code)
            if message is None:
                raise
            fail(message)
        outcome.error = message or f"{type(error).__name__}: {error}"
        outcome.crashed = message is None
        if outcome.crashed or (in_study and not isinstance(error, FolderRefused)):
            record_failure(folder, outcome, traceback.format_exc() if outcome.crashed else "")
        details = f" (traceback in {folder / 'failure.txt'})" if outcome.crashed else ""
        print(f"rlreason: {folder.name} failed: {in_one_line(outcome.error)}{details}", file=sys.stderr, flush=True)


def fail(message: str, code: int = USER_ERROR) -> NoReturn:
    """Print one line, or hand it to the process that started this one, and exit."""
    from rlreason.distributed.launch import tell

    line = in_one_line(message)
    if not tell(line):
        print(f"rlreason: {line}", file=sys.stderr)
    sys.exit(code)


def config_folder() -> Path:
    """`conf/` beside the package in a source tree, inside it in an installed wheel."""
    inside = Path(__file__).parent / "conf"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "conf"


def config_folders(arguments: Sequence[str]) -> list[Path]:
    """The folders in which choices are looked for: `conf/`, and the one of the user's own that the arguments name."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd")
    own = parser.parse_known_args(list(arguments))[0].config_dir
    return [config_folder(), *([] if own is None else [Path(own)])]


def own_config_folder(hydra_config: Any) -> list[str]:
    """What names the user's own folder of choices on a command line; nothing where there is none."""
    sources = hydra_config.runtime.config_sources
    return [part for item in sources if item.provider == "command-line" for part in ("--config-dir", item.path)]


def taken_from_runs(composed: Any, plain: Mapping[str, Any]) -> list[str]:
    """Which checkpoint a model that was given as the folder of a run is, one line each."""
    from rlreason.config.texts import home_expanded
    from rlreason.run.checkpoints import checkpoints

    lines = []
    for group, key in (("model", "path"), ("orm", "path"), ("eval", "orm")):
        given, taken = composed[group][key], plain[group][key]
        if given is not None and taken != home_expanded(str(given)):
            there = ", ".join(checkpoints(Path(home_expanded(str(given))))) or "none of its own"
            lines.append(f"{group}.{key}={given} is read as {group}.{key}={taken}; checkpoints of this run: {there}")
    return lines


def done_without_a_run(config: ExperimentConfig, folder: Path, overrides: Sequence[str], console: Console) -> bool:
    """Do a task that makes no run of its own; whether it was one."""
    if config.task.name == "watch":
        from rlreason.tasks.watch import watch

        watch(config)
    elif config.task.name == "plan":
        from rlreason.tasks.plan import plan

        plan(config, console)
    elif config.task.name == "report":
        from rlreason.tasks.report import report

        report(config, config_folder(), console)
    elif config.task.name == "export":
        from rlreason.tasks.export import export

        export(config, folder, config_folder(), console)
    elif config.task.name == "repeat":
        from rlreason.tasks.repeat import repeat

        repeat(config, console)
    elif config.task.name == "rescore":
        from rlreason.tasks.rescore import rescore

        rescore(config, overrides, console)
    elif config.task.name == "try_reward":
        from rlreason.tasks.try_reward import try_reward

        try_reward(config, console)
    elif config.task.name == "tiny_base":
        from rlreason.tasks import tiny_base

        tiny_base.run(config, console)
    else:
        return False
    return True


def given_settings(overrides: Sequence[str], settings: Mapping[str, Sequence[str]]) -> list[str]:
    """What a study sets beside the choices among the overrides of a job.

    Args:
        overrides: The job's overrides.
        settings: The study's settings by choice: {"algo=sft": ["algo.epochs=4"]}.
    """
    return [item for choice, items in settings.items() if choice in overrides for item in items]


def run_folder(config: Any, hydra: Any) -> Path:
    """`runs_dir/name` or `runs_dir/study/name`; the name is made from the group choices and values asked for.

    Args:
        config: What Hydra composed.
        hydra: Its own section, with choices and overrides.
    """
    from rlreason.arguments import unquoted
    from rlreason.config.texts import home_expanded
    from rlreason.run.identity import NAMED_GROUPS, RUNTIME_FIELDS, RUNTIME_KEYS, RUNTIME_SECTIONS, run_name

    parent = Path(home_expanded(str(config.runs_dir))) / str(config.study or ".")
    if config.name:
        return parent / str(config.name)
    choices, overrides = hydra.runtime.choices, list(hydra.overrides.task)
    named = {group: choices[group] for group in NAMED_GROUPS}
    if config.task.name == "evaluate":
        named = {"task": "evaluate", "model": choices["model"], "data": choices["data"]}
    unnamed = {*named, *RUNTIME_KEYS, *RUNTIME_FIELDS, "seed", "hardware"}
    changes: dict[str, str] = {}
    given = given_settings(overrides, hydra.sweeper.get("settings", {}))
    for override in overrides:
        if override in given:
            continue
        key, _, value = override.lstrip("+").partition("=")
        value = unquoted(value)
        if key == "experiment" and value == config.study:
            continue  # the study's folder says it
        if key not in unnamed and key.split(".")[0] not in (*RUNTIME_SECTIONS, "task"):
            changes[key] = Path(value).name if "/" in value and value[0] != "[" else value
    return parent / run_name(named, changes, config.seed)


def finished_result(folder: Path, plain: dict[str, Any]) -> dict[str, Any] | None:
    """The result that is already there for exactly this configuration."""
    from rlreason.run.files import RESULT_FILE
    from rlreason.run.folder import Run

    if not (folder / RESULT_FILE).exists():
        return None

    with contextlib.closing(Run(folder, plain)) as run:
        return run.result()


def user_message(error: Exception) -> str | None:
    """What the user can do about an error; None where it is no mistake of theirs."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno in DISK_TROUBLE:
        place = error.filename or "to disk"
        return f"cannot write {place}: {os.strerror(error.errno)}; free some space or set runs_dir=FOLDER"
    return None


def record_failure(folder: Path, outcome: Outcome, details: str = "") -> None:
    """Leave `failure.txt` in the run folder, for whoever follows the sweep; the next success removes it."""
    from rlreason.run.files import write_atomically
    from rlreason.run.folder import add_event

    message = in_one_line(outcome.error)
    with contextlib.suppress(OSError):  # on a full disk the line on the terminal must do
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "failure.txt", f"{message}\n\n{details}" if details else f"{message}\n")
        add_event(folder, f"failed: {message}")
