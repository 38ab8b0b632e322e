"""Which answers are equal: one relation, by which solutions are graded and by which votes are counted.

Plain numbers are compared exactly and fast, other answers by their words. What that leaves open goes to math-verify,
in subprocesses that can be killed (see :mod:`rlreason.answers.worker`), because a solution is text from a model and
may be built to hang a parser.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache

from rlreason.answers.extraction import bare_answer, extract_answer
from rlreason.answers.numbers import MAX_ANSWER_CHARACTERS, AnswerNumber, answer_number

_MAX_WORKERS = 8


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


def answer_key(answer: str) -> str:
    """Gives equal answers one name, to count votes by.

    The relation is that of `grade`, as far as a name can follow it, which is not the case in two places. A percentage
    equals two numbers that differ (50% is right for 50 and for 0.5); it votes for the number before its sign. And
    that two expressions have one value ("x+1" and "1+x", "9 * 2" and "18") is known of pairs alone; each expression
    votes for itself.

    Args:
        answer: An answer as `extract_answer` returns it.

    Returns:
        The value of a plain number as an integer or a reduced fraction ("18" for "18.0", "$18" and "36/2"), the
        percent sign dropped; any other answer with its whitespace normalised.
    """
    number = answer_number(bare_answer(answer))
    return _words(answer) if number is None else str(number.value)


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
    from concurrent.futures import ThreadPoolExecutor

    from rlreason.answers.worker import are_equivalent

    workers = min(len(os.sched_getaffinity(0)), _MAX_WORKERS, len(pairs))
    with ThreadPoolExecutor(workers) as executor:
        return list(executor.map(lambda pair: are_equivalent(*pair), pairs))


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
