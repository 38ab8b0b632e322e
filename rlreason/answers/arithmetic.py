"""The arithmetic that a solution writes down: its equations and their results, whatever the spelling.

One reading serves the dense reward (which results were reached), grading (whether an equation is true) and diversity
(which operations were done). What a model wrote is computed in exact fractions, and never given to Python's `eval`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from rlreason.answers.extraction import reasoning_of
from rlreason.answers.numbers import CURRENCY_SIGNS, DECIMAL, MULTIPLES, canonical, value
from rlreason.answers.spelling import plain_text

LONGEST_LINE = 2000  # characters; a longer line is not a step of anything, and parsing it would cost time

EQUALS = re.compile(r"(?<![<>!:\\=])=(?![=<>])")  # between the sides of an equation
_ANNOTATION = re.compile(r"<<([^<>\n]*)>>")
_SPELLINGS = str.maketrans({"×": "*", "·": "*", "÷": "/", **dict.fromkeys(CURRENCY_SIGNS)})
_TIMES = re.compile(r"(?<=[0-9)])\s*[xX]\s*(?=[0-9.(])")
_LATEX = {r"\times": "*", r"\cdot": "*", r"\div": "/", r"\left": "", r"\right": "", r"\$": "", r"\%": "%", "{,}": ","}
# What looks like an operator and is none: a bullet, a hyphen, and the stroke of a unit such as "km/h".
_NO_OPERATOR = re.compile(r"^\s*[-*]\s+|(?<=[A-Za-z])[-/](?=[A-Za-z])|/(?=\s*[A-Za-z])")
_NO_UNIT = rf"(?:half|{'|'.join(MULTIPLES)}|sqrt|root|log|ln|exp|sin|cos|tan|mod|squared|cubed)s?"
_UNIT = re.compile(rf"(?<!\\)\b(?!{_NO_UNIT}\b)[A-Za-z]{{2,}}")
_TOKEN = re.compile(rf"(?P<number>{DECIMAL})(?P<percent>\s*%)?|[-+*/()=]")
_QUOTIENT = re.compile(rf"(?P<sign>-?)\(?(?P<top>{DECIMAL})(?:/(?P<bottom>{DECIMAL}))?(?P<percent>%?)\)?")
_OPERATION = re.compile(r"[-+*/]|(?<=[0-9)%])\(")
_MOST_DECIMALS = 12
_DEEPEST = 20  # brackets within brackets
_LONGEST = 300  # characters of an expression that is computed


@dataclass(frozen=True, slots=True)
class Equation:
    """An operation and what it is said to give."""

    # The left side in canonical spelling, such as "12+3*4": no spaces, words, currencies or thousands separators;
    # without an operator for a mere "total = 5".
    expression: str
    value: Fraction | None  # on the right; None inside a chain, where another expression stands there
    is_percent: bool = False  # whether a percent sign follows the value

    @property
    def is_operation(self) -> bool:
        """Whether the left side computes something."""
        return _OPERATION.search(self.expression, 1) is not None

    @property
    def holds(self) -> bool | None:
        """Whether the left side gives the value, perhaps rounded; None where that cannot be computed."""
        computed = exact_value(self.expression)
        if computed is None or self.value is None:
            return None
        stated = (self.value, self.value / 100) if self.is_percent else (self.value,)
        return any(_is_rounded(computed, value) for value in stated)


def exact_value(text: str) -> Fraction | None:
    """The value of an arithmetic expression that is the whole text, but for currencies and units.

    Args:
        text: Such as "12+3*4", "2(3 + 4)", "$5 * 3 hours" or "20% * 50"; typographic and LaTeX operators do as well.

    Returns:
        Exactly what it gives; None where anything else stands in it, it divides by zero, or it is too long.
    """
    # The limit comes before the cache, so that a long text is not kept.
    return None if len(text) > _LONGEST else _exact_value(text)


@lru_cache(maxsize=65536)
def _exact_value(text: str) -> Fraction | None:
    for spelling, plain in _LATEX.items():
        text = text.replace(spelling, plain)
    tokens: list[str] = []
    end = 0
    text = _UNIT.sub(" ", _plain(text)).strip()
    for match in _TOKEN.finditer(text):
        if text[end : match.start()].strip():
            return None
        tokens.append(f"{canonical(match['number'])}{'%' if match['percent'] else ''}" if match["number"] else match[0])
        end = match.end()
    if text[end:].strip():
        return None
    try:
        result, rest = _sum(tokens, 0, 0)
    except (ValueError, ZeroDivisionError):
        return None
    return result if rest == len(tokens) else None


def equations(line: str) -> tuple[Equation, ...]:
    """The equations of one line, in order.

    Calculator annotations (`<<3+4=7>>`) stand for the equations around them: a line that has any is read by them
    alone.
    """
    return () if len(line) > LONGEST_LINE else _equations(line)


@lru_cache(maxsize=65536)
def _equations(line: str) -> tuple[Equation, ...]:
    annotated = [equation for inside in _ANNOTATION.findall(line) for equation in _parse(inside)]
    return tuple(annotated) if annotated else tuple(_parse(_ANNOTATION.sub(" ", line)))


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
    for match in _TOKEN.finditer(_plain(text)):
        token, number = match[0], match["number"]
        if token == "=":
            if left is not None:
                yield Equation(left, *_result(expression))
            left, expression = "".join(_trimmed(expression)), []
        elif number:
            if expression and expression[-1] not in "+-*/(":
                if left is not None:
                    # A second number without an operator: the right side has ended before it.
                    yield Equation(left, *_result(expression))
                    left = None
                expression = []
            expression.append(f"{canonical(number)}{'%' if match['percent'] else ''}")
        elif expression or token in "(-":
            expression.append(token)
    if left is not None:
        yield Equation(left, *_result(expression))


def _plain(text: str) -> str:
    """A text with one spelling for each operator, and without what only looks like one."""
    return _TIMES.sub("*", _NO_OPERATOR.sub(" ", plain_text(text).translate(_SPELLINGS)))


def _result(expression: list[str]) -> tuple[Fraction | None, bool]:
    """The value of "7", "-7", "7%" or "1/2", and whether it is a percentage; None for any other, as inside a chain."""
    match = _QUOTIENT.fullmatch("".join(_trimmed(expression)))
    if match is None:
        return None, False
    try:
        size = value(match["top"]) / value(match["bottom"] or "1")
    except ZeroDivisionError:
        return None, False
    return -size if match["sign"] else size, bool(match["percent"])


def _is_rounded(computed: Fraction, stated: Fraction) -> bool:
    """Whether a value is what was computed, or that with fewer decimals, of which there is at least one."""
    if computed == stated:
        return True
    decimals = next((places for places in range(_MOST_DECIMALS) if (stated * 10**places).denominator == 1), 0)
    return decimals > 0 and abs(computed - stated) < Fraction(1, 10**decimals)


def _sum(tokens: list[str], place: int, depth: int) -> tuple[Fraction, int]:
    """The value of the sum that begins at a token, and the token after it."""
    total, place = _product(tokens, place, depth)
    while tokens[place : place + 1] in (["+"], ["-"]):
        sign = tokens[place]
        other, place = _product(tokens, place + 1, depth)
        total = total + other if sign == "+" else total - other
    return total, place


def _product(tokens: list[str], place: int, depth: int) -> tuple[Fraction, int]:
    result, place = _factor(tokens, place, depth)
    while tokens[place : place + 1] in (["*"], ["/"], ["("]):
        sign = tokens[place]
        other, place = _factor(tokens, place + (sign != "("), depth)
        result = result / other if sign == "/" else result * other
    return result, place


def _factor(tokens: list[str], place: int, depth: int) -> tuple[Fraction, int]:
    """A number, with its sign, or what stands in brackets; raises ValueError for anything else."""
    token = tokens[place] if place < len(tokens) else ""
    if depth > _DEEPEST or token in ("", ")", "*", "/", "="):
        raise ValueError
    if token in ("+", "-"):
        size, place = _factor(tokens, place + 1, depth + 1)
        return -size if token == "-" else size, place
    if token == "(":
        result, place = _sum(tokens, place + 1, depth + 1)
        if tokens[place : place + 1] != [")"]:
            raise ValueError
        return result, place + 1
    return value(token.removesuffix("%")) / (100 if token.endswith("%") else 1), place + 1


def _trimmed(expression: list[str]) -> list[str]:
    """Without operators that nothing follows."""
    kept = list(expression)
    while kept and kept[-1] in "+-*/(":
        kept.pop()
    return kept
