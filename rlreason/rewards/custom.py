"""Rewards of the user's own, alone (`reward=custom`) or added to another one: `reward.function=FILE.py:NAME`.

Such a function takes a problem and a completion, and gives a number, which the last step earns, or one number for every
step:

    def brevity(problem, completion):
        return float(completion.correct) - 0.05 * len(completion.steps)

With a parameter `batch` it takes lists of both and gives a list, one entry for every completion; an `async` function
is awaited for all completions together.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

from rlreason.answers.steps import through_answer
from rlreason.config.base import require, setting
from rlreason.errors import UserError
from rlreason.own import FORMS, check_call, imported, raised
from rlreason.rewards.base import Reward, RewardConfig, RewardRow, StepRewards
from rlreason.types import Rollout, StepReward

if TYPE_CHECKING:
    from rlreason.orm.model import OutcomeModel

KEY = "reward.function"
_ONE = "the question "
_BATCH = "the {:,} completions that begin with one of the question "


@dataclass(frozen=True, slots=True)
class Completion:
    """What a reward of the user's own sees of a completion.

    Args:
        text: All of it, without special tokens.
        steps: Its lines up to the one that states the final answer.
        answer: The final answer; None where it states none.
        correct: Whether that is right.
        finish_reason: "stop" when the policy ended its text, "length" when the token limit cut it.
    """

    text: str
    steps: tuple[str, ...]
    answer: str | None
    correct: bool
    finish_reason: str


@dataclass(frozen=True, kw_only=True)
class CustomRewardConfig(RewardConfig):
    """A function of the user's own, and nothing beside it."""

    name: str = setting("custom")
    function: str | None = setting(
        "the reward: takes (problem, completion) and gives a number, or a number for every step", own=True
    )
    threshold: float = setting("return from which expert iteration keeps a solution")

    def check(self) -> None:
        """Refuse a reward without a function."""
        super().check()
        require(
            self.function is not None, f"{KEY} is missing; name the function of your own that is the reward: {FORMS}"
        )


class _TookTooLong(KeyboardInterrupt):
    """Raised inside a function that has had its time; neither `except Exception` nor asyncio's tasks keep it."""


def no_reward(
    rollouts: Sequence[Rollout], settings: RewardConfig, outcome_model: OutcomeModel | None = None
) -> list[StepRewards]:
    """What `reward=custom` gives before the function of the user's own is added."""
    return [()] * len(rollouts)


def with_own(reward: Reward, settings: RewardConfig) -> Reward:
    """A reward with the user's own added to it, where the settings name one."""
    return reward if settings.function is None else partial(_added, reward, settings)


def check_function(path: str) -> None:
    """Refuse what cannot be called as a reward.

    Raises:
        UserError: It cannot be imported, is no function, or takes other arguments.
    """
    batch = _takes_batch(imported(KEY, path).value)
    check_call(KEY, path, "(problems, completions, batch=True)" if batch else "(problem, completion)", None, None)


def _added(reward: Reward, settings: RewardConfig, rollouts: Sequence[Rollout]) -> list[StepRewards]:
    earned = [
        _credited(item, values, settings) for item, values in zip(rollouts, _asked(rollouts, settings), strict=True)
    ]
    return [_together(*both) for both in zip(reward(rollouts), earned, strict=True)]


def _together(shipped: StepRewards, own: StepRewards) -> StepRewards:
    """The credit of both, step by step; a step that earns nothing is left out."""
    credits = {(step.start, step.end): step.value for step in shipped}
    for step in own:
        credits[step.start, step.end] = credits.get((step.start, step.end), 0.0) + step.value
    return tuple(StepReward(*span, value) for span, value in sorted(credits.items()) if value != 0)


def _credited(rollout: Rollout, given: Any, settings: RewardConfig) -> StepRewards:
    """What the function gave a completion, as credit for its steps.

    Raises:
        UserError: It is no number, nor as many numbers as there are steps.
    """
    steps = through_answer(rollout.steps)
    several = hasattr(given, "__len__") and not isinstance(given, str | bytes) and getattr(given, "ndim", 1) > 0
    try:
        if isinstance(given, str | bytes):
            raise TypeError
        values = [float(value) for value in given] if several else [float(given)]
    except (TypeError, ValueError):
        raise _wrong(settings, rollout, f"gave {given!r}, which is no number") from None
    if several and len(values) != len(steps):
        raise _wrong(settings, rollout, f"gave {len(values)} values for {len(steps)} steps")
    if not all(map(math.isfinite, values)):
        raise _wrong(settings, rollout, f"gave {given!r}, which is no finite number")
    steps = steps if several else steps[-1:]
    return tuple(
        StepReward(step.start, step.end, value * settings.function_weight)
        for step, value in zip(steps, values, strict=False)
    )


def _asked(rollouts: Sequence[Rollout], settings: RewardConfig) -> Sequence[Any]:
    """What the function gives every rollout."""
    assert settings.function is not None
    function = imported(KEY, settings.function).value
    if _takes_batch(function):
        ask = _of_batch
    elif inspect.iscoroutinefunction(function):
        ask = _awaited
    else:
        ask = _one_by_one
    return ask(function, rollouts, settings)


def _one_by_one(function: Callable[..., Any], rollouts: Sequence[Rollout], settings: RewardConfig) -> Sequence[Any]:
    given = []
    with _clock(settings.function_seconds) as restart:
        for rollout in rollouts:
            restart()
            try:
                given.append(function(rollout.problem, _completion(rollout)))
            except _TookTooLong:
                raise _too_long(settings, rollout) from None
            except (Exception, SystemExit) as error:  # the user's code may raise anything
                raise _wrong(settings, rollout, f"raised {raised(error)}") from error
    return given


def _of_batch(function: Callable[..., Any], rollouts: Sequence[Rollout], settings: RewardConfig) -> Sequence[Any]:
    if not rollouts:
        return []
    where = _BATCH.format(len(rollouts))
    try:
        with _clock(settings.function_seconds) as restart:
            restart()
            given = function([item.problem for item in rollouts], [_completion(item) for item in rollouts])
            if inspect.iscoroutine(given):
                given = asyncio.run(given)
    except _TookTooLong:
        raise _too_long(settings, rollouts[0], where) from None
    except (Exception, SystemExit) as error:  # as above
        raise _wrong(settings, rollouts[0], f"raised {raised(error)}", where) from error
    try:
        values = list(given)
    except TypeError:
        raise _wrong(settings, rollouts[0], f"gave {given!r}, which is no list", where) from None
    if len(values) != len(rollouts):
        raise _wrong(settings, rollouts[0], f"gave {len(values)} values for {len(rollouts)} completions", where)
    return values


def _awaited(function: Callable[..., Any], rollouts: Sequence[Rollout], settings: RewardConfig) -> Sequence[Any]:
    seconds = settings.function_seconds

    async def all_calls() -> list[Any]:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # what matters is raised below
        calls = [function(item.problem, _completion(item)) for item in rollouts]
        return await asyncio.gather(*(asyncio.wait_for(call, seconds) for call in calls), return_exceptions=True)

    try:
        with _clock(2 * seconds) as restart:  # the loop keeps the time, unless a call never gives it back
            restart()
            given = asyncio.run(all_calls())
    except _TookTooLong:
        raise _too_long(settings, rollouts[0], _BATCH.format(len(rollouts))) from None
    for value, rollout in zip(given, rollouts, strict=True):
        if isinstance(value, TimeoutError):
            raise _too_long(settings, rollout)
        if isinstance(value, BaseException):
            raise _wrong(settings, rollout, f"raised {raised(value)}") from value
    return given


def _takes_batch(function: Any) -> bool:
    try:
        return "batch" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # no function, or one of a kind that shows no signature
        return False


def _completion(item: Rollout) -> Completion:
    steps = tuple(step.text for step in through_answer(item.steps))
    return Completion(item.text, steps, item.answer, item.correct, item.finish_reason)


@contextmanager
def _clock(seconds: float) -> Iterator[Callable[[], None]]:
    """Ends what takes too long since the last call of what this gives, by a `_TookTooLong` raised there.

    Signals reach the main thread alone; elsewhere nothing is ended.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise _TookTooLong

    before = signal.signal(signal.SIGALRM, ring)
    try:
        yield lambda: signal.setitimer(signal.ITIMER_REAL, seconds) and None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _wrong(settings: RewardConfig, rollout: Rollout, what: str, where: str = "") -> UserError:
    question = " ".join(rollout.problem.question.split())[:80]
    return UserError(
        f"{KEY}={settings.function} {what}, for {where or _ONE}{rollout.problem.id} ({question!r}); "
        "mend the function: the same command goes on with what was sampled"
    )


def _too_long(settings: RewardConfig, rollout: Rollout, where: str = "") -> UserError:
    return _wrong(settings, rollout, f"took longer than reward.function_seconds={settings.function_seconds:g}", where)


CUSTOM = RewardRow(
    settings=CustomRewardConfig,
    score=no_reward,
    title="custom",
    line=(0, (3, 1, 1, 1)),
    marker_filling="bottom",
    looks_at="whatever a function of its author's looks at",
    control=False,
    needs_solutions=False,
    needs_outcome_model=False,
    lacks_reference=None,
)
