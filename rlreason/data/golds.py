"""Gold answers: what a data set writes, as the answer that solutions are compared with, and as steps."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

from rlreason.answers.extraction import FINAL_ANSWER_MARKER, extract_answer, split_solution
from rlreason.answers.numbers import DECIMAL, MAX_ANSWER_CHARACTERS, canonical

# The whole answer is one number, perhaps with a currency before it and a unit behind it. The commas of "1,5", "12,34",
# "(1, 2)" and "1,2,3" separate no thousands, and in a list of numbers nobody can say.
_THOUSANDS = re.compile(r"([^\d(\[{,.]*)(\d{1,3}(?:(?:,|\{,\}|\\[,!]|,\\!)\d{3})+)((?:\.\d+)?(?:[^\d,.][^\d,]*)?\.?)")
_PLAIN_NUMBER = re.compile(rf"(?P<sign>[-+]?)(?P<size>{DECIMAL})")
# A line that states the answer and nothing else: "The answer is 18." or "\boxed{18}".
_STATES = (
    r"\W*(?:(?:so|thus|therefore|hence)\W+)?(?:the\W+)?(?:final\W+)?(?:answer)?(?:\W+is)?\W*(?:\\f?boxed\s*\{{)?"
    r"\s*{answer}\W*"
)


def without_thousands(answer: str) -> str:
    r"""An answer without thousands separators: "1234" for "1,234", "$1234.50" for "$1,234.50", "10080" for "10,\!080".

    Commas that separate anything else stay, as in "1,5", "12,34", "(1, 2)" and "1,2,3".
    """
    match = _THOUSANDS.fullmatch(answer)
    return answer if match is None else match[1] + re.sub(r"\D", "", match[2]) + match[3]


def plain_number(value: Decimal) -> str:
    """A number as a plain decimal: "8" for 8.0, "1200" for 1.2E+3."""
    if value == value.to_integral_value():
        return f"{value.to_integral_value():f}".removeprefix("-" if not value else "")
    return f"{value:f}".rstrip("0")


def gold(value: Any) -> tuple[tuple[str, ...], str]:
    r"""The gold answer that a column holds, and the steps where it holds a worked solution.

    Args:
        value: A number; a text, which is the answer or states it in ``\boxed{}``; or a worked solution that ends with
            "#### ANSWER", a ``\boxed{}`` or "the answer is ...".

    Returns:
        The lines before the answer, and the answer.

    Raises:
        ValueError: It is none of these; the message is the reason.
    """
    if isinstance(value, str):
        steps, answer = _stated(value.strip())
        answer = without_thousands(answer)
        match = _PLAIN_NUMBER.fullmatch(answer)
        return steps, answer if match is None else match["sign"].replace("+", "") + canonical(match["size"])
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError("is neither a number nor text")
    if not math.isfinite(value):
        raise ValueError("is no finite number")
    return (), plain_number(value if isinstance(value, Decimal) else Decimal(repr(value)))


def solution_steps(text: str, answer: str) -> tuple[str, ...]:
    """The lines of a worked solution, without those that only state the answer; empty where nothing else stands there.

    Args:
        text: The solution.
        answer: The gold answer.
    """
    states = re.compile(_STATES.format(answer=re.escape(answer)), re.IGNORECASE)
    steps = split_solution(text)[0]
    return tuple(line for line in steps if not states.fullmatch(line) and without_thousands(line.strip()) != answer)


def _stated(text: str) -> tuple[tuple[str, ...], str]:
    if not text:
        raise ValueError("is empty")
    if FINAL_ANSWER_MARKER in text:
        steps, answer = split_solution(text)
        if not answer or "\n" in answer:
            raise ValueError(f"does not end with one line '{FINAL_ANSWER_MARKER} ANSWER'")
        return steps, answer
    stated = extract_answer(text)
    is_long = "\n" in text or len(text) > MAX_ANSWER_CHARACTERS
    if stated is None and is_long:
        raise ValueError("is a long text that states no answer")
    return (() if stated is None else solution_steps(text, stated)), stated or text
