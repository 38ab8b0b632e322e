"""Data sets as problems: what may be trained on, and what is only ever evaluated.

Training sees `training_data`, which holds no test question. The test questions come out of `evaluation_problems`
alone. Every access checks the whole data set first: unique ids, no empty split, no question in two splits.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

from rlreason.config.sections import DataConfig
from rlreason.data import gsm8k, gsm_symbolic, svamp, wordproblems
from rlreason.errors import UserError
from rlreason.types import Problem

Splits = dict[str, Sequence[Problem]]

# What data.train_size=null and data.test_size=null mean where questions are generated without end.
GENERATED_TRAIN_SIZE = 1500
GENERATED_TEST_SIZE = 400
MOST_EXAMPLES_IN_MESSAGE = 3


@dataclass(frozen=True)
class TrainingData:
    """What an algorithm may learn from.

    Args:
        train: Questions to train on.
        validation: Questions held out of training, to decide when to stop.
    """

    train: tuple[Problem, ...]
    validation: tuple[Problem, ...]


def training_data(config: DataConfig) -> TrainingData:
    """The training and validation questions.

    Args:
        config: Which data, where they are, how many.

    Returns:
        Both splits; neither shares a question with the test split.

    Raises:
        UserError: The data are missing, malformed or too few, or splits share a question.
    """
    splits = _checked_splits(config)
    return TrainingData(tuple(splits["train"]), tuple(splits["validation"]))


def evaluation_problems(config: DataConfig, split: str) -> tuple[Problem, ...]:
    """The questions that a model is measured on; the only way to the test questions.

    Args:
        config: Which data, where they are, how many.
        split: "test", "validation", or "ood" where the data set has it.

    Returns:
        The problems of the split.

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
    if config.name not in SOURCES:
        raise UserError(f"data.name={config.name!r} is unknown; choose from: {', '.join(SOURCES)}")
    splits = SOURCES[config.name](config)
    _check(splits, config)
    sizes = {"train": config.train_size, "test": config.test_size, "ood": config.test_size}
    return {name: _first(problems, sizes.get(name), name, config) for name, problems in splits.items()}


def _official(load: Callable[[str, str | None], list[Problem]], config: DataConfig) -> Splits:
    """The splits of a data set that comes with a training and a test split only, each shuffled by the data's seed.

    Validation is taken from the end of the shuffled training questions and `train_size` from their start, so that
    neither choice moves the other.
    """
    train = _shuffled(load("train", config.path), f"{config.seed}/train")
    test = _shuffled(load("test", config.path), f"{config.seed}/test")
    if config.validation_size >= len(train):
        raise UserError(
            f"data.validation_size={config.validation_size} leaves no training questions: data={config.name} has "
            f"{len(train)}; lower it"
        )
    return {"train": train[: -config.validation_size], "validation": train[-config.validation_size :], "test": test}


def _generated(
    generate: Callable[[str, int, int], list[Problem]], names: tuple[str, ...], config: DataConfig
) -> Splits:
    test_size = config.test_size or GENERATED_TEST_SIZE
    sizes = {
        "train": config.train_size or GENERATED_TRAIN_SIZE,
        "validation": config.validation_size,
        "test": test_size,
        "ood": test_size,
    }
    return {name: generate(name, sizes[name], config.seed) for name in names}


SOURCES: dict[str, Callable[[DataConfig], Splits]] = {
    "gsm8k": lambda config: _official(gsm8k.load, config),
    "svamp": lambda config: _official(svamp.load, config),
    "gsm_symbolic": lambda config: _generated(gsm_symbolic.generate, ("train", "validation", "test"), config),
    "wordproblems": lambda config: _generated(wordproblems.generate, ("train", "validation", "test", "ood"), config),
}


def _shuffled(problems: Sequence[Problem], seed: str) -> list[Problem]:
    return random.Random(seed).sample(problems, len(problems))


def _first(problems: Sequence[Problem], size: int | None, split: str, config: DataConfig) -> Sequence[Problem]:
    if size is not None and size > len(problems):
        raise UserError(
            f"data.{split}_size={size}: data={config.name} has only {len(problems)} {split} questions; "
            "lower it, or use null for all"
        )
    return problems[:size]


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
        known = {_normalised(problem.question): problem.id for problem in splits[one]}
        shared = [
            f"{known[question]} = {problem.id}"
            for problem in splits[other]
            if (question := _normalised(problem.question)) in known
        ]
        if shared:
            raise UserError(
                f"data={config.name}: {one} and {other} share {len(shared)} questions (first: {_shown(shared)}); "
                f"remove the copies{where}"
            )


def _shown(items: Sequence[str]) -> str:
    return ", ".join(items[:MOST_EXAMPLES_IN_MESSAGE])


def _normalised(question: str) -> str:
    """Equal for questions that differ in white space and case only."""
    return " ".join(question.casefold().split())
