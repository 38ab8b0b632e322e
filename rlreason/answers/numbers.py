"""The one reading of numbers: what is a number in a text, and which number an answer is.

Arithmetic, extraction and grading all read numbers by `DECIMAL` and value them by `value`. Everything is exact.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

MAX_ANSWER_CHARACTERS = 300

THOUSANDS = r"[0-9]{1,3}(?:,[0-9]{3})+"
# A number without its sign: "1,234", "1,234.50", "18." or ".5". "12,34" is two numbers.
DECIMAL = rf"(?:(?:{THOUSANDS}(?![0-9])|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+)"

# Units that may touch the number ("5km"). Other letters may not: "3x" and "3xy" are algebra, not three of something.
_GLUED_UNIT = (
    r"(?:[kcm]?m|[km]?g|m?[lL]|lbs?|oz|ft|in|yd|mi|mph|hrs?|h|mins?|secs?|s|am|pm|st|nd|rd|th|°[CF]?|¢|[KMGT]B)"
    r"(?:/[a-z]+)?(?:\s?\^\{?[23]\}?|[²³])?(?![A-Za-z])"
)
# After a space any word is a unit, except what makes another number of it or makes it an expression.
_UNIT_WORDS = (
    r"\s+(?!(?:pi|sqrt|sin|cos|tan|log|ln|exp|mod|or|and|to|squared|cubed|factorial)\b)"
    r"(?:[A-Za-zµ'-]{2,}|[mglLsh])(?:/[A-Za-z]+)?(?:\s?\^\{?[23]\}?|[²³])?"
    r"(?:\s+(?!(?:or|and)\b)[A-Za-z'-]+(?:/[A-Za-z]+)?){0,3}"
)
_CURRENCY = r"(?:(?:[$€£¥₹]{1,2}|US\s?[$]|(?:USD|EUR|GBP|INR|CAD|AUD)(?![A-Za-z])|Rs\.?(?![A-Za-z]))\s?)?"
_ABOUT = r"(?:(?:about|approximately|approx\.?|around|roughly|[≈~]|\\approx)\s*)?"
_MULTIPLES = {  # words that make another number of the one before them
    "dozen": 12,
    "score": 20,
    "gross": 144,
    "hundred": 100,
    "thousand": 1000,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
_ANSWER = re.compile(
    rf"""{_ABOUT}{_CURRENCY}(?P<sign>[-+]?)\s*{_CURRENCY}
    (?:(?P<whole>[0-9]+)(?:\s+(?P<top>[0-9]+)\s*/\s*(?P<bottom>[0-9]+)
                          |\s*\\[dt]?frac\s*\{{\s*(?P<latex_top>[0-9]+)\s*\}}\s*\{{\s*(?P<latex_bottom>[0-9]+)\s*\}})
      |\\[dt]?frac\s*\{{\s*(?P<numerator>-?{DECIMAL})\s*\}}\s*\{{\s*(?P<denominator>-?{DECIMAL})\s*\}}
      |(?P<decimal>{DECIMAL})(?:(?P<power>[eE][-+]?[0-9]{{1,2}}(?![0-9]))|\s*/\s*(?P<divisor>{DECIMAL}))?)
    (?:\s+(?P<multiple>{"|".join(_MULTIPLES)})s?(?![A-Za-z]))?
    (?:(?:\s+(?:dollar|euro|pound|rupee)s?)?\s+and\s+(?P<hundredths>[0-9]{{1,2}})\s+(?:cents?|pence|paise?)(?![A-Za-z]))?
    (?P<percent>\s*%|\s+per\s?cent\b)?\s?{_CURRENCY}
    (?:(?<!\s)(?:{_UNIT_WORDS}|\s?{_GLUED_UNIT}))?""",
    re.VERBOSE,
)
# Minus signs and the dash that stands in for one; thin spaces, which group thousands.
_SPELLINGS = str.maketrans(dict.fromkeys("\u2212\uff0d\ufe63\u2013", "-") | dict.fromkeys("\u2009\u202f"))
LATEX_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_LATEX_DEGREE = re.compile(r"\s*\^\s*(?:\\circ|\{\s*\\circ\s*\})")
_LATEX_SPACE = re.compile(r"\\[,!;: ]|\\q?quad")
_LATEX_SHORT_FRACTION = re.compile(r"(?<=frac)\s*(?:([0-9])|\{\s*([0-9]+)\s*\})\s*(?:([0-9])|\{\s*([0-9]+)\s*\})")
_SCIENTIFIC = re.compile(
    rf"(?P<size>{DECIMAL})\s*(?:\\times|\\cdot|[×·xX*])\s*10\s*\^\s*\{{?\s*(?P<power>[-+]?[0-9]{{1,2}})\s*\}}?"
)
_ENCLOSED = re.compile(r"\s*(?:\\left)?\(([^()]*?)(?:\\right)?\)\s*|\s*\{([^{}]*)\}\s*", re.DOTALL)


class AnswerNumber(NamedTuple):
    """An answer that is a plain number.

    Args:
        value: The number, its unit and currency left out.
        is_percent: Whether a percent sign follows it; the value is then the number before the sign.
    """

    value: int | Fraction
    is_percent: bool


def canonical(number: str) -> str:
    """The shortest spelling of what `DECIMAL` matches: "1234.5" for "1,234.50", "18" for "18.00" and "0.5" for ".5"."""
    whole, _, fraction = number.replace(",", "").partition(".")
    fraction = fraction.rstrip("0")
    return f"{whole or '0'}.{fraction}" if fraction else whole or "0"


def value(number: str) -> Fraction:
    """The value of what `DECIMAL` matches, with or without a minus sign before it."""
    return Fraction(canonical(number))


def answer_number(answer: str) -> AnswerNumber | None:
    r"""Reads an answer that is nothing but a number.

    Args:
        answer: An answer without the sentence around it, such as "18", "-$1,234.50", "17 1/2 apples", "5 dozen",
            "50%", "1.8e1" or "\frac{1}{2}".

    Returns:
        The number; None for any other answer and for one of more than `MAX_ANSWER_CHARACTERS`.
    """
    # The limit comes before the cache, so that a long text is neither kept nor turned into a huge integer.
    if len(answer) > MAX_ANSWER_CHARACTERS:
        return None
    if answer.isascii() and answer.isdecimal():
        return AnswerNumber(int(answer), False)
    return _spelt_number(answer)


@lru_cache(maxsize=65536)
def _spelt_number(answer: str) -> AnswerNumber | None:
    enclosed = _ENCLOSED.fullmatch(answer)
    if enclosed is not None:
        answer = enclosed[1] or enclosed[2] or ""
    plain = answer.replace("{,}", ",").replace("\\$", "$").replace("\\%", "%").translate(_SPELLINGS)
    if "10" in plain:
        plain = _SCIENTIFIC.sub(r"\g<size>e\g<power>", plain)
    if "\\" in plain:
        plain = _LATEX_SHORT_FRACTION.sub(r"{\1\2}{\3\4}", plain)
        plain = LATEX_TEXT.sub(r" \1 ", plain)
        plain = _LATEX_SPACE.sub("", _LATEX_DEGREE.sub("°", plain))
    match = _ANSWER.fullmatch(plain.strip().rstrip(".,;:!"))
    if match is None:
        return None
    try:
        size = _size(match) * _MULTIPLES.get(match["multiple"], 1) + Fraction(int(match["hundredths"] or 0), 100)
    except ZeroDivisionError:
        return None
    return AnswerNumber(-size if match["sign"] == "-" else size, match["percent"] is not None)


def _size(match: re.Match[str]) -> Fraction:
    if match["whole"]:
        top, bottom = match["top"] or match["latex_top"], match["bottom"] or match["latex_bottom"]
        return int(match["whole"]) + Fraction(int(top), int(bottom))
    if match["numerator"]:
        return value(match["numerator"]) / value(match["denominator"])
    size = value(match["decimal"]) / value(match["divisor"] or "1")
    if match["power"]:
        size *= Fraction(10) ** int(match["power"][1:])
    return size
