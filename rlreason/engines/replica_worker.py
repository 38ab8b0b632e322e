"""The process of one replica: it holds an engine and does what the process that started it asks for.

A thread listens while the main thread generates, so that new requests join the running batch between two steps of the
engine, and so that this process ends when the one that started it does.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import psutil

from rlreason.distributed.processes import die_with_parent
from rlreason.engines.engine import Engine, FedEngine, SampleRequest, SamplingSettings
from rlreason.errors import UserError
from rlreason.types import Rollout

SECONDS_TO_STOP = 10.0
HEARTBEAT = 30.0  # seconds without a finished rollout after which a replica that samples says that it is at work


@dataclass(frozen=True, slots=True)
class Begin:
    """The first message: how to make the engine, and the cores to keep to (empty: all)."""

    build: Callable[[], Engine]
    cores: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """Call a method of the engine; answered by Done or Failed with the same number."""

    number: int
    method: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """Draw the requests of all messages More until End comes; answered by any number of Finished, or Failed.

    A Finished without completions says that the engine has taken a step.
    """

    number: int
    settings: SamplingSettings


@dataclass(frozen=True, slots=True)
class More:
    """Requests to draw beside those that are under way; the sample of each is its number in the whole sampling."""

    requests: Sequence[SampleRequest]


@dataclass(frozen=True, slots=True)
class End:
    """No more requests; those that are under way are dropped."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End this process."""


@dataclass(frozen=True, slots=True)
class Done:
    """A call returned `value`."""

    number: int
    value: Any


@dataclass(frozen=True, slots=True)
class Drawn:
    """What an engine adds to a request: the other side has the problem and the prompt, which are most of a rollout."""

    request: int  # its number in the sampling
    completion_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    finish_reason: str


@dataclass(frozen=True, slots=True)
class Finished:
    """Completions of a sampling."""

    number: int
    drawn: Sequence[Drawn]


@dataclass(frozen=True, slots=True)
class Failed:
    """The engine raised an exception."""

    number: int  # of the call or the sampling
    message: str  # the exception in one line
    mistake: bool  # whether it was a UserError
    details: str  # the traceback


Message = Call | Sample | More | End | Stop
Reply = Done | Finished | Failed


def main(descriptor: int, parent: int, from_main_thread: bool) -> None:
    """Serve until told to stop, then end this process.

    Args:
        descriptor: File descriptor of the connection.
        parent: Id of the process that started this one.
        from_main_thread: Whether its main thread did.
    """
    signal.signal(signal.SIGTERM, _end)
    if from_main_thread:  # the signal comes when the thread ends that started this process, not the process
        die_with_parent(signal.SIGTERM)
        if os.getppid() != parent:
            return
    os.set_inheritable(descriptor, False)
    connection = Connection(descriptor)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the other side is gone
        first: Begin = connection.recv()
        if first.cores:
            os.sched_setaffinity(0, first.cores)  # before torch counts them
        Worker(connection, first.build).run()
    # Whatever the engine has started ends here. Taking the interpreter apart as well, with torch in it, costs seconds.
    atexit._run_exitfuncs()
    sys.stderr.flush()
    os._exit(0)


def kill_group(leader: int) -> None:
    """Kill the process `leader` and what it has started, the calling process last if it is one of them.

    The resource tracker of multiprocessing is let live: it removes the shared memory of the others, then ends itself.
    """
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            if os.getpgid(process.pid) == leader and "resource_tracker" not in " ".join(process.cmdline()):
                members.append(process)
    for process in sorted(members, key=lambda process: process.pid == os.getpid()):
        with contextlib.suppress(psutil.Error):
            process.kill()


def _end(*_: object) -> None:
    """End this process, which leads a group of its own (replica_process.py), and what the engine has started."""
    kill_group(os.getpid())


class Worker:
    """Answers messages, one after the other; the engine is made when it is first needed."""

    def __init__(self, connection: Connection, build: Callable[[], Engine]) -> None:
        self.connection = connection
        self._build = build
        self._engine: Engine | None = None
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._stopped = False
        self._sampling = 0  # number of the sampling
        self._spoke = 0.0

    def run(self) -> None:
        """Serve until told to stop."""
        threading.Thread(target=self._listen, daemon=True).start()
        while not self._stopped:
            message = self._inbox.get()
            if isinstance(message, Stop):
                return
            if isinstance(message, Call):
                with self._failures_reported(message.number):
                    value = getattr(self._made(), message.method)(*message.arguments)
                    self.connection.send(Done(message.number, value))
            elif isinstance(message, Sample):
                self._sampling = message.number
                with self._failures_reported(message.number):
                    self._sample(self._made(), message.settings)
            # More and End of a sampling that has failed are left

    def _listen(self) -> None:
        """Fill the inbox; once there is nothing more to come, see to it that this process ends."""
        try:
            while not isinstance(message := self.connection.recv(), Stop):
                self._inbox.put(message)
            self._inbox.put(message)
            time.sleep(SECONDS_TO_STOP)
        finally:  # without a message to stop, the other side is gone
            _end()

    def _made(self) -> Engine:
        if self._engine is None:
            self._engine = self._build()
        return self._engine

    def _sample(self, engine: Engine, settings: SamplingSettings) -> None:
        """Draw in one running batch where the engine can do so, else in one batch after another."""
        if isinstance(engine, FedEngine):
            for rollouts in engine.sample_fed(self._feed, settings):
                self._finished(rollouts)
            return
        while (requests := self._feed(0)) is not None:
            for rollouts in engine.sample(requests, settings):
                self._finished(rollouts)

    def _finished(self, rollouts: Sequence[Rollout]) -> None:
        drawn = [
            Drawn(item.sample, item.completion_ids, item.sampler_logprobs, item.text, item.finish_reason)
            for item in rollouts
        ]
        self.connection.send(Finished(self._sampling, drawn))
        self._spoke = time.monotonic()

    def _feed(self, pending: int) -> Sequence[SampleRequest] | None:
        """The requests that have come since the last step; waits for some where there is nothing else to do."""
        if time.monotonic() - self._spoke > HEARTBEAT:
            self._finished(())
        new: list[SampleRequest] = []
        while not self._inbox.empty() or (not new and pending == 0):
            message = self._inbox.get()
            if not isinstance(message, More):
                self._stopped = isinstance(message, Stop)
                return None
            new += message.requests
        return new

    @contextlib.contextmanager
    def _failures_reported(self, number: int) -> Iterator[None]:
        try:
            yield
        except (BrokenPipeError, ConnectionResetError):
            raise
        except UserError as error:
            self.connection.send(Failed(number, str(error), True, ""))
        except Exception as error:
            message = " ".join(f"{type(error).__name__}: {error}".split())
            self.connection.send(Failed(number, message, False, traceback.format_exc()))
