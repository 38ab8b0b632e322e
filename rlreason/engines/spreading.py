"""Which replica draws which request, so that each is drawn once however many replicas die on the way.

Requests wait in chunks, each of one question, so that its samples share the work on their prompt. A replica is given
chunks while it has room, always the replica with the least to do; what a lost one held waits again, before all others.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, MutableMapping, Sequence

CHUNKS = 4  # a question with many samples is cut so that there are at least so many chunks for each replica


class Spread:
    """The requests of one call of `sample`, by their number in it, and where each of them is.

    Args:
        questions: The question of every request.
        replicas: How many replicas there are.
        room: Requests that a replica holds at the same time, apart from the rest of its last chunk.
        homes: Replica that drew for a question last, which knows its prompt; brought up to date.
    """

    def __init__(self, questions: Sequence[str], replicas: int, room: float, homes: MutableMapping[str, int]) -> None:
        self.questions = questions
        self.left = len(questions)
        self.held: defaultdict[int, set[int]] = defaultdict(set)
        self._room = room
        self._homes = homes
        self._waiting: defaultdict[int | None, deque[list[int]]] = defaultdict(deque)  # by the home of the question
        most = max(1, math.ceil(len(questions) / (CHUNKS * replicas)))
        for numbers in self._by_question(range(len(questions))):
            for first in range(0, len(numbers), most):
                self._waiting[homes.get(questions[numbers[0]])].append(numbers[first : first + most])

    def hand_out(self, replicas: Collection[int]) -> dict[int, list[int]]:
        """What each of the living `replicas` is to be given now."""
        given: defaultdict[int, list[int]] = defaultdict(list)
        limit = min(self._room, math.ceil(self.left / len(replicas)))
        while any(self._waiting.values()):
            replica = min(replicas, key=lambda number: len(self.held[number]))
            if len(self.held[replica]) >= limit:
                break
            chunk = self._take(replica)
            self.held[replica].update(chunk)
            given[replica] += chunk
        return dict(given)

    def arrived(self, replica: int, numbers: Iterable[int]) -> list[int]:
        """Count requests as done; those of `numbers` that were not done before."""
        new = [number for number in numbers if number in self.held[replica]]
        self.held[replica].difference_update(new)
        self.left -= len(new)
        return new

    def lost(self, replica: int) -> int:
        """Let what a lost replica held wait again; how many requests that are."""
        numbers = sorted(self.held.pop(replica, ()))
        self._waiting[None].extendleft(reversed(self._by_question(numbers)))
        return len(numbers)

    def _take(self, replica: int) -> list[int]:
        """The next chunk for a replica: of a question it knows, of one that nobody knows, or another's."""
        own, unknown = self._waiting[replica], self._waiting[None]
        chunk = (own or unknown or max(self._waiting.values(), key=len)).popleft()
        self._homes[self.questions[chunk[0]]] = replica
        return chunk

    def _by_question(self, numbers: Iterable[int]) -> list[list[int]]:
        groups: dict[str, list[int]] = {}
        for number in numbers:
            groups.setdefault(self.questions[number], []).append(number)
        return list(groups.values())
