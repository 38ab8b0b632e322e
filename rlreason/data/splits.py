"""Data sets as problems: what may be trained on, and what is only ever evaluated.

A run reads its data once, as `Data`. Training sees what `Data.training` gives, which holds no test question; the test
questions come out of `Data.measured` alone. The whole data set is checked first: unique ids, no empty split, and no
question in two splits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from rlreason.config.sections import DataConfig
from rlreason.data.base import bare, normalised
from rlreason.data.registry import DATASETS
from rlreason.errors import UserError
from rlreason.types import Problem

MOST_EXAMPLES_IN_MESSAGE = 3
LEARNED_FROM = ("train", "validation")


@dataclass(frozen=True)
class TrainingData:
    """What an algorithm may learn from."""

    train: tuple[Problem, ...]
    validation: tuple[Problem, ...]  # held out of training, to decide when to stop


@dataclass(frozen=True)
class Data:
    """A data set that was read and checked.

    Args:
        name: What the user calls it.
        splits: Its questions by split, cut to the sizes that were asked for.
        notes: What the user should know of how they were read, a line each.
    """

    name: str
    splits: Mapping[str, tuple[Problem, ...]]
    notes: tuple[str, ...]

    def training(self) -> TrainingData:
        """The training and validation questions, of which the test split shares none.

        Raises:
            UserError: The data set has none.
        """
        missing = [split for split in LEARNED_FROM if split not in self.splits]
        if missing:
            raise UserError(
                f"data={self.name} has no {' and no '.join(missing)} questions (there: {', '.join(self.splits)}), so "
                "models can be measured on it and not trained; use task=evaluate, or add training questions"
            )
        return TrainingData(*(self.splits[split] for split in LEARNED_FROM))

    def measured(self, split: str) -> tuple[Problem, ...]:
        """The questions that a model is measured on; the only way to the test questions.

        Args:
            split: "test", "validation", or "ood" where the data set has it.

        Raises:
            UserError: The data set has no such split.
        """
        if split == "train":
            raise UserError("eval.split=train: training questions measure nothing; choose test, validation or ood")
        if split not in self.splits:
            others = ", ".join(name for name in self.splits if name != "train") or "none; add test questions"
            raise UserError(f"eval.split={split}: data={self.name} has no such split; choose from: {others}")
        return self.splits[split]


def read_data(config: DataConfig) -> Data:
    """Read the data of a run.

    Raises:
        UserError: The data are missing, malformed or too few, or splits share a question.
    """
    found = DATASETS[config.name].splits(config)
    _check(found.problems, config)
    sizes = {
        "train": config.train_size,
        "validation": config.validation_size,
        "test": config.test_size,
        "ood": config.test_size,
    }
    for name, problems in found.problems.items():
        size = sizes[name]
        if size is not None and size > len(problems):
            raise UserError(
                f"data.{name}_size={size}: data={config.name} has only {len(problems)} {name} questions; "
                "lower it, or use null for all"
            )
    splits = {name: tuple(problems[: sizes[name]]) for name, problems in found.problems.items()}
    # Of templates all splits of generated data are made.
    resemblances = () if DATASETS[config.name].generated else _resemblances(splits)
    return Data(config.name, splits, (*found.notes, *resemblances))


def _check(splits: Mapping[str, Sequence[Problem]], config: DataConfig) -> None:
    """Refuse empty splits, repeated ids, and questions that two splits share."""
    for name, problems in splits.items():
        if not problems:
            raise UserError(f"data={config.name}: the {name} split is empty; use more data")
    where = "" if config.path is None else f" in data.path={config.path}"
    for one, other in combinations(splits, 2):
        known = {normalised(problem.question): problem.id for problem in splits[one]}
        shared = [
            problem.id if known[question] == problem.id else f"{known[question]} = {problem.id}"
            for problem in splits[other]
            if (question := normalised(problem.question)) in known
        ]
        if shared:
            raise UserError(
                f"data={config.name}: {one} and {other} share {len(shared)} questions (first: {_shown(shared)}); "
                f"remove the copies{where}"
            )
    counts = Counter(problem.id for problems in splits.values() for problem in problems)
    repeated = [identity for identity, count in counts.items() if count > 1]
    if repeated:
        raise UserError(
            f"data={config.name}: {len(repeated)} ids occur more than once (first: {_shown(repeated)}); "
            f"make them unique{where}"
        )


def _resemblances(splits: Mapping[str, Sequence[Problem]]) -> list[str]:
    """What is no copy and still no independent question: near-copies over splits, and clusters that lie in two."""
    notes = []
    forms = {name: {bare(problem.question): problem.id for problem in items} for name, items in splits.items()}
    clusters = {name: {item.cluster for item in items if item.cluster is not None} for name, items in splits.items()}
    for one, other in combinations(splits, 2):
        near = [f"{forms[one][form]} = {forms[other][form]}" for form in forms[one] if form in forms[other]]
        if near:
            notes.append(
                f"questions of {one} and {other} that are the same but for punctuation and symbols: {len(near):,} "
                f"(first: {_shown(near)})"
            )
        if shared := sorted(clusters[one] & clusters[other]):
            notes.append(f"clusters that lie in {one} and in {other}: {len(shared):,} (first: {_shown(shared)})")
    return notes


def _shown(items: Sequence[str]) -> str:
    return ", ".join(items[:MOST_EXAMPLES_IN_MESSAGE])
