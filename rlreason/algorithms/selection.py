"""Which checkpoint a run ends with: one grid of candidates and one rule, for every algorithm, on validation questions.

A rule of its own for each algorithm would be part of the comparison: one that stops at the first round without a gain,
say, ends lower than one that looks at every checkpoint, whatever the two have learned (docs/log.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from rlreason.algorithms.base import Trained
from rlreason.config.updates import CANDIDATES


def candidates(evaluations: int, batches: int) -> list[int]:
    """After which batches a checkpoint is taken, in order, the last at the end.

    Args:
        evaluations: How many of `CANDIDATES` there are to be; those nearest to the end.
        batches: In all; where they are few, candidates fall together.
    """
    return sorted({max(1, round(share * batches)) for share in CANDIDATES[-evaluations:]})


def chosen(accuracies: Mapping[Path, float], questions: int) -> Path:
    """The latest checkpoint whose validation accuracy is within one standard error of the best.

    A later one has learned from more samples; a difference that small on so few questions is no reason against it.

    Args:
        accuracies: Accuracies of the checkpoints, in the order of training, the starting one first.
        questions: How many validation questions there are.
    """
    best = max(accuracies.values())
    enough = best - math.sqrt(best * (1 - best) / questions)
    return [folder for folder, accuracy in accuracies.items() if accuracy >= enough][-1]


def ended(accuracies: Mapping[Path, float], questions: int, samples_seen: int, ending: str) -> Trained:
    """What an algorithm ends with: the selected checkpoint, and the last one beside it.

    Args:
        accuracies: As for `chosen`.
        questions: How many validation questions there are.
        samples_seen: Rollouts sampled for training.
        ending: In words, why training ended.
    """
    policy, last = chosen(accuracies, questions), list(accuracies)[-1]
    first = next(iter(accuracies.values()))
    verdict = f"{ending}; validation maj@1 went from {first:.3f} to {accuracies[policy]:.3f}"
    if policy != last:
        verdict += f" in the selected checkpoint; the last one has {accuracies[last]:.3f}"
    return Trained(policy, last, samples_seen, verdict)
