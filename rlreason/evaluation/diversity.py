"""How different solutions are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from rlreason.answers.arithmetic import operations
from rlreason.types import Rollout


def diversity(rollouts: Sequence[Rollout]) -> dict[str, set[str]]:
    """The different solutions of every question, by their operations (the author's count)."""
    found: dict[str, set[str]] = defaultdict(set)
    for item in rollouts:
        found[item.problem.id].add(operations(item.text))
    return found
