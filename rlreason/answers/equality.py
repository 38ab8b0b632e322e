"""Which answers are equal: one relation, by which solutions are graded and by which votes are counted.

Plain numbers are compared exactly and fast, other answers by their words. What that leaves open goes to math-verify,
in subprocesses that can be killed (see :mod:`rlreason.answers.worker`), because a solution is text from a model and
may be built to hang a parser.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import TypeVar

from rlreason.answers.extraction import bare_answer, extract_answer
from rlreason.answers.numbers import MAX_ANSWER_CHARACTERS, AnswerNumber, answer_number

Question = TypeVar("Question")
Reply = TypeVar("Reply")

_MAX_WORKERS = 8
_RIGHT = "right"  # no name of a wrong answer: that of a word begins with "words"
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_LATEX_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_PLAIN_TEXT = r"\1"
_ASSIGNMENT = re.compile(r"^\s*[A-Za-z]\s*=")
_OTHER_BASE = re.compile(r"[0-9]\s*_")  # math-verify reads 52_8 as 52
# Words of an expression, and how many others make it a sentence.
_FUNCTIONS = frozenset(("sin", "cos", "tan", "log", "ln", "exp", "sqrt", "pi", "or", "and", "frac"))
_PROSE_WORDS = 3


def grade(texts: Sequence[str], golds: Sequence[str]) -> list[bool]:
    """Whether each solution is right, in order; one without an answer is wrong.

    Units and currencies are not compared. A number with a percent sign equals the same number without one, and
    also its hundredth part without one.

    Args:
        texts: Whole solutions.
        golds: The right answer to each, bare or as the end of a reference solution.

    Raises:
        ValueError: There are not as many golds as texts.
    """
    verdicts: list[bool] = []
    undecided: dict[tuple[str, str], list[int]] = {}
    for index, (text, gold) in enumerate(zip(texts, golds, strict=True)):
        answer = extract_answer(text)
        verdict = False if answer is None else _quick_verdict(answer, gold)
        verdicts.append(bool(verdict))
        if answer is not None and verdict is None:
            undecided.setdefault((answer, _gold_answer(gold)), []).append(index)
    if undecided:
        for indices, verdict in zip(undecided.values(), _slow_verdicts(list(undecided)), strict=True):
            for index in indices:
                verdicts[index] = verdict
    return verdicts


def votes(answers: Sequence[str | None], correct: Sequence[bool]) -> list[str | None]:
    """What the samples of one problem vote for: one name for every group of equal answers.

    All right answers are one group, since each equals the gold answer, and none of them is grouped with a wrong one.
    Wrong answers are grouped as `grade` would find them equal: numbers by their value, words by themselves without
    regard to case, expressions by the value that math-verify reads. Where that relation is not transitive a group is
    as large as it can be: a percentage equals two numbers that differ, and votes for its hundredth part if that is
    there and for the number before its sign otherwise; "x = 5" and "y = 5" both vote for 5.

    Args:
        answers: Answers as `extract_answer` returns them, None for no answer; shape `(samples,)`.
        correct: Whether each is right; shape `(samples,)`.

    Returns:
        A name for every sample, None where there is no answer; equal names are one vote. Names mean nothing across
        problems. Shape `(samples,)`.

    Raises:
        ValueError: The lengths differ.
    """
    return votes_of_problems([(answers, correct)])[0]


def votes_of_problems(
    samples: Sequence[tuple[Sequence[str | None], Sequence[bool]]],
) -> list[list[str | None]]:
    """`votes` of many problems, which asks math-verify about each different expression once.

    Args:
        samples: The answers to each problem, and whether they are right.

    Returns:
        `votes` of every problem, in order.

    Raises:
        ValueError: A problem has not as many answers as verdicts.
    """
    wrong: list[set[str]] = [
        {answer for answer, right in zip(*problem, strict=True) if answer is not None and not right}
        for problem in samples
    ]
    # Where all wrong answers are one text, nothing can be equal to it.
    asked = {answer for answers in wrong if len(answers) > 1 for answer in answers if _is_expression(answer)}
    values = _values(sorted(asked))
    found: list[list[str | None]] = []
    for (answers, correct), different in zip(samples, wrong, strict=True):
        names = {answer: values.get(answer) or _own_name(answer) for answer in different}
        present = set(names.values())
        names = {answer: _without_percent(name, present) for answer, name in names.items()}
        found.append(
            [
                None if answer is None else _RIGHT if right else names[answer]
                for answer, right in zip(answers, correct, strict=True)
            ]
        )
    return found


@lru_cache(maxsize=65536)
def _own_name(answer: str) -> str:
    """A name of a wrong answer that needs no math-verify: of its number, or of its words."""
    number = _assigned_number(answer)
    if number is not None:
        return f"{number.value}%" if number.is_percent else str(number.value)
    return f"words {_words(_LATEX_TEXT.sub(_PLAIN_TEXT, answer)).casefold()}"


@lru_cache(maxsize=65536)
def _is_expression(answer: str) -> bool:
    """Whether math-verify is to be asked what an answer is worth: not for numbers, nor for prose.

    A base model often ends in prose, and asking about each such end would take most of the time.
    """
    if len(answer) > MAX_ANSWER_CHARACTERS or _assigned_number(answer) is not None or _OTHER_BASE.search(answer):
        return False
    words = [word for word in _WORD.findall(answer) if word not in _FUNCTIONS]
    return len(words) < _PROSE_WORDS if any(character.isdigit() for character in answer) else not words


def _assigned_number(answer: str) -> AnswerNumber | None:
    """The number that an answer is, or that it gives to one letter."""
    return answer_number(_ASSIGNMENT.sub("", answer, count=1))


def _without_percent(name: str, present: set[str]) -> str:
    """The name that a percentage votes for."""
    if not name.endswith("%"):
        return name
    number = name.removesuffix("%")
    try:
        hundredth = str(Fraction(number) / 100)
    except ValueError:  # a percentage of no plain number
        return number
    return hundredth if hundredth in present else number


def _quick_verdict(answer: str, gold: str) -> bool | None:
    """Compares without math-verify; None if that cannot decide."""
    number, gold_number = answer_number(answer), _gold_number(gold)
    if number is not None and gold_number is not None:
        return _are_equal(number, gold_number)
    gold_answer = _gold_answer(gold)
    if _words(answer) == _words(gold_answer):
        return True
    if max(len(answer), len(gold_answer)) > MAX_ANSWER_CHARACTERS:
        return False
    # A base model often ends in prose, and asking math-verify about each such end would take most of the time.
    if gold_number is not None and not any(character.isdigit() for character in answer):
        return False
    return None


def _slow_verdicts(pairs: list[tuple[str, str]]) -> list[bool]:
    from rlreason.answers.worker import are_equivalent

    return _in_parallel(lambda pair: are_equivalent(*pair), pairs)


def _values(expressions: Sequence[str]) -> dict[str, str | None]:
    """The names of the values of expressions, None for one that math-verify cannot read."""
    return dict(zip(expressions, _in_parallel(_value, expressions), strict=True))


@lru_cache(maxsize=65536)
def _value(expression: str) -> str | None:
    from rlreason.answers.worker import value_name

    return value_name(expression)


def _in_parallel(ask: Callable[[Question], Reply], questions: Sequence[Question]) -> list[Reply]:
    """Asks the workers, several of them at once."""
    from concurrent.futures import ThreadPoolExecutor

    if not questions:
        return []
    workers = min(len(os.sched_getaffinity(0)), _MAX_WORKERS, len(questions))
    with ThreadPoolExecutor(workers) as executor:
        return list(executor.map(ask, questions))


def _are_equal(first: AnswerNumber, second: AnswerNumber) -> bool:
    if first.value == second.value:
        return True
    if first.is_percent == second.is_percent:
        return False
    return first.value == second.value * 100 if first.is_percent else first.value * 100 == second.value


def _words(answer: str) -> str:
    return " ".join(answer.split())


@lru_cache(maxsize=65536)
def _gold_answer(gold: str) -> str:
    return gold if gold.isdecimal() else extract_answer(gold) or bare_answer(gold)


@lru_cache(maxsize=65536)
def _gold_number(gold: str) -> AnswerNumber | None:
    return answer_number(_gold_answer(gold))
