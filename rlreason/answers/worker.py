"""Asks math-verify whether two answers are equivalent, in subprocesses that can be killed.

The subprocess is started from the command line, not by multiprocessing: callers may be scripts without a main guard,
and forking beside the threads of an inference engine is unsafe. It runs math-verify on its main thread, where the
alarms that math-verify limits itself with work.
"""

import atexit
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any

# Math-verify stops itself after this long at each of its three steps, unless a step never returns to Python.
_STEP_SECONDS = 2
REPLY_SECONDS = 8.0
_START_SECONDS = 120.0
_MEMORY_BYTES = 2 * 1024**3


class _Worker:
    """The parent's end of one subprocess."""

    def __init__(self) -> None:
        environment = dict(os.environ)
        package_folder = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package_folder, environment.get("PYTHONPATH")]))
        # -P keeps modules of the caller's working directory from standing in for the libraries.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "rlreason.answers.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=environment,
            start_new_session=True,
        )
        try:
            self._read_reply(_START_SECONDS)
        except (BrokenPipeError, TimeoutError) as error:
            self.close()
            raise RuntimeError("the grading worker did not start: check that math-verify can be imported") from error

    def ask(self, answer: str, gold: str) -> bool:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([answer, gold]).encode() + b"\n")
        return self._read_reply(REPLY_SECONDS) == b"true\n"

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def _read_reply(self, seconds: float) -> bytes:
        """The next line; raises TimeoutError without one, and BrokenPipeError where the subprocess has died."""
        assert self.process.stdout is not None
        # poll, not select: a caller with many open files has descriptors that select refuses.
        poller = select.poll()
        poller.register(self.process.stdout, select.POLLIN)
        if not poller.poll(seconds * 1000):
            raise TimeoutError
        reply = self.process.stdout.readline()
        if not reply:
            raise BrokenPipeError
        return reply


_idle: deque[_Worker] = deque()
# A forked child must not talk over its parent's pipes.
os.register_at_fork(after_in_child=_idle.clear)


def are_equivalent(answer: str, gold: str) -> bool:
    """Whether math-verify finds two answers, without dollar signs, equivalent within the limits of time and memory.

    Safe to call from several threads; each call in progress uses a subprocess of its own.

    Raises:
        RuntimeError: If the subprocess cannot be started.
    """
    # The worker may have died of something else since its last reply, so an answer is tried on a second one.
    for _ in range(2):
        worker = _take_worker()
        try:
            verdict = worker.ask(answer, gold)
        except TimeoutError:
            worker.close()
            return False
        except BrokenPipeError:
            worker.close()
            continue
        except BaseException:
            worker.close()
            raise
        _idle.append(worker)
        return verdict
    return False


def _take_worker() -> _Worker:
    try:
        return _idle.pop()
    except IndexError:
        return _Worker()


@atexit.register
def close_workers() -> None:
    """Ends the subprocesses that wait for an answer; the next answer starts another."""
    while _idle:
        _idle.pop().close()


def main() -> None:
    """Answers each line of standard input, a JSON list of answer and gold, with a line `true` or `false`."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    # The parser's runtime prints warnings to standard output, which here would pass for replies.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    _verify("x", "y")  # so that the imports count towards the time to start, not towards the first answer
    replies.write("ready\n")
    for line in sys.stdin:
        # Ends this process even if its parent has died and nobody is left to kill it.
        signal.setitimer(signal.ITIMER_PROF, 2 * REPLY_SECONDS)
        answer, gold = json.loads(line)
        verdict = False
        # Nothing that a text can make the libraries raise is of interest: the answer is then wrong.
        with contextlib.suppress(Exception):
            verdict = _verify(answer, gold)
        signal.setitimer(signal.ITIMER_PROF, 0)
        replies.write(json.dumps(verdict) + "\n")


def _verify(answer: str, gold: str) -> bool:
    from math_verify import LatexExtractionConfig, parse, verify
    from math_verify.errors import TimeoutException

    def parsed(text: str) -> Any:
        # Only the LaTeX grammar: math-verify's reader of plain expressions is built on eval.
        grammar = [LatexExtractionConfig()]
        return parse(f"${text}$", grammar, fallback_mode="no_fallback", parsing_timeout=_STEP_SECONDS)

    try:
        return bool(verify(parsed(gold), parsed(answer), timeout_seconds=_STEP_SECONDS))
    except TimeoutException:
        return False


if __name__ == "__main__":
    main()
