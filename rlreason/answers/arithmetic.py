"""The arithmetic that a solution writes down: its equations and their results, whatever the spelling.

One reading serves the dense reward (which results were reached) and diversity (which operations were done). It only
reads; nothing that a model wrote is ever evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from rlreason.answers.extraction import reasoning_of
from rlreason.answers.numbers import DECIMAL, canonical, value

LONGEST_LINE = 2000  # characters; a longer line is not a step of anything, and parsing it would cost time

_ANNOTATION = re.compile(r"<<([^<>\n]*)>>")
_SPELLINGS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "$": None, "€": None, "£": None})
_TIMES = re.compile(r"(?<=[0-9)])\s*[xX]\s*(?=[0-9.(])")
_NUMBER = re.compile(DECIMAL)
_TOKEN = re.compile(rf"(?P<number>{DECIMAL})|[-+*/()=]")
_QUOTIENT = re.compile(rf"(?P<sign>-?)\(?(?P<top>{DECIMAL})(?:/(?P<bottom>{DECIMAL}))?\)?")
_OPERATORS = "+-*/"


@dataclass(frozen=True, slots=True)
class Equation:
    """An operation and what it is said to give."""

    # The left side in canonical spelling, such as "12+3*4": no spaces, words, currencies or thousands separators;
    # without an operator for a mere "total = 5".
    expression: str
    value: Fraction | None  # on the right; None inside a chain, where another expression stands there

    @property
    def is_operation(self) -> bool:
        """Whether the left side computes something."""
        return any(operator in self.expression[1:] for operator in _OPERATORS)


@lru_cache(maxsize=65536)
def equations(line: str) -> tuple[Equation, ...]:
    """The equations of one line, in order.

    Calculator annotations (`<<3+4=7>>`) stand for the equations around them: a line that has any is read by them
    alone.
    """
    if len(line) > LONGEST_LINE:
        return ()
    annotated = [equation for inside in _ANNOTATION.findall(line) for equation in _parse(inside)]
    return tuple(annotated) if annotated else tuple(_parse(_ANNOTATION.sub(" ", line)))


@lru_cache(maxsize=65536)
def last_number(line: str) -> Fraction | None:
    """The last number of a line, unsigned; None without one."""
    found = _NUMBER.findall(_ANNOTATION.sub(" ", line[-LONGEST_LINE:]).translate(_SPELLINGS))
    return value(found[-1]) if found else None


def numbers(text: str) -> frozenset[Fraction]:
    """Every number of a text, unsigned."""
    return frozenset(map(value, _NUMBER.findall(text.translate(_SPELLINGS))))


def operations(text: str) -> str:
    """The sequence of arithmetic operations of a solution, by which the author of the paper counts solutions.

    Args:
        text: A completion; what follows its final-answer marker does not count.

    Returns:
        Such as "12*3=36;36-6=30"; empty for an answer without any operation. Wording, spacing and number format make
        no difference.
    """
    lines = reasoning_of(text).splitlines()
    found = (equation for line in lines for equation in equations(line) if equation.is_operation)
    return ";".join(f"{item.expression}={'' if item.value is None else item.value}" for item in found)


def _parse(text: str) -> Iterator[Equation]:
    expression: list[str] = []
    left: str | None = None  # of the last "=", while its right side is being read
    for match in _TOKEN.finditer(_TIMES.sub("*", text.translate(_SPELLINGS))):
        token, number = match[0], match["number"]
        if token == "=":
            if left is not None:
                yield Equation(left, _result(expression))
            left, expression = "".join(_trimmed(expression)), []
        elif number:
            if expression and expression[-1] not in "+-*/(":
                if left is not None:
                    # A second number without an operator: the right side has ended before it.
                    yield Equation(left, _result(expression))
                    left = None
                expression = []
            expression.append(canonical(number))
        elif expression or token in "(-":
            expression.append(token)
    if left is not None:
        yield Equation(left, _result(expression))


def _result(expression: list[str]) -> Fraction | None:
    """The value of "7", "-7" or "1/2"; None for any other expression, as inside a chain."""
    match = _QUOTIENT.fullmatch("".join(_trimmed(expression)))
    if match is None:
        return None
    try:
        size = value(match["top"]) / value(match["bottom"] or "1")
    except ZeroDivisionError:
        return None
    return -size if match["sign"] else size


def _trimmed(expression: list[str]) -> list[str]:
    """Without operators that nothing follows."""
    kept = list(expression)
    while kept and kept[-1] in "+-*/(":
        kept.pop()
    return kept
