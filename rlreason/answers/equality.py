"""Which answers are equal: one relation, by which solutions are graded and by which votes are counted.

Plain numbers are compared exactly and fast, other answers by their words. Where the right answer is a plain number,
an answer has to state one too: "9 * 2" leaves the arithmetic undone, and to pay for it would teach just that. What is
left open goes to math-verify, in subprocesses that can be killed (see :mod:`rlreason.answers.worker`), because a
solution is text from a model and may be built to hang a parser.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple, TypeVar

from rlreason.answers.arithmetic import EQUALS, exact_value
from rlreason.answers.extraction import bare_answer, extract_answer
from rlreason.answers.numbers import (
    LATEX_TEXT,
    MAX_ANSWER_CHARACTERS,
    AnswerNumber,
    answer_number,
    based_number,
    has_base,
)
from rlreason.answers.spelling import plain_text

Question = TypeVar("Question")
Reply = TypeVar("Reply")

_MAX_WORKERS = 8
_RIGHT = "right"  # no name of a wrong answer: that of a word begins with "words"
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_PLAIN_TEXT = r"\1"
# More than one statement, or a relation that is no equation.
_NO_EQUATION = re.compile(
    r"[;<>≠≈≤≥~]|,(?![0-9]{3})|\b(?:or|and)\b"
    r"|\\(?:q?quad|lor|land|neq?|approx|sim|leq?|geq?|text\{\s*(?:or|and))\b"
)
_NAME = re.compile(r"\s*(?:\\?[A-Za-z][A-Za-z'\s]*(?:_\{?\w+\}?)?(?:\([^()=]*\))?)\s*")
# Words of an expression, and how many others make it a sentence.
_FUNCTIONS = frozenset(("sin", "cos", "tan", "log", "ln", "exp", "sqrt", "pi", "or", "and", "frac"))
_PROSE_WORDS = 3
_RATIONAL = re.compile(r"-?[0-9]+(?:/[0-9]+)?%?")


class Verdict(NamedTuple):
    """What a solution states, and whether that is right.

    Args:
        answer: The answer as it was found, None for none.
        correct: Whether it is right.
        is_unread: Whether there is an answer that could not be valued: no number or equation where the gold answer is a
            number, too long, or nothing that math-verify can read, or not in time. It is wrong.
    """

    answer: str | None
    correct: bool
    is_unread: bool = False


def grade(
    texts: Sequence[str], golds: Sequence[str], extract: Callable[[str], str | None] = extract_answer
) -> list[bool]:
    """Whether each solution is right, in order; one without an answer is wrong. See `verdicts`."""
    return [verdict.correct for verdict in verdicts(texts, golds, extract)]


def verdicts(
    texts: Sequence[str], golds: Sequence[str], extract: Callable[[str], str | None] = extract_answer
) -> list[Verdict]:
    """What each solution states and whether that is right, in order; one without an answer is wrong.

    Units and currencies are not compared. A number with a percent sign equals the same number without one, and
    also its hundredth part without one. Where the gold is a plain number, an answer is right if it is that number,
    however it is spelt, or a true equation with it, such as "x = 18" or "9 * 2 = 18"; "9 * 2" is wrong. Numbers in
    another base than ten, such as "52_8", equal themselves only.

    Args:
        texts: Whole solutions.
        golds: The right answer to each, bare or as the end of a reference solution.
        extract: Finds the answer in a solution, see `EXTRACTIONS`.

    Raises:
        ValueError: There are not as many golds as texts.
    """
    found: list[Verdict] = []
    undecided: dict[tuple[str, str], list[int]] = {}
    for index, (text, gold) in enumerate(zip(texts, golds, strict=True)):
        answer = extract(text)
        verdict = False if answer is None else _quick_verdict(answer, gold)
        found.append(Verdict(answer, verdict is True, verdict is None))
        if isinstance(verdict, str):
            undecided.setdefault((verdict, _gold_answer(gold)), []).append(index)
    if undecided:
        for indices, slow in zip(undecided.values(), _slow_verdicts(list(undecided)), strict=True):
            for index in indices:
                found[index] = Verdict(found[index].answer, slow is True, slow is None)
    return found


def votes(answers: Sequence[str | None], correct: Sequence[bool]) -> list[str | None]:
    """What the samples of one problem vote for: one name for every group of equal answers.

    All right answers are one group, since each equals the gold answer, and none of them is grouped with a wrong one.
    Wrong answers are grouped as `grade` would find them equal: numbers and true equations by their value, words by
    themselves without regard to case, expressions by the value that math-verify reads, apart from numbers. Where that
    relation is not transitive a group is as large as it can be: a percentage equals two numbers that differ, and votes
    for its hundredth part if that is there and for the number before its sign otherwise; "x = 5" and "y = 5" both vote
    for 5.

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
    asked = {
        answer
        for answers in wrong
        if len(answers) > 1
        for answer in answers
        if len(answer) <= MAX_ANSWER_CHARACTERS and _is_expression(answer)
    }
    values = _values(sorted(asked))
    found: list[list[str | None]] = []
    for (answers, correct), different in zip(samples, wrong, strict=True):
        names = {answer: _named(answer, values.get(answer)) for answer in different}
        present = set(names.values())
        names = {answer: _without_percent(name, present) for answer, name in names.items()}
        found.append(
            [
                None if answer is None else _RIGHT if right else names[answer]
                for answer, right in zip(answers, correct, strict=True)
            ]
        )
    return found


def _named(answer: str, value: str | None) -> str:
    """The name of a wrong answer, given the name of what it is worth, where math-verify was asked and could say."""
    if len(answer) > MAX_ANSWER_CHARACTERS:  # not kept in a cache, nor read
        return f"words {_words(answer).casefold()}"
    if value is None:
        return _own_name(answer)
    stated = [number for number in map(answer_number, EQUALS.split(answer)) if number is not None]
    is_number = _RATIONAL.fullmatch(value) is not None
    if is_number and not any(_number_name(number).removesuffix("%") == value.removesuffix("%") for number in stated):
        return f"unevaluated {value}"
    return value


@lru_cache(maxsize=65536)
def _own_name(answer: str) -> str:
    """A name of a wrong answer that needs no math-verify: of its number, or of its words."""
    number = _stated_number(answer)
    if number is not None:
        return _number_name(number)
    if has_base(answer) and (based := _stated_base(answer)) is not None:
        return f"{based[0]} in base {based[1]}"
    return f"words {_words(LATEX_TEXT.sub(_PLAIN_TEXT, answer)).casefold()}"


def _number_name(number: AnswerNumber) -> str:
    return f"{number.value}%" if number.is_percent else str(number.value)


@lru_cache(maxsize=65536)
def _is_expression(answer: str) -> bool:
    """Whether math-verify is to be asked what an answer is worth: not for numbers, nor for prose.

    A base model often ends in prose, and asking about each such end would take most of the time.
    """
    if _stated_number(answer) is not None or has_base(answer):
        return False
    words = [word for word in _WORD.findall(answer) if word not in _FUNCTIONS]
    return len(words) < _PROSE_WORDS if any(character.isdigit() for character in answer) else not words


def _stated_number(answer: str) -> AnswerNumber | None:
    """The number that an answer is, or that stands in a true equation; None where math-verify would have to say."""
    number = answer_number(answer)
    if number is not None or "=" not in answer:
        return number
    for side in EQUALS.split(answer)[::-1]:
        number = answer_number(side)
        if number is not None:
            return number if _equation_states(answer, number) is True else None
    return None


def _stated_base(answer: str) -> tuple[str, int] | None:
    """The number in another base that an answer is, or that it gives a name to, as in "x = 52_8"."""
    sides = EQUALS.split(answer)
    return based_number(sides[-1]) if all(map(_NAME.fullmatch, sides[:-1])) else None


def _equation_states(answer: str, gold: AnswerNumber) -> bool | str:
    """Whether an answer is a true equation with a number at one of its ends.

    Returns:
        The verdict, or the side of which math-verify has to say whether it equals the number.
    """
    sides = EQUALS.split(answer)
    if len(sides) < 2 or _NO_EQUATION.search(answer) is not None:
        return False
    numbers = [answer_number(side) for side in sides]
    if not any(number is not None and _are_equal(number, gold) for number in (numbers[0], numbers[-1])):
        return False
    undecided = []
    for side, number in zip(sides, numbers, strict=True):
        if number is not None:
            if not _are_equal(number, gold):
                return False
        elif _NAME.fullmatch(side) is None:
            computed = exact_value(side)
            if computed is None:
                undecided.append(side)
            elif not _are_equal(AnswerNumber(computed, False), gold):
                return False
    return True if not undecided else undecided[0] if len(undecided) == 1 else False


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


def _quick_verdict(answer: str, gold: str) -> bool | str | None:
    """Compares without math-verify, or says what that has to compare with the gold answer; None for an unread one."""
    number, gold_number = answer_number(answer), _gold_number(gold)
    if number is not None and gold_number is not None:
        return _are_equal(number, gold_number)
    gold_answer = _gold_answer(gold)
    if _words(answer) == _words(gold_answer):
        return True
    if max(len(answer), len(gold_answer)) > MAX_ANSWER_CHARACTERS:
        return None
    if gold_number is not None:
        verdict = _equation_states(answer, gold_number)
        return None if verdict is False and not _has_value(answer) else verdict
    if has_base(gold_answer) or has_base(answer):
        based = _stated_base(gold_answer)
        return based is not None and based == _stated_base(answer)
    return answer


def _has_value(answer: str) -> bool:
    """Whether arithmetic, or a number, stands on any side of an answer."""
    return any(answer_number(side) is not None or exact_value(side) is not None for side in EQUALS.split(answer))


def _slow_verdicts(pairs: list[tuple[str, str]]) -> list[bool | None]:
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
    return gold if gold.isdecimal() else extract_answer(gold) or bare_answer(plain_text(gold))


@lru_cache(maxsize=65536)
def _gold_number(gold: str) -> AnswerNumber | None:
    return _stated_number(_gold_answer(gold))
