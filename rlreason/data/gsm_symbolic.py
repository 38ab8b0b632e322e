"""GSM-Symbolic: GSM8K's questions as templates with fresh names and numbers, through `reasoning_gym`.

As in `wordproblems`, a problem's split follows from a hash of its skeleton, here its numbers and its answer. So
questions that differ in names only are never on both sides, whatever the sizes and the seeds.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from rlreason.answers.extraction import split_solution
from rlreason.config.sections import DataConfig
from rlreason.data.base import DataFacts, Dataset, generated, hash_of, hashed_split, normalised
from rlreason.errors import UserError
from rlreason.types import Problem

SPLIT_SHARES = {"train": 70, "validation": 10, "test": 20}
CHUNK_SIZE = 1000


def generate(split: str, size: int, seed: int) -> list[Problem]:
    """Make `size` different problems of one split ("train", "validation" or "test"), in the order of drawing.

    A larger size with the same seed extends the list.

    Raises:
        ValueError: The split is unknown.
        UserError: The templates cannot give that many.
    """
    if split not in SPLIT_SHARES:
        raise ValueError(f"unknown split {split!r}")
    problems: dict[str, Problem] = {}
    for chunk in _chunks(split, seed):
        before = len(problems)
        for problem in chunk:
            problems.setdefault(normalised(problem.question), problem)
        if len(problems) >= size:
            return list(problems.values())[:size]
        if len(problems) == before:
            raise UserError(f"data=gsm_symbolic has no more than {before} {split} questions; ask for at most as many")
    raise AssertionError("the chunks never end")


def _chunks(split: str, seed: int) -> Iterator[list[Problem]]:
    """Problems of the split, `CHUNK_SIZE` draws at a time, without end."""
    import reasoning_gym

    number = 0
    while True:
        # The library seeds its i-th problem with seed + i: only seeds far apart give different problems.
        drawn = reasoning_gym.create_dataset("gsm_symbolic", seed=hash_of(f"{seed}/{split}/{number}"), size=CHUNK_SIZE)
        entries = ((drawn[index], drawn.task_indices[index]) for index in range(CHUNK_SIZE))
        yield [
            _problem(entry, template)
            for entry, template in entries
            if split_of(entry["question"], entry["answer"]) == split
        ]
        number += 1


def split_of(question: str, answer: str) -> str:
    """The split that a problem belongs to, by a hash of its numbers and its answer."""
    # Not the numbers of `rlreason.answers`: another reading would move questions to other splits.
    return hashed_split(" ".join([*re.findall(r"\d+(?:\.\d+)?", question), answer]), SPLIT_SHARES)


def _problem(entry: dict[str, Any], template: int) -> Problem:
    question = entry["question"].strip()
    steps, _ = split_solution(entry["metadata"]["answer_cot"])
    identity = "gsm_symbolic-" + hashlib.sha256(question.encode()).hexdigest()[:12]
    return Problem(identity, question, entry["answer"], steps, cluster=f"template-{template}")


GSM_SYMBOLIC = Dataset(
    settings=DataConfig,
    title="GSM-Symbolic",
    splits=partial(generated, generate, ("train", "validation", "test")),
    generated=True,
    solutions=True,
    other_kind=False,
    facts=DataFacts(0, 0, 74.9, 155, 95.1, 260, 3.57),
    hub_name=None,
    licence=None,
)
