"""The process that does the steps of the check, so that whatever happens in one stops no other.

It does one step after another, as the jobs of a sweep share a process; after a step that failed, another one takes its
place. What it and its libraries print goes to a log file.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlreason.checking.step import FAILED, OK, SKIPPED, Found, Place, Row, Step, Unfinished
from rlreason.distributed.processes import die_with_parent
from rlreason.engines.replica_worker import SECONDS_TO_STOP, kill_group
from rlreason.errors import NothingToLearn, in_one_line

LOOK_SECONDS = 0.2  # between two looks at whether the process lives


@dataclass(frozen=True)
class Ended:
    """A step has come to its end; bytes that are in use then."""

    in_use: float


class Worker:
    """This side of the process."""

    def __init__(self, log: Path) -> None:
        context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        ours, theirs = context.Pipe()
        self._connection = ours
        self._process = context.Process(target=serve, args=(theirs, str(log)))
        self._process.start()
        theirs.close()
        self._waits = True  # for a step

    def do(self, step: Step, place: Place, seconds: float) -> Iterator[Row | Ended]:
        """The rows of a step as they come; its end, if it comes to one.

        Args:
            step: What to do.
            place: Where.
            seconds: After which it is given up.
        """
        titles, began = step.titles(), time.monotonic()
        part_began = began
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # one that has died meanwhile answers so
            self._connection.send((step, place))
        self._waits = False
        for number in range(len(titles) + 1):
            answer = self._answer(began + seconds)
            now = time.monotonic()
            title = titles[min(number, len(titles) - 1)]
            if isinstance(answer, Found):
                yield Row(title, OK, seconds=now - part_began, found=answer)
            elif isinstance(answer, Ended):
                self._waits = True
                yield answer
                return
            else:
                self._waits = answer.details != ""
                yield Row(title, answer.verdict, answer.says, now - part_began, details=answer.details)
                return
            part_began = now

    def end(self) -> None:
        """End the process and whatever it has started; one that waits for a step ends by itself."""
        self._connection.close()
        self._process.join(SECONDS_TO_STOP if self._waits else 0)
        if self._process.is_alive() and self._process.pid is not None:
            kill_group(self._process.pid)
        self._process.join()

    def _answer(self, deadline: float) -> Found | Ended | Unfinished:
        """What the process sends next; for one that died or is silent for too long, what happened."""
        while not self._connection.poll(LOOK_SECONDS):
            if time.monotonic() > deadline:
                return Unfinished(FAILED, "it did not end within task.step_seconds, and was ended")
            if not self._process.is_alive() and not self._connection.poll():
                return self._death()
        try:
            answer: Found | Ended | Unfinished = self._connection.recv()
        except (EOFError, OSError):
            return self._death()
        return answer

    def _death(self) -> Unfinished:
        self._process.join()
        code = self._process.exitcode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return Unfinished(FAILED, f"its process {how}; the log has what it printed")


def serve(connection: Any, log: str) -> None:
    """Do the steps that come, until nobody is there to ask for another."""
    os.setsid()  # ended as a group, with whatever it has started
    die_with_parent(signal.SIGKILL)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    while True:
        try:
            step, place = connection.recv()
        except EOFError:
            return
        print(f"\n== {step.name}", flush=True)
        try:
            for _, found in zip(step.parts, step.work(place), strict=True):
                connection.send(found)
        except Exception as error:
            traceback.print_exc()
            verdict = SKIPPED if isinstance(error, NothingToLearn) else FAILED
            connection.send(Unfinished(verdict, in_one_line(error), traceback.format_exc()))
            continue
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
        connection.send(Ended(left()))


def left() -> float:
    """Bytes that are in use once what nobody refers to has been given back."""
    if "torch" not in sys.modules:
        return 0.0
    from rlreason.checking.memory import in_use
    from rlreason.models.loading import free_memory

    free_memory()
    return in_use()
