"""Several copies of an engine, each in a process of its own, that share the sampling.

Requests are handed out while replicas have room, and rollouts come back as they finish. The work of a replica that
dies or hangs goes to the others, and it is started again at the next `load`; where none is left, all are started again
at once. Every sample arrives once. A single replica is of use as well, where an engine must not live in this process:
see :func:`rlreason.engines.start.start_engine`.
"""

from __future__ import annotations

import logging
import math
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from rlreason.engines.engine import Engine, SampleRequest, SamplingSettings
from rlreason.engines.places import Place
from rlreason.engines.replica_process import SECONDS_TO_DIE, ReplicaProcess, stop
from rlreason.engines.replica_worker import Call, Done, End, Failed, Finished, More, Reply, Sample
from rlreason.engines.spreading import Spread
from rlreason.errors import UserError
from rlreason.models.probe import mean_gap
from rlreason.types import Rollout

SECONDS_BETWEEN_LOOKS = 1.0  # at whether a process lives whose connection says nothing
# A replica that owes an answer and says nothing for so many seconds hangs. One that samples says every half minute that
# it is at work; loading a large model and compiling its kernels is the longest silence.
PATIENCE = 1800.0

# Nats a token by which replicas with the same weights may differ: other batches, other kernels.
ROUNDING = 0.02

log = logging.getLogger(__name__)


class Replicas:
    """An engine made of engines; its processes start with the first `load` and end with this object.

    Args:
        builds: Makes the engine of each replica, in its process; picklable.
        places: Where each replica runs.
        max_sequences: Completions that one replica generates at the same time; None: all that it is given.
        report: Called with one line about each replica that is lost; None: a logged warning.
        fixed: What of a checkpoint an engine cannot change once it has started; where it changes, the processes end
            and others are started.
    """

    def __init__(
        self,
        builds: Sequence[Callable[[], Engine]],
        places: Sequence[Place],
        max_sequences: int | None = None,
        report: Callable[[str], None] | None = None,
        fixed: Callable[[Path], Any] = lambda checkpoint: None,
    ) -> None:
        self._builds = builds
        self._places = places
        # A quarter more than are generated, so that the next ones are there when some finish.
        self._room = math.inf if max_sequences is None else max_sequences + max(1, max_sequences // 4)
        self._report = report or log.warning
        self._fixed = fixed
        self._started_for: Any = None  # what `fixed` said of the checkpoint that the processes were started with
        self._checkpoint: Path | None = None
        self._living: dict[int, ReplicaProcess] = {}
        self._heard: dict[int, float] = {}  # when each replica said something, or was given something to do
        self._number = 0
        self._spread: Spread | None = None
        self._left_at_start: int | None = None  # samples that were to be drawn when all replicas were started again
        self._homes: dict[str, int] = {}
        self._last_failure: Exception = UserError("no engine replica has been started: call load first")
        self._finalizer = weakref.finalize(self, _stop_all, self._living)

    @property
    def processes(self) -> dict[int, int]:
        """Process id of every living replica."""
        return {number: replica.process.pid for number, replica in self._living.items()}

    def load(self, checkpoint: Path) -> None:
        """Make `checkpoint` the policy of all replicas, at the same time; start those that do not run.

        Raises:
            UserError: A replica cannot load it, or all have died.
            RuntimeError: All have failed.
        """
        self._end_sampling()
        self._checkpoint = checkpoint
        if self._living and self._fixed(checkpoint) != self._started_for:
            self.close()
        self._load(checkpoint)

    def _load(self, checkpoint: Path) -> None:
        if not self._living:
            self._started_for = self._fixed(checkpoint)
        for number, replica in list(self._living.items()):
            if not replica.alive():
                self._lose(number)
        missing = [number for number in range(len(self._places)) if number not in self._living]
        for number in missing:
            self._living[number] = ReplicaProcess(self._builds[number], self._places[number])
        running = [number for number in self._living if number not in missing]
        for group in [running, *([number] for number in missing)] if self._share_gpus() else [list(self._living)]:
            if group:
                self._call(group, "load", checkpoint)

    def release(self) -> None:
        """Give memory back, as each engine does; one that fails at it is ended, which gives back all it had."""
        self._end_sampling()
        self._asked(list(self._living), "release")

    def score(self, token_ids: Sequence[int]) -> tuple[float, ...]:
        """Log-probability of each token but the first given those before it, in nats, at temperature 1.

        Raises:
            UserError: The replicas do not agree, and so do not hold the same weights.
        """
        first, *others = self.call("score", tuple(token_ids))
        for other in others:
            gap = mean_gap(first, other)
            if not gap <= ROUNDING:
                raise UserError(
                    f"stale or broken weights in a replica of the engine: two of them differ by {gap:.3f} nats a "
                    "token of the probe text; the same command tries again"
                )
        scores: tuple[float, ...] = first
        return scores

    def call(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of the engine of every living replica at the same time; what each returned.

        Raises:
            UserError: A replica raised it, or all have died.
            RuntimeError: All have failed.
        """
        self._end_sampling()
        return self._call(list(self._living), method, *arguments)

    def sample(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> Iterator[list[Rollout]]:
        """Draw all requests, yielding rollouts as they finish, in any order.

        Raises:
            UserError: An engine raised it, or all replicas have died.
            RuntimeError: All replicas have failed, or another call came before this one had ended.
        """
        self._end_sampling()
        self._number += 1
        number = self._number
        spread = self._spread = Spread(
            [request.problem.id for request in requests], len(self._places), self._room, self._homes
        )
        self._left_at_start = None
        for replica in self._living.values():
            replica.send(Sample(number, settings))
        try:
            while spread.left:
                if not self._living:
                    self._start_again(spread, Sample(number, settings))
                self._hand_out(spread, requests)
                for replica_number, reply in self._replies({number for number, held in spread.held.items() if held}):
                    if reply.number != number:
                        continue  # of a sampling that was broken off
                    if isinstance(reply, Failed):
                        raise UserError(reply.message)
                    if isinstance(reply, Finished):
                        new = set(spread.arrived(replica_number, [drawn.request for drawn in reply.drawn]))
                        yield [
                            requests[drawn.request].drawn(
                                drawn.completion_ids, drawn.logprobs, drawn.text, drawn.finish_reason
                            )
                            for drawn in reply.drawn
                            if drawn.request in new
                        ]
                        if self._spread is not spread:
                            raise RuntimeError("the engine was used for something else while it was sampling")
        finally:
            if self._spread is spread:
                self._end_sampling()

    def close(self) -> None:
        """End all processes."""
        self._finalizer()

    def _start_again(self, spread: Spread, sampling: Sample) -> None:
        """Start all replicas for what is left to be drawn, unless nothing came since they were last started."""
        if not self._can_start_again(spread):
            raise self._last_failure
        assert self._checkpoint is not None  # nothing samples before the first `load`
        self._left_at_start = spread.left
        self._load(self._checkpoint)
        for replica in self._living.values():
            replica.send(sampling)

    def _can_start_again(self, spread: Spread) -> bool:
        return self._checkpoint is not None and spread.left != self._left_at_start

    def _hand_out(self, spread: Spread, requests: Sequence[SampleRequest]) -> None:
        for number, chosen in spread.hand_out(self._living).items():
            self._heard[number] = time.monotonic()
            self._living[number].send(More([replace(requests[i], sample=i) for i in chosen]))

    def _end_sampling(self) -> None:
        """Let replicas drop what they still generate."""
        if self._spread is not None:
            self._spread = None
            for replica in self._living.values():
                replica.send(End())

    def _call(self, numbers: Collection[int], method: str, *arguments: Any) -> list[Any]:
        values = self._asked(numbers, method, *arguments)
        if not self._living:
            raise self._last_failure
        return values

    def _asked(self, numbers: Collection[int], method: str, *arguments: Any) -> list[Any]:
        """What each replica returned that has not been lost over it."""
        self._number += 1
        for number in numbers:
            self._heard[number] = time.monotonic()
            self._living[number].send(Call(self._number, method, arguments))
        values: dict[int, Any] = {}
        mistakes: dict[int, str] = {}
        while owing := (set(numbers) & self._living.keys()) - values.keys() - mistakes.keys():
            for number, reply in self._replies(owing):
                if reply.number == self._number and isinstance(reply, Done):
                    values[number] = reply.value
                elif reply.number == self._number and isinstance(reply, Failed):
                    mistakes[number] = reply.message
        if mistakes:
            raise UserError(next(iter(mistakes.values())))
        return [values[number] for number in sorted(values)]

    def _replies(self, owing: Collection[int]) -> list[tuple[int, Reply]]:
        """Wait for replies; replicas that have died or failed, or have long been silent though `owing`, are lost."""
        numbers = {replica.connection: number for number, replica in self._living.items()}
        ready = wait(list(numbers), SECONDS_BETWEEN_LOOKS)
        replies: list[tuple[int, Reply]] = []
        for connection, number in numbers.items():
            replica = self._living[number]
            if connection in ready:
                self._heard[number] = time.monotonic()
                reply = replica.receive()
                if reply is None or (isinstance(reply, Failed) and not reply.mistake):
                    self._lose(number, reply)
                else:
                    replies.append((number, reply))
            elif replica.silent_and_dead():
                self._lose(number)
            elif number in owing and time.monotonic() - self._heard[number] > PATIENCE:
                self._lose(number, hangs=True)
        return replies

    def _lose(self, number: int, failure: Failed | None = None, hangs: bool = False) -> None:
        """Take a replica out, report it, and let its unfinished requests wait again."""
        replica = self._living.pop(number)
        how = replica.end(0.0 if hangs or failure else SECONDS_TO_DIE)
        if failure is not None:
            how = f"failed ({failure.message})"
        elif hangs:
            how = f"has said nothing for {PATIENCE / 60:.0f} minutes and was ended"
        unfinished = self._spread.lost(number) if self._spread is not None else 0
        count = len(self._places)
        line = f"engine replica {number + 1} of {count} {how}" if count > 1 else f"the engine {how}"
        if self._living:
            others = (
                f"its {unfinished:,} unfinished samples go to the others"
                if unfinished
                else "the others go on without it"
            )
            self._report(f"{line}; {others}")
        elif self._spread is not None and self._can_start_again(self._spread):
            self._report(f"{line}; it is started again for the {self._spread.left:,} samples that are left")
        else:
            self._report(line)
        if failure is not None:
            self._last_failure = RuntimeError(f"no engine is left: {line}\n{failure.details}")
        else:
            self._last_failure = UserError(
                f"no engine is left: {line}; if memory is short, lower engine.replicas or "
                "engine.max_sequences; the same command continues"
            )

    def _share_gpus(self) -> bool:
        """Whether replicas measure free memory on the same GPU, which must not change meanwhile."""
        names = [name for place in self._places for name in place.gpus or ()]
        return len(set(names)) < len(names)


def _stop_all(living: dict[int, ReplicaProcess]) -> None:
    stop(living.values())
    living.clear()
