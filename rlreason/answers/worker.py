"""Asks math-verify whether two answers are equivalent, or what one is worth, in subprocesses that can be killed.

The subprocess is started from the command line, not by multiprocessing: callers may be scripts without a main guard,
and forking beside the threads of an inference engine is unsafe. It runs math-verify on its main thread, where the
alarms that math-verify limits itself with work.
"""

import atexit
import contextlib
import json
import logging
import os
import re
import select
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

# Math-verify stops itself after this long at each of its three steps, unless a step never returns to Python.
_STEP_SECONDS = 2
REPLY_SECONDS = 8.0
_START_SECONDS = 120.0
_MEMORY_BYTES = 2 * 1024**3

# What is not handed on to SymPy: digits of an exponent, or before the sign of a factorial; brackets within brackets;
# exponents within exponents.
_MOST_DIGITS = 4
_DEEPEST = 20
_MOST_EXPONENTS = 2
_HUGE = re.compile(r"\^[\s{(+-]*([0-9]+)|([0-9]+)[\s})]*!")
_POWER_OF_POWER = re.compile(r"\^[\s{(+-]*([0-9]+)[\s})]*\^[\s{(+-]*([0-9]+)")
_FACTORIAL_OF_FACTORIAL = re.compile(r"!\s*[})\]]\s*!")
_BRACKETS_AND_EXPONENTS = re.compile(r"\^\s*([({\[]?)|[\[\](){}!]")


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

    def ask(self, question: list[str]) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(question).encode() + b"\n")
        return json.loads(self._read_reply(REPLY_SECONDS))

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


def is_too_large(answer: str) -> bool:
    """Whether a text in LaTeX is built so that reading it, or what it is worth, would take a time without bounds.

    Such are towers of exponents, powers and factorials of numbers with many digits, and brackets within brackets
    without end. Nothing is computed here, so that the same answers are refused on every machine.
    """
    if any(len(digits) > _MOST_DIGITS for found in _HUGE.findall(answer) for digits in found):
        return True
    powers = ((int(base), min(int(power), 20)) for base, power in _POWER_OF_POWER.findall(answer))
    if any(base**power >= 10**_MOST_DIGITS for base, power in powers) or _FACTORIAL_OF_FACTORIAL.search(answer):
        return True
    open_brackets: list[bool] = []  # whether an exponent stands in each
    for found in _BRACKETS_AND_EXPONENTS.finditer(answer):
        sign, exponents = found[0], sum(open_brackets)
        if (sign[0] == "^" and exponents >= _MOST_EXPONENTS) or (sign == "!" and exponents):
            return True
        if sign[0] != "^" and sign in ")]}":
            del open_brackets[-1:]
        elif found[1] or sign in "([{":
            open_brackets.append(sign[0] == "^")
        if len(open_brackets) > _DEEPEST:
            return True
    return False


def are_equivalent(answer: str, gold: str) -> bool | None:
    """Whether math-verify finds two answers, without dollar signs, equivalent within the limits of time and memory.

    Numbers that it finds equal because they differ by little are not. Safe to call from several threads; each call in
    progress uses a subprocess of its own.

    Returns:
        None where it cannot read the answer, or not in time; where no subprocess survives it a line of the log says so.

    Raises:
        RuntimeError: If the subprocess cannot be started.
    """
    found = _asked([answer, gold])
    return None if found is None else bool(found)


def value_name(answer: str) -> str | None:
    """The name of an answer's value, see `rlreason.answers.values.value_name`; None where it cannot be read.

    Safe to call from several threads, and limited, as `are_equivalent` is.

    Raises:
        RuntimeError: If the subprocess cannot be started.
    """
    name = _asked([answer])
    return None if name is None else str(name)


def _asked(question: list[str]) -> Any:
    """The reply; None where a new subprocess gave none either, or would take too long."""
    if any(map(is_too_large, question)):
        return None
    while True:
        # One that waited may have died, or been stopped, of something else since its last reply.
        worker, is_new = _take_worker()
        try:
            reply = worker.ask(question)
        except (TimeoutError, BrokenPipeError) as error:
            worker.close()
            if is_new:
                reason = "took too long" if isinstance(error, TimeoutError) else "ended"
                log.warning("math-verify %s over %r, which counts as equal to nothing but itself", reason, question)
                return None
        except BaseException:
            worker.close()
            raise
        else:
            _idle.append(worker)
            return reply


def _take_worker() -> tuple[_Worker, bool]:
    """A worker, and whether it is new."""
    try:
        return _idle.pop(), False
    except IndexError:
        return _Worker(), True


@atexit.register
def close_workers() -> None:
    """Ends the subprocesses that wait for an answer; the next answer starts another."""
    while _idle:
        _idle.pop().close()


def main() -> None:
    """Answers each line of standard input, a JSON list, with a line of JSON.

    Two answers are answered with whether they are equivalent, one alone with the name of its value or null.
    """
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
        question = json.loads(line)
        reply: bool | str | None = None
        # Nothing that a text can make the libraries raise is of interest: the answer then equals no other.
        with contextlib.suppress(Exception):
            reply = _verify(*question) if len(question) == 2 else _value_name(*question)
        signal.setitimer(signal.ITIMER_PROF, 0)
        replies.write(json.dumps(reply) + "\n")


def _verify(answer: str, gold: str) -> bool | None:
    from math_verify import verify
    from math_verify.errors import TimeoutException

    try:
        answers, golds = _parsed(answer), _parsed(gold)
        if not answers:
            return None
        if not verify(golds, answers, timeout_seconds=_STEP_SECONDS):
            return False
    except TimeoutException:
        return None
    return not _within_limit(_are_near_only, answers, golds)


def _are_near_only(answers: list[Any], golds: list[Any]) -> bool:
    from rlreason.answers.values import are_near_only

    first, second = (next((item for item in items if not isinstance(item, str)), None) for items in (answers, golds))
    try:
        return first is not None and second is not None and are_near_only(first, second)
    except Exception:  # of many kinds, where SymPy cannot say: math-verify could
        return False


def _value_name(answer: str) -> str | None:
    from rlreason.answers.values import value_name, valued_part

    expression = valued_part(
        answer, lambda text: next((item for item in _parsed(text) if not isinstance(item, str)), None)
    )
    return None if expression is None else _within_limit(value_name, expression)


def _within_limit(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of SymPy gives; None where it takes too long.

    The limit is of processor time, so that no other load on the machine decides whether an answer can be read.
    """
    signal.signal(signal.SIGVTALRM, _stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, _STEP_SECONDS)
    try:
        return function(*arguments)
    except _TooLong:
        return None
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


class _TooLong(BaseException):
    """No Exception, because SymPy catches those and goes on."""


def _stop(signal_number: int, frame: object) -> None:
    raise _TooLong


def _parsed(text: str) -> list[Any]:
    from math_verify import LatexExtractionConfig, parse

    # Only the LaTeX grammar: math-verify's reader of plain expressions is built on eval.
    grammar = [LatexExtractionConfig()]
    return list(parse(f"${text}$", grammar, fallback_mode="no_fallback", parsing_timeout=_STEP_SECONDS))


if __name__ == "__main__":
    main()
