"""Which questions a batch asks, and from which state: data order and start states, outside of every trainer.

Two exploration aids of the paper: *backtracking* starts a solution from a part of the reference solution and moves
the start back as it is mastered (Salimans and Chen 2018); *prioritized level replay* asks more often what there is
more to learn from (Jiang et al. 2021). What a curriculum knows follows from the batches so far, so a resumed run
tells it the stored ones again.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

from rlreason.config.updates import OnPolicyConfig
from rlreason.types import Asked, Problem, Rollout

MASTERED = 0.5  # share of right solutions from which a start moves back (ours)
STALENESS = 0.1  # share of a draw that goes by how long ago a question was asked (Jiang et al. 2021, for Procgen)


class Curriculum:
    """Chooses batches of questions, and learns from their outcomes.

    Args:
        config: Of PPO or GRPO.
        problems: The training questions.
        prefixes: For backtracking, the tokens after which each line of a question's reference solution begins, the
            first entry empty; by problem id.
        seed: Of every choice.
    """

    def __init__(
        self,
        config: OnPolicyConfig,
        problems: Sequence[Problem],
        prefixes: Mapping[str, Sequence[tuple[int, ...]]],
        seed: int,
    ) -> None:
        self._config = config
        self._problems = problems
        self._prefixes = prefixes if config.backtracking else {}
        self._seed = seed
        self._given_lines = {problem_id: len(starts) - 1 for problem_id, starts in self._prefixes.items()}
        self._potential: dict[str, float] = {}
        self._last_asked: dict[str, int] = {}

    def choose(self, number: int) -> list[Asked]:
        """The questions of batch `number`, counted from 1, none of them twice."""
        count = self._config.questions
        if self._config.replay == "uniform":
            chosen = self._in_passes((number - 1) * count, count)
        else:
            chosen = self._prioritized(number, count)
        return [Asked(problem, self._start(problem)) for problem in chosen]

    def learn(self, number: int, asked: Sequence[Asked], scored: Sequence[Rollout]) -> None:
        """Take in the outcomes of batch `number`."""
        outcomes: dict[str, list[bool]] = {}
        for solution in scored:
            outcomes.setdefault(solution.problem.id, []).append(solution.correct)
        for item in asked:
            right = sum(outcomes[item.problem.id]) / len(outcomes[item.problem.id])
            self._potential[item.problem.id] = right * (1 - right)
            self._last_asked[item.problem.id] = number
            if item.given_ids and right >= MASTERED:
                self._given_lines[item.problem.id] -= 1

    def _start(self, problem: Problem) -> tuple[int, ...]:
        starts = self._prefixes.get(problem.id)
        return starts[self._given_lines[problem.id]] if starts else ()

    def _in_passes(self, first: int, count: int) -> list[Problem]:
        """Questions `first` to `first + count` of endless passes over all, each pass in an order of its own."""
        chosen: dict[str, Problem] = {}
        position = first
        while len(chosen) < count:
            turn, index = divmod(position, len(self._problems))
            problem = self._problems[self._order(turn)[index]]
            chosen.setdefault(problem.id, problem)
            position += 1
        return list(chosen.values())

    def _order(self, turn: int) -> list[int]:
        order = list(range(len(self._problems)))
        random.Random(f"{self._seed}/pass/{turn}").shuffle(order)
        return order

    def _prioritized(self, number: int, count: int) -> list[Problem]:
        """A draw without repetition by weight: new questions as much as the best known, stale ones a share of it.

        The potential of a question is the variance of its last outcomes, p (1 - p), highest where half are right.
        """
        highest = max(self._potential.values(), default=0.25) or 0.25
        ages = {problem.id: number - self._last_asked.get(problem.id, 0) for problem in self._problems}
        total_age = sum(ages.values())
        total_potential = sum(self._potential.get(problem.id, highest) for problem in self._problems) or 1.0
        rng = random.Random(f"{self._seed}/replay/{number}")
        keys = []
        for problem in self._problems:
            weight = (1 - STALENESS) * self._potential.get(problem.id, highest) / total_potential
            weight += STALENESS * ages[problem.id] / total_age
            # Efraimidis and Spirakis 2006: the largest u^(1/w) are a weighted draw without repetition.
            keys.append((math.log(1 - rng.random()) / weight if weight > 0 else -math.inf, problem))
        return [problem for _, problem in sorted(keys, key=lambda pair: pair[0], reverse=True)[:count]]
