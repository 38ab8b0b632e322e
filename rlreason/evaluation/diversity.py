"""How different solutions are."""

from __future__ import annotations

from collections.abc import Sequence

from rlreason.answers.arithmetic import operations
from rlreason.types import Rollout


def diversity(rollouts: Sequence[Rollout]) -> dict[str, set[str]]:
    """The different right solutions of every question, by their operations (the author's count); it may have none."""
    found: dict[str, set[str]] = {item.problem.id: set() for item in rollouts}
    for item in rollouts:
        if item.correct:
            found[item.problem.id].add(operations(item.text))
    return found
