"""Word problems made from a seed: several steps of arithmetic, in varied wording, each with a worked solution.

A problem is a chain of operations on one person's things or from one person to the next. Its *skeleton* (the
operations and their numbers, without names and wording) decides its split by a hash, so that no two splits share
a problem even under other names, whatever the sizes and the seed. The split `pretrain` feeds the embedded
models; `ood` has more steps than any other split.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from functools import partial

from rlreason.config.sections import DataConfig
from rlreason.data.base import DataFacts, Dataset, generated, hashed_split
from rlreason.types import Problem

NAMES = tuple("Tom Ana Ben Mia Sam Eva Leo Ida Max Zoe Dan Lea Jon Amy Tim Una".split())  # noqa: SIM905
THINGS = tuple(
    "apples books coins cards pens shells stamps marbles cookies eggs toys beads rocks balls keys nuts".split()  # noqa: SIM905
)
SPLIT_SHARES = {"pretrain": 50, "train": 30, "validation": 10, "test": 10}
TRAINING_STEPS = (2, 4)
OUT_OF_DISTRIBUTION_STEPS = (5, 6)
LARGEST_VALUE = 99
LARGEST_TERM = 20
LARGEST_FACTOR = 5

START_SENTENCES = (
    "{subject} has {value} {things}.",
    "{subject} starts with {value} {things}.",
    "There are {value} {things} in the bag of {subject}.",
)
QUESTION_SENTENCES = (
    "How many {things} does {subject} have now?",
    "How many {things} does {subject} have in the end?",
    "Find the number of {things} that {subject} has.",
)
TOGETHER_SENTENCES = (
    "How many {things} do {previous} and {subject} have together?",
    "How many {things} do {previous} and {subject} have in all?",
)


@dataclass(frozen=True)
class Operation:
    """One kind of step."""

    symbol: str  # the arithmetic operator of its equation
    changes_subject: bool  # whether its result belongs to another person than its input
    sentences: tuple[str, ...]  # its wordings in the question


OPERATIONS = {
    "gain": Operation(
        "+",
        False,
        (
            "{subject} buys {term} more.",
            "Then {subject} finds {term} more {things}.",
            "{other} gives {subject} {term} {things}.",
        ),
    ),
    "loss": Operation(
        "-",
        False,
        (
            "{subject} gives {term} {things} to {other}.",
            "Then {subject} loses {term} of them.",
            "{subject} sells {term} {things}.",
        ),
    ),
    "more": Operation(
        "+", True, ("{other} has {term} more {things} than {subject}.", "{other} has {term} more than {subject} has.")
    ),
    "fewer": Operation(
        "-", True, ("{other} has {term} fewer {things} than {subject}.", "{other} has {term} fewer than {subject} has.")
    ),
    "times": Operation(
        "*",
        True,
        ("{other} has {term} times as many {things} as {subject}.", "{other} has {term} times what {subject} has."),
    ),
    "share": Operation(
        "/",
        True,
        (
            "{subject} packs them in {term} equal boxes and gives one box to {other}.",
            "{subject} makes {term} equal piles and {other} takes one pile.",
        ),
    ),
}


def generate(split: str, size: int, seed: int) -> list[Problem]:
    """Make `size` different problems of a split (one of `SPLIT_SHARES`, or "ood"), in the order of drawing.

    A larger size with the same seed extends the list.

    Raises:
        ValueError: The split is unknown.
    """
    if split not in (*SPLIT_SHARES, "ood"):
        raise ValueError(f"unknown split {split!r}")
    rng = random.Random(f"{seed}/{split}")
    fewest, most = OUT_OF_DISTRIBUTION_STEPS if split == "ood" else TRAINING_STEPS
    problems: dict[str, Problem] = {}
    while len(problems) < size:
        skeleton, problem = _draw(rng, rng.randint(fewest, most))
        if split == "ood" or hashed_split(skeleton, SPLIT_SHARES) == split:
            problems.setdefault(problem.question, problem)
    return list(problems.values())


def _draw(rng: random.Random, steps: int) -> tuple[str, Problem]:
    """One problem with `steps` steps, and its skeleton."""
    things = rng.choice(THINGS)
    subject, *others = rng.sample(NAMES, steps + 2)
    start = value = rng.randint(2, 30)
    sentences = [rng.choice(START_SENTENCES).format(subject=subject, value=value, things=things)]
    skeleton = [str(start)]
    lines: list[str] = []
    previous: tuple[str, int] | None = None
    while len(lines) < steps:
        last = len(lines) == steps - 1
        if last and previous is not None and previous[1] + value <= LARGEST_VALUE and rng.random() < 0.5:
            total = previous[1] + value
            lines.append(f"{previous[1]}+{value}={total}")
            question = rng.choice(TOGETHER_SENTENCES).format(things=things, previous=previous[0], subject=subject)
            skeleton.append("together")
            value = total
            break
        kind = rng.choice([name for name in OPERATIONS if _terms(name, value)])
        operation, term, other = OPERATIONS[kind], rng.choice(_terms(kind, value)), others.pop()
        sentence = rng.choice(operation.sentences)
        sentences.append(sentence.format(subject=subject, other=other, term=term, things=things))
        result = _apply(operation.symbol, value, term)
        keeps_things = operation.changes_subject and kind != "share"
        previous = (subject, value) if keeps_things else None
        subject = other if operation.changes_subject else subject
        lines.append(f"{value}{operation.symbol}{term}={result}")
        skeleton.append(f"{kind} {term}")
        value = result
    else:
        question = rng.choice(QUESTION_SENTENCES).format(things=things, subject=subject)
    text = " ".join([*sentences, question])
    identity = "wordproblems-" + hashlib.sha256(text.encode()).hexdigest()[:12]
    return " ".join(skeleton), Problem(identity, text, str(value), tuple(lines))


def _terms(kind: str, value: int) -> list[int]:
    """The second operands that keep the result a whole number from 1 to `LARGEST_VALUE`."""
    symbol = OPERATIONS[kind].symbol
    if symbol == "+":
        return list(range(2, min(LARGEST_TERM, LARGEST_VALUE - value) + 1))
    if symbol == "-":
        return list(range(2, min(LARGEST_TERM, value - 1) + 1))
    if symbol == "*":
        return [factor for factor in range(2, LARGEST_FACTOR + 1) if value * factor <= LARGEST_VALUE]
    return [divisor for divisor in range(2, LARGEST_FACTOR + 1) if value % divisor == 0]


def _apply(symbol: str, value: int, term: int) -> int:
    return {"+": value + term, "-": value - term, "*": value * term, "/": value // term}[symbol]


WORD_PROBLEMS = Dataset(
    settings=DataConfig,
    title="word problems",
    splits=partial(generated, generate, ("train", "validation", "test", "ood")),
    generated=True,
    solutions=True,
    other_kind=True,
    facts=DataFacts(0, 0, 45.7, 69, 27.0, 40, 3.0),
    hub_name=None,
    licence="apache-2.0",
)
