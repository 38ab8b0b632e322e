"""What a data set is: its questions by split, and every fact that the program asks for."""

from __future__ import annotations

import hashlib
import json
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlreason.config.sections import DataConfig
from rlreason.errors import UserError
from rlreason.types import Problem

# What data.train_size=null and data.test_size=null mean where questions are generated without end.
GENERATED_TRAIN_SIZE = 1500
GENERATED_TEST_SIZE = 400


@dataclass(frozen=True)
class Splits:
    """The questions of a data set, before they are checked and cut to size.

    Args:
        problems: By split: "train", "validation", "test", and "ood" where there are questions of another kind. A split
            that is not there is left out.
        notes: What the user should know of how they were read, a line each.
    """

    problems: Mapping[str, Sequence[Problem]]
    notes: Sequence[str] = ()


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
        splits: Its questions by split, of a section `data`.
        generated: Whether its questions are made from a seed, so that there are no files.
        solutions: Whether its questions have worked solutions, or may have: then that is seen when they are read.
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
    neither choice moves the other. Copies are gone before, so that no seed divides them. A split that `load` gives no
    question of is left out.

    Raises:
        UserError: Validation would leave no training questions.
    """
    return from_two_splits(load("train", config.path), load("test", config.path), config)


def from_two_splits(training: Sequence[Problem], tests: Sequence[Problem], config: DataConfig) -> Splits:
    """As `official`, from problems that have been loaded."""
    size = held_out(config)
    train, train_notes = without_copies(training, "train")
    test, test_notes = without_copies(tests, "test")
    if train and size >= len(train):
        raise UserError(
            f"data.validation_size={size} leaves no training questions: data={config.name} has {len(train)}; lower it"
        )
    train, test = _shuffled(train, f"{config.seed}/train"), _shuffled(test, f"{config.seed}/test")
    found = {"train": train[:-size], "validation": train[-size:], "test": test}
    return Splits({name: problems for name, problems in found.items() if problems}, (*train_notes, *test_notes))


def generated(generate: Callable[[str, int, int], list[Problem]], names: Sequence[str], config: DataConfig) -> Splits:
    """The splits of a data set that is made from a seed, by `generate(split, size, seed)`."""
    test_size = config.test_size or GENERATED_TEST_SIZE
    sizes = {
        "train": config.train_size or GENERATED_TRAIN_SIZE,
        "validation": held_out(config),
        "test": test_size,
        "ood": test_size,
    }
    return Splits({name: generate(name, sizes[name], config.seed) for name in names})


def held_out(config: DataConfig) -> int:
    """How many questions `data.validation_size` holds out of training.

    Raises:
        UserError: It is null, and the data set has no validation split of its own.
    """
    if config.validation_size is None:
        raise UserError(
            f"data.validation_size=null: data={config.name} has no validation split of its own; give a number of "
            "training questions to hold out"
        )
    return config.validation_size


def without_copies(problems: Sequence[Problem], split: str) -> tuple[list[Problem], list[str]]:
    """Problems of which none has the question of another one, and a line that says how many were left out.

    Of copies with different answers one with the most frequent answer stays. Which one does not depend on their order.
    """
    copies: dict[str, list[Problem]] = {}
    for problem in problems:
        copies.setdefault(normalised(problem.question), []).append(problem)
    left_out = len(problems) - len(copies)
    disagreeing = sum(len({item.answer for item in group}) > 1 for group in copies.values())
    note = f"{split}: rows left out, for their questions stand there already: {left_out:,}"
    if disagreeing:
        note += f" (questions with several answers, of which the most frequent one counts: {disagreeing:,})"
    return [_one_of(group) for group in copies.values()], [note] if left_out else []


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


def bare(question: str) -> str:
    """Equal for questions that differ in nothing but case, white space, punctuation and symbols."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", question).casefold()) or normalised(question)


def training_questions(config: DataConfig, dataset: Dataset) -> int | None:
    """How many training questions a section `data`, which chose the row `dataset`, gives; None: unknown."""
    known = None if dataset.facts is None or dataset.generated else dataset.facts.training - held_out(config)
    if config.train_size is not None:
        return config.train_size if known is None else min(config.train_size, known)
    return GENERATED_TRAIN_SIZE if dataset.generated else known


def _one_of(copies: Sequence[Problem]) -> Problem:
    if len(copies) == 1:
        return copies[0]
    counts = Counter(item.answer for item in copies)
    most = [item for item in copies if counts[item.answer] == max(counts.values())]

    def key(item: Problem) -> tuple[Any, ...]:
        columns = json.dumps(item.columns, sort_keys=True, default=str)
        return item.answer, item.question, item.steps, item.cluster or "", columns

    return min(most, key=key)


def _shuffled(problems: Sequence[Problem], seed: str) -> list[Problem]:
    return random.Random(seed).sample(problems, len(problems))
