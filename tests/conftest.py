"""Shared fixtures: a command line whose heavy imports are paid once, and small experiments."""

import gc
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from rlreason.config.compose import TABLES
from rlreason.distributed.shares import confine

ROOT = Path(__file__).parent.parent

if "PYTEST_XDIST_WORKER" in os.environ:  # `make test`: workers that shared cores would wait for each other
    confine(int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw")), int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))


def pytest_collection_modifyitems(items):
    """Files that take minutes come first, so that none of them is left to one worker at the end."""
    slow = {item.path for item in items if item.get_closest_marker("engine")}
    items.sort(key=lambda item: ("integration" not in item.path.parts, item.path not in slow))


def pytest_collection_finish():
    """What is imported and collected stays: it is not walked through whenever a test collects garbage."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure():
    """An interpreter that ends takes apart what it may."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def the_tables_of_the_package(monkeypatch):
    """No test sees the rows that another one has registered."""
    for table in TABLES.values():
        monkeypatch.setattr(table, "rows", dict(table.rows))


@dataclass
class Finished:
    code: int
    output: str

    def check(self) -> "Finished":
        assert self.code == 0, self.output[-4000:]
        return self


class CommandLine:
    """Runs `rlreason`, and what else needs heavy imports, in forks of one warm process."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "zygote.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, folder: Path, *arguments: str, kill: str | None = None) -> Finished:
        return self._do(folder, {"arguments": arguments, "kill": kill})

    def script(self, folder: Path, script: Path, *arguments: str) -> Finished:
        return self._do(folder, {"arguments": arguments, "script": str(script)})

    def in_processes(self, count: int, folder: Path, function: str, *arguments: str) -> Finished:
        """Call a function, "MODULE:NAME", in processes that find each other as those of torchrun do."""
        return self._do(folder, {"arguments": arguments, "function": function, "processes": count})

    def _do(self, folder: Path, work: dict) -> Finished:
        output = folder / "output.txt"
        job = {**work, "folder": str(folder), "output": str(output)}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.strip().lstrip("-").isdigit():
                return Finished(int(line), output.read_text(errors="replace"))
        raise RuntimeError("the process that runs the commands has died")


@pytest.fixture(scope="session")
def rlreason():
    command_line = CommandLine()
    yield command_line
    command_line.process.stdin.close()
    command_line.process.wait(timeout=30)


@pytest.fixture(scope="session")
def cold_rlreason():
    """`rlreason` in a process of its own, for what needs no model."""

    def run(folder: Path, *arguments: str, **keywords) -> Finished:
        done = subprocess.run(
            [sys.executable, "-c", "from rlreason.cli import main; main()", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            **keywords,
        )
        return Finished(done.returncode, done.stdout + done.stderr)

    return run
