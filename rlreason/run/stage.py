"""The stages of a run: what is done once, and what it is called. Names are made here and parsed nowhere.

A stage's name stands in the journal, in the names of its files and in the seeds of its samples; what kind of stage it
is and which number it has stands beside the name.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

# Checkpoints that are evaluated besides those of rounds: the start, the selected one, the last one where that is
# another, and a control experiment.
INIT, FINAL, LAST, CONTROL = "init", "final", "last", "asked-for-bad"
# What names, in the place of a split, that the first and the last policy are measured on other questions, or otherwise.
ELSEWHERE, SECOND_PROMPT = "ood", "second-prompt"


class Kind(StrEnum):
    """What a stage does."""

    ROLLOUTS = "rollouts"  # training rollouts of the policy
    ORM_ROLLOUTS = "orm-rollouts"  # solutions that an outcome reward model learns from
    EVALUATION = "evaluation"  # rollouts that measure a policy
    SCORES = "scores"
    UPDATE = "update"
    LOG = "log"
    SHARED = "shared"  # made once for all runs, or taken from the cache
    RESULT = "result"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage."""

    name: str  # unique in its run
    kind: Kind
    number: int = 0  # of its round or batch, from 1; 0 where there is only one
    checkpoint: str = ""  # that an evaluation measures, such as "init" or "round-2"
    split: str = ""  # of an evaluation's questions


ON_POLICY_TRAINING = Stage("train-online", Kind.UPDATE)  # all batches together
ORM_UPDATE = Stage("train-orm", Kind.UPDATE)
ORM_CALIBRATION = Stage("calibrated", Kind.UPDATE)  # completes an outcome reward model
RESULT = Stage("result", Kind.RESULT)


def checkpoint_of_round(number: int) -> str:
    """The checkpoint after a round, or after a share of on-policy training; "init" for number 0."""
    return f"round-{number}" if number else INIT


def sampling_round(number: int) -> Stage:
    """The training rollouts of a round."""
    return Stage(f"round-{number}", Kind.ROLLOUTS, number)


def sampling_batch(number: int) -> Stage:
    """The training rollouts of a batch of on-policy training."""
    return Stage(f"batch-{number:05d}", Kind.ROLLOUTS, number)


def orm_solutions(purpose: str) -> Stage:
    """The solutions that train or calibrate an outcome reward model, or continue a part of one."""
    return Stage(f"orm-{purpose}", Kind.ORM_ROLLOUTS, 1)


def selection(checkpoint: str, number: int) -> Stage:
    """Greedy rollouts on the validation questions, by which checkpoints are selected."""
    return Stage(f"validation-{checkpoint}", Kind.EVALUATION, number, checkpoint, "validation")


def greedy(split: str, checkpoint: str, number: int = 0) -> Stage:
    """Greedy rollouts that measure a checkpoint."""
    return Stage(f"{evaluation(split, checkpoint)}-greedy", Kind.EVALUATION, number, checkpoint, split)


def sampled(split: str, checkpoint: str, number: int = 0) -> Stage:
    """Rollouts at the sampling temperature that measure a checkpoint."""
    return Stage(f"{evaluation(split, checkpoint)}-sampled", Kind.EVALUATION, number, checkpoint, split)


def evaluation(split: str, checkpoint: str) -> str:
    """Name of what an evaluation keeps on every problem."""
    return f"{split}-{checkpoint}"


def scores(of: Stage) -> Stage:
    """An outcome reward model's scores of a stage's rollouts."""
    return Stage(f"scores-{of.name}", Kind.SCORES, of.number)


def update(number: int) -> Stage:
    """The supervised update of a round."""
    return Stage(f"train-round-{number}", Kind.UPDATE, number)


def shared(name: str) -> Stage:
    """What is made once for all runs: "sft" or "orm"."""
    return Stage(name, Kind.SHARED)


def measurement(checkpoint: str) -> str:
    """What the log calls the metrics of a checkpoint."""
    return f"evaluate-{checkpoint}"


def log_of(what: str) -> Stage:
    """The metrics of something, written once."""
    return Stage(f"log-{what}", Kind.LOG)
