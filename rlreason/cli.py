"""The command line: Hydra composes, this file converts once, checks, and hands over to a task.

Only what every call needs is imported here; torch, vLLM and the trainers wait until a task asks for them.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

from rlreason.errors import UserError

USER_ERROR = 2
INTERRUPTED = 130
NAMED_GROUPS = ("algo", "model", "data", "init", "reward")
DISK_TROUBLE = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT)


def main() -> None:
    """Entry point of `rlreason`."""
    arguments = sys.argv[1:]
    if any(argument in ("--help", "-h") for argument in arguments):
        from rlreason.help import print_help

        print_help(config_folder(), [argument for argument in arguments if not argument.startswith("-")])
        return
    # Without this Hydra prints tracebacks of its own and exits with 1; we turn errors into one line each.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # read when torch is first imported
    try:
        failures = compose_and_run()
    except KeyboardInterrupt:
        fail("interrupted; the same command continues where it stopped", INTERRUPTED)
    except Exception as error:
        message = composition_message(error)
        if message is None:
            raise
        fail(message)
    if failures:
        fail(failures[0] if len(failures) == 1 else f"{len(failures)} jobs failed: {'; '.join(failures)}")


def compose_and_run() -> list[str]:
    """Let Hydra compose and call the job, once or for every combination of a sweep; what went wrong in failed jobs."""
    import hydra

    failures: list[str] = []

    def job(composed: Any) -> None:
        # Caught here, inside Hydra, so that a failed job does not stop a sweep and Hydra adds no lines of its own.
        try:
            run_job(composed)
        except UserError as error:
            failures.append(str(error))
        except OSError as error:
            if error.errno not in DISK_TROUBLE:
                raise
            place = error.filename or "to disk"
            failures.append(f"cannot write {place}: {error.strerror}; free some space or set runs_dir=FOLDER")

    hydra.main(config_path=str(config_folder()), config_name="config", version_base="1.3")(job)()
    return failures


def run_job(composed: Any) -> None:
    """One experiment: convert, check, find its folder, then run its task or show what it ended with."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf
    from rich.console import Console

    from rlreason.compose import from_composed
    from rlreason.tasks.display import Display

    config = from_composed(composed)
    plain: dict[str, Any] = OmegaConf.to_container(composed, resolve=True)  # type: ignore[assignment]
    display = Display(Console() if sys.stdout.isatty() else Console(width=120))
    if config.task.name == "tiny_base":
        from rlreason.tasks import tiny_base

        tiny_base.run(config, display.console)
        return
    if config.task.name == "report":
        from rlreason.tasks.report import report

        report(config, config_folder(), display.console)
        return
    hydra_config = HydraConfig.get()
    folder = run_folder(config, dict(hydra_config.runtime.choices), list(hydra_config.overrides.task))
    result = finished_result(folder, plain)
    if result is None:
        if config.task.name == "train":
            from rlreason.tasks.train import train as task
        else:
            from rlreason.tasks.evaluate import evaluate as task
        result = task(config, plain, folder, display)
    display.table(result)
    display.closing(result, folder)


def run_folder(config: Any, choices: dict[str, str], overrides: list[str]) -> Path:
    """`runs_dir/name`, the name made from the group choices and single values that were asked for."""
    from rlreason.run import RUNTIME_KEYS, RUNTIME_SECTIONS, run_name

    if config.name:
        return Path(config.runs_dir) / str(config.name)
    named = {group: choices[group] for group in NAMED_GROUPS}
    if config.task.name == "evaluate":
        named = {"task": "evaluate", "model": choices["model"], "data": choices["data"]}
    changes: dict[str, str] = {}
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key not in (*named, *RUNTIME_KEYS, "seed", "task") and key.split(".")[0] not in RUNTIME_SECTIONS:
            changes[key] = Path(value).name if "/" in value else value
    return Path(config.runs_dir) / run_name(named, changes, config.seed)


def finished_result(folder: Path, plain: dict[str, Any]) -> dict[str, Any] | None:
    """The result that is already there for exactly this configuration."""
    if not (folder / "result.json").exists():
        return None
    from rlreason.run import Run

    run = Run(folder, plain)
    try:
        return run.result()
    finally:
        run.close()


def config_folder() -> Path:
    """`conf/` beside the package in a source tree, inside it in an installed wheel."""
    inside = Path(__file__).parent / "conf"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "conf"


def composition_message(error: Exception) -> str | None:
    """What Hydra or OmegaConf objected to, in one line with the nearest names; None for any other error."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if not isinstance(error, HydraException | OmegaConfBaseException):
        return None
    from rlreason.help import suggest

    return suggest(error, config_folder())


def fail(message: str, code: int = USER_ERROR) -> None:
    """Print one line and exit."""
    print(f"rlreason: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
