"""Starts the process of a replica, talks to it, and ends it together with all that it has started.

The process is started from the command line, with an environment of its own, rather than by multiprocessing: callers
may be scripts without a main guard, the environment must be right before the interpreter starts, and an engine may
start processes itself, which daemonic processes may not.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from rlreason.engines.engine import Engine
from rlreason.engines.places import Place, environment
from rlreason.engines.replica_worker import SECONDS_TO_STOP, Begin, Failed, Message, Reply, Stop, kill_group

PROGRAM = "import sys; from rlreason.engines.replica_worker import main; main(*map(int, sys.argv[1:]))"
SECONDS_TO_DIE = 2.0


class ReplicaProcess:
    """This side of the process of one replica; `build`, which has to be picklable, makes the engine over there."""

    def __init__(self, build: Callable[[], Engine], place: Place) -> None:
        ours, theirs = Pipe()
        own = environment(os.environ, place)
        package_folder = str(Path(__file__).resolve().parents[2])
        own["PYTHONPATH"] = os.pathsep.join([package_folder, *filter(None, sys.path)])  # as unpickling needs it
        from_main_thread = threading.current_thread() is threading.main_thread()
        arguments = map(str, (theirs.fileno(), os.getpid(), int(from_main_thread)))
        # -P keeps modules of the caller's working directory from standing in for the libraries. In a session of its
        # own it is not stopped by Ctrl-C beside this process, which ends it in order, and can be killed as a group.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM, *arguments],
            stdin=subprocess.DEVNULL,
            env=own,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
        theirs.close()
        self.connection: Connection = ours
        self.send(Begin(build, place.cores))

    def send(self, message: Message | Begin) -> None:
        """Send a message; to a process that has died nothing is sent, and the next `receive` says so."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(message)

    def receive(self) -> Reply | None:
        """The next reply, waited for; None where the process has died."""
        try:
            reply: Reply = self.connection.recv()
        except (EOFError, OSError):
            return None
        return reply

    def alive(self) -> bool:
        """Whether the process can go on; what it had sent and nobody waits for is dropped."""
        while self.connection.poll():
            reply = self.receive()
            if reply is None or (isinstance(reply, Failed) and not reply.mistake):
                return False
        return not self._is_dead()

    def silent_and_dead(self) -> bool:
        """Whether the process has died and its connection does not tell, as something that it started holds it."""
        return self._is_dead() and not self.connection.poll()

    def _is_dead(self) -> bool:
        """Whether the process has ended, if only its main thread so far: a killed one is reaped a little later."""
        import psutil

        return self.process.poll() is not None or psutil.Process(self.process.pid).status() == psutil.STATUS_ZOMBIE

    def end(self, seconds: float) -> str:
        """Wait for the end of the process for some seconds, then kill it and what it has started; how it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        kill_group(self.process.pid)
        code = self.process.wait()
        self.connection.close()
        names = {number.value: number.name for number in signal.Signals}
        return f"was killed by {names.get(-code, -code)}" if code < 0 else f"ended with exit code {code}"


def stop(processes: Iterable[ReplicaProcess]) -> None:
    """End all processes, in order where they still can."""
    ending = list(processes)
    for process in ending:
        process.send(Stop())
    deadline = time.monotonic() + SECONDS_TO_STOP
    for process in ending:
        process.end(max(0.0, deadline - time.monotonic()))
