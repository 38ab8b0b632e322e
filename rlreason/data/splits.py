"""Data sets as problems: what may be trained on, and what is only ever evaluated.

Training sees `training_data`, which holds no test question. The test questions come out of `evaluation_problems`
alone. Every access checks the whole data set first: unique ids, no empty split, no question in two splits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from rlreason.config.sections import DataConfig
from rlreason.data.base import Splits, normalised
from rlreason.data.registry import DATASETS
from rlreason.errors import UserError
from rlreason.types import Problem

MOST_EXAMPLES_IN_MESSAGE = 3


@dataclass(frozen=True)
class TrainingData:
    """What an algorithm may learn from."""

    train: tuple[Problem, ...]
    validation: tuple[Problem, ...]  # held out of training, to decide when to stop


def training_data(config: DataConfig) -> TrainingData:
    """The training and validation questions, of which the test split shares none.

    Raises:
        UserError: The data are missing, malformed or too few, or splits share a question.
    """
    splits = _checked_splits(config)
    return TrainingData(tuple(splits["train"]), tuple(splits["validation"]))


def evaluation_problems(config: DataConfig, split: str) -> tuple[Problem, ...]:
    """The questions that a model is measured on; the only way to the test questions.

    `split` is "test", "validation", or "ood" where the data set has it.

    Raises:
        UserError: The data set has no such split, or its data are missing, malformed, too few or shared by splits.
    """
    if split == "train":
        raise UserError("eval.split=train: training questions measure nothing; choose test, validation or ood")
    splits = _checked_splits(config)
    if split not in splits:
        others = ", ".join(name for name in splits if name != "train")
        raise UserError(f"eval.split={split}: data={config.name} has no such split; choose from: {others}")
    return tuple(splits[split])


def _checked_splits(config: DataConfig) -> Splits:
    splits = DATASETS[config.name].splits(config)
    _check(splits, config)
    sizes = {"train": config.train_size, "test": config.test_size, "ood": config.test_size}
    for name, problems in splits.items():
        size = sizes.get(name)
        if size is not None and size > len(problems):
            raise UserError(
                f"data.{name}_size={size}: data={config.name} has only {len(problems)} {name} questions; "
                "lower it, or use null for all"
            )
    return {name: problems[: sizes.get(name)] for name, problems in splits.items()}


def _check(splits: Splits, config: DataConfig) -> None:
    """Refuse empty splits, repeated ids, and questions that two splits share."""
    for name, problems in splits.items():
        if not problems:
            raise UserError(f"data={config.name}: the {name} split is empty; use more data")
    where = "" if config.path is None else f" in data.path={config.path}"
    counts = Counter(problem.id for problems in splits.values() for problem in problems)
    repeated = [identity for identity, count in counts.items() if count > 1]
    if repeated:
        raise UserError(
            f"data={config.name}: {len(repeated)} ids occur more than once (first: {_shown(repeated)}); "
            f"make them unique{where}"
        )
    for one, other in combinations(splits, 2):
        known = {normalised(problem.question): problem.id for problem in splits[one]}
        shared = [
            f"{known[question]} = {problem.id}"
            for problem in splits[other]
            if (question := normalised(problem.question)) in known
        ]
        if shared:
            raise UserError(
                f"data={config.name}: {one} and {other} share {len(shared)} questions (first: {_shown(shared)}); "
                f"remove the copies{where}"
            )


def _shown(items: Sequence[str]) -> str:
    return ", ".join(items[:MOST_EXAMPLES_IN_MESSAGE])
