"""What a data set is: its questions by split, and every fact that the program asks for."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlreason.config.sections import DataConfig
from rlreason.errors import UserError
from rlreason.types import Problem

Splits = dict[str, Sequence[Problem]]

# What data.train_size=null and data.test_size=null mean where questions are generated without end.
GENERATED_TRAIN_SIZE = 1500
GENERATED_TEST_SIZE = 400


@dataclass(frozen=True, slots=True)
class DataFacts:
    """How many questions a data set has and how long they are, for plans that read nothing.

    Counted with the tokeniser of SmolLM2 (the embedded one for wordproblems) on the training questions; other
    tokenisers differ by some ten percent.
    """

    training: int  # questions, those of validation included; 0 for generated data
    test: int  # questions; 0 for generated data
    question: float  # mean tokens
    longest_question: int  # tokens
    solution: float  # mean tokens
    longest_solution: int  # tokens
    steps: float  # mean lines of a solution, the answer's not included


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Everything that the program knows about a data set.

    Args:
        settings: The dataclass of its section of the configuration.
        title: In tables and figures.
        splits: Its questions by split, of a section `data`: "train", "validation", "test", and "ood" where it has
            questions of another kind.
        generated: Whether its questions are made from a seed, so that there are no files.
        solutions: Whether its questions have worked solutions.
        other_kind: Whether it has questions of another kind than its training questions.
        facts: Its numbers of questions and their lengths; None: unknown.
        hub_name: Its name on the Hub; None where it is not there.
        licence: Its licence, as the Hub writes licences; None: unknown.
    """

    settings: type[DataConfig]
    title: str
    splits: Callable[[Any], Splits]
    generated: bool
    solutions: bool
    other_kind: bool
    facts: DataFacts | None
    hub_name: str | None
    licence: str | None


def official(load: Callable[[str, str | None], list[Problem]], config: DataConfig) -> Splits:
    """The splits of a data set that comes with a training and a test split only, each shuffled by the data's seed.

    Validation is taken from the end of the shuffled training questions and `train_size` from their start, so that
    neither choice moves the other.

    Raises:
        UserError: Validation would leave no training questions.
    """
    train = _shuffled(load("train", config.path), f"{config.seed}/train")
    test = _shuffled(load("test", config.path), f"{config.seed}/test")
    if config.validation_size >= len(train):
        raise UserError(
            f"data.validation_size={config.validation_size} leaves no training questions: data={config.name} has "
            f"{len(train)}; lower it"
        )
    return {"train": train[: -config.validation_size], "validation": train[-config.validation_size :], "test": test}


def generated(generate: Callable[[str, int, int], list[Problem]], names: Sequence[str], config: DataConfig) -> Splits:
    """The splits of a data set that is made from a seed, by `generate(split, size, seed)`."""
    test_size = config.test_size or GENERATED_TEST_SIZE
    sizes = {
        "train": config.train_size or GENERATED_TRAIN_SIZE,
        "validation": config.validation_size,
        "test": test_size,
        "ood": test_size,
    }
    return {name: generate(name, sizes[name], config.seed) for name in names}


def hashed_split(skeleton: str, shares: Mapping[str, int]) -> str:
    """The split that a generated problem belongs to, by a hash of its skeleton; `shares` in percent add up to 100."""
    point = hash_of(skeleton) % 100
    for split, share in shares.items():
        if point < share:
            return split
        point -= share
    raise ValueError(f"the shares of the splits do not add up to 100: {dict(shares)}")


def hash_of(text: str) -> int:
    """A hash of 64 bits that is the same in every process."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def normalised(question: str) -> str:
    """Equal for questions that differ in white space and case only."""
    return " ".join(question.casefold().split())


def training_questions(config: DataConfig, dataset: Dataset) -> int | None:
    """How many training questions a section `data`, which chose the row `dataset`, gives; None: unknown."""
    known = None if dataset.facts is None or dataset.generated else dataset.facts.training - config.validation_size
    if config.train_size is not None:
        return config.train_size if known is None else min(config.train_size, known)
    return GENERATED_TRAIN_SIZE if dataset.generated else known


def _shuffled(problems: Sequence[Problem], seed: str) -> list[Problem]:
    return random.Random(seed).sample(problems, len(problems))
