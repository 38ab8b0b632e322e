"""The one reading of numbers: what is a number in a text, and which number an answer is.

Arithmetic, extraction and grading all read numbers by `DECIMAL` and value them by `value`. Everything is exact.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from rlreason.answers.spelling import plain_text

MAX_ANSWER_CHARACTERS = 300

THOUSANDS = r"[0-9]{1,3}(?:,[0-9]{3})+"
# A number without its sign: "1,234", "1,234.50", "18." or ".5". "12,34" is two numbers.
DECIMAL = rf"(?:(?:{THOUSANDS}(?![0-9])|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+)"

MULTIPLES: dict[str, int | Fraction] = {  # words that make another number of the one before them
    "dozen": 12,
    "baker's dozen": 13,
    "score": 20,
    "gross": 144,
    "hundred": 100,
    "thousand": 1000,
    "lakh": 10**5,
    "million": 10**6,
    "crore": 10**7,
    "billion": 10**9,
    "trillion": 10**12,
    # In the plural alone, as third graders are no thirds; quarters and halves are coins and parts of games.
    "thirds": Fraction(1, 3),
    "tenths": Fraction(1, 10),
    "hundredths": Fraction(1, 100),
    "thousandths": Fraction(1, 1000),
}
_GLUED_MULTIPLES = {"k": 1000, "K": 1000, "mn": 10**6, "M": 10**6, "bn": 10**9, "tn": 10**12}
_SIZES: dict[str, int | Fraction] = {**MULTIPLES, **_GLUED_MULTIPLES}
_MULTIPLE = rf"(?:{'|'.join(MULTIPLES)})s?(?![A-Za-z])".replace(" ", r"\s")
# Units that may touch the number ("5km"). Other letters may not: "3x" and "3xy" are algebra, not three of something.
_GLUED_UNIT = (
    r"(?:[kcm]?m|[km]?g|m?[lL]|lbs?|oz|ft|in|yd|mi|mph|hrs?|h|mins?|secs?|s|am|pm|st|nd|rd|th|°[CF]?|¢|[KMGT]B"
    r"|['\"])"
    r"(?:/[a-z]+)?(?:\s?\^\{?[23]\}?|[²³])?(?![A-Za-z])"
)
_NO_UNIT = r"(?:pi|sqrt|sin|cos|tan|log|ln|exp|mod|or|and|to|squared|cubed|factorial|base)\b"
# After a space, or the stroke of a rate, any word is a unit, except what makes another number of it or makes it an
# expression. What a unit is counted in ("18 dollars per dozen") makes no other number.
_RATE = rf"(?:\s*/\s*(?!{_NO_UNIT})(?:an?\s+)?(?:[A-Za-z]{{2,}}|[hsdLlmg](?![A-Za-z]))\.?)"
_WORD = r"[A-Za-zµμ'-]"
_OF_ONE = rf"(?:per|an?|each|every)\s+{_WORD}+"
_UNIT_WORDS = (
    rf"(?:\s+(?:{_OF_ONE}|(?!{_NO_UNIT}|{_MULTIPLE})(?:{_WORD}{{2,}}|[mglLsh](?![A-Za-z])))"
    rf"{_RATE}?(?:\s?\^\{{?[23]\}}?|[²³])?"
    rf"(?:\s+(?!(?:or|and)\b)(?:{_OF_ONE}|(?!{_MULTIPLE}){_WORD}+){_RATE}?){{0,3}})"
)
CURRENCY_SIGNS = "$€£¥₹₽₩₺₫₱₦₴₪฿₵₡₲₭₮₸₼₾"
_CURRENCY_CODES = (
    "USD|EUR|GBP|INR|CAD|AUD|NZD|SGD|HKD|JPY|CNY|RMB|CHF|SEK|NOK|DKK|PLN|CZK|HUF|TRY|RUB|UAH|ILS|ZAR|NGN|KES|GHS|EGP"
    "|BRL|MXN|ARS|CLP|COP|PEN|PHP|Php|IDR|MYR|THB|VND|KRW|TWD|PKR|BDT|LKR|NPR|AED|SAR"
)
_CURRENCY = (
    rf"(?:(?:[{CURRENCY_SIGNS}]{{1,2}}|(?:US|AU?|CA?|NZ?|HK|NT|S|R|MX)\s?[$]"
    rf"|(?:{_CURRENCY_CODES})(?![A-Za-z])|(?:Rs|Re)\.?(?![A-Za-z])|[Dd]ollars(?![A-Za-z]))\s*)?"
)
_ABOUT = r"(?:(?:about|approximately|approx\.?|around|roughly|[≈~]|\\approx)\s*)?"
_ANSWER = re.compile(
    rf"""{_ABOUT}{_CURRENCY}(?P<sign>[-+]?)\s*{_CURRENCY}
    (?:(?P<whole>[0-9]+)(?:\s+(?P<top>[0-9]+)\s*/\s*(?P<bottom>[0-9]+)
                          |\s*\\[dt]?frac\s*\{{\s*(?P<latex_top>[0-9]+)\s*\}}\s*\{{\s*(?P<latex_bottom>[0-9]+)\s*\}})
      |\\[dt]?frac\s*\{{\s*(?P<numerator>-?{DECIMAL})\s*\}}\s*\{{\s*(?P<denominator>-?{DECIMAL})\s*\}}
      |(?P<decimal>{DECIMAL})(?:(?P<power>[eE][-+]?[0-9]{{1,2}}(?![0-9]))|\s*/\s*(?P<divisor>{DECIMAL}))?)
    (?P<multiples>(?:(?:{"|".join(_GLUED_MULTIPLES)})(?![A-Za-z]))?(?:\s+{_MULTIPLE})*)
    (?:(?:\s+(?:dollar|euro|pound|rupee)s?)?\s+and\s+(?P<hundredths>[0-9]{{1,2}})\s+(?:cents?|pence|paise?)(?![A-Za-z]))?
    (?P<percent>\s*%|\s+per\s?cent\b)?\s?{_CURRENCY}(?:/-)?
    (?:(?<!\s)(?:{_RATE}|{_UNIT_WORDS}|\s?{_GLUED_UNIT}))?""",
    re.VERBOSE,
)
LATEX_TEXT = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_LATEX_CURRENCY = re.compile(r"\\(?:pounds|euro|yen|text(?:dollar|sterling|euro|yen))(?![A-Za-z])")
_LATEX_DEGREE = re.compile(r"\s*\^\s*(?:\\circ|\{\s*\\circ\s*\})")
_LATEX_SPACE = re.compile(r"\\[,!;:> ]|\\(?:q?quad|thinspace)(?![A-Za-z])|\\[()\[\]]")
_LATEX_SHORT_FRACTION = re.compile(r"(?<=frac)\s*(?:([0-9])|\{\s*([0-9]+)\s*\})\s*(?:([0-9])|\{\s*([0-9]+)\s*\})")
_SCIENTIFIC = re.compile(
    rf"(?P<size>{DECIMAL})\s*(?:\\times|\\cdot|[×·xX*])\s*10\s*\^\s*\{{?\s*(?P<power>[-+]?[0-9]{{1,2}})\s*\}}?"
)
# Thousands that are separated by other signs than a comma, or by a comma and a space of LaTeX.
_SEPARATOR = r"(?:,?\s*(?:\\[,!;:> ]|\\thinspace)\s*|\{,\}|['~ ])"
_GROUPED = re.compile(rf"(?<![0-9.,])[0-9]{{1,3}}(?:{_SEPARATOR}[0-9]{{3}})+(?![0-9]|\s*/)")
_ENCLOSED = re.compile(
    r"\s*(?:\\left)?\(([^()]*?)(?:\\right)?\)\s*|\s*\{([^{}]*)\}\s*|\s*\[([^\[\]]*)\]\s*|\s*<([^<>]*)>\s*", re.DOTALL
)
_BASES = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
_BASED = re.compile(
    r"(?P<digits>-?[0-9A-F.]+)\s*(?:_\s*\{?|\(?\s*(?:in\s+)?base[\s-]*)\s*\(?(?:base\s*)?(?P<base>[0-9]+|[a-z]+)\)?\s*\}?\s*\)?"
)
_HAS_BASE = re.compile(rf"[0-9][0-9A-F]*\s*_|\bbase[\s-]*(?:[0-9]|(?:{'|'.join(_BASES)})\b)")


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


def has_base(answer: str) -> bool:
    """Whether a number in another base than ten may stand in an answer, such as "52_8"; math-verify drops the base."""
    return _HAS_BASE.search(answer) is not None


def based_number(answer: str) -> tuple[str, int] | None:
    r"""Reads a number in a base that is given, such as "52_8", "52_{8}", "101_\text{two}" or "52 (base 8)".

    Returns:
        Its digits and the base; None for anything else, a number without a base included.
    """
    match = _BASED.fullmatch(without_spaces(LATEX_TEXT.sub(r" \1 ", answer)).strip())
    if match is None:
        return None
    base = int(match["base"]) if match["base"].isdecimal() else _BASES.get(match["base"])
    return None if base is None else (match["digits"], base)


def without_spaces(number: str) -> str:
    """A text in LaTeX without the spaces that separate thousands, and with plain spaces for others of LaTeX."""
    grouped = _GROUPED.sub(lambda match: re.sub(r"[^0-9]", "", match[0]), number)
    return _LATEX_SPACE.sub(" ", grouped) if "\\" in grouped else grouped


@lru_cache(maxsize=65536)
def _spelt_number(answer: str) -> AnswerNumber | None:
    answer = plain_text(answer)
    enclosed = _ENCLOSED.fullmatch(answer)
    if enclosed is not None:
        answer = next((part for part in enclosed.groups() if part), "")
    plain = answer.replace("\\$", "$").replace("\\%", "%")
    if "10" in plain:
        plain = _SCIENTIFIC.sub(r"\g<size>e\g<power>", plain)
    if "_" in plain:
        based = based_number(plain)
        plain = based[0] if based is not None and based[1] == 10 else plain
    if "\\" in plain:
        plain = _LATEX_SHORT_FRACTION.sub(r"{\1\2}{\3\4}", plain)
        plain = _LATEX_CURRENCY.sub("$", LATEX_TEXT.sub(r" \1 ", plain))
        plain = _LATEX_DEGREE.sub("°", plain)
    match = _ANSWER.fullmatch(without_spaces(plain).replace("{,}", ",").strip().rstrip(".,;:!"))
    if match is None:
        return None
    try:
        size = _size(match) * _multiple(match["multiples"]) + Fraction(int(match["hundredths"] or 0), 100)
    except ZeroDivisionError:
        return None
    return AnswerNumber(-size if match["sign"] == "-" else size, match["percent"] is not None)


def _multiple(words: str) -> Fraction:
    """What the words behind a number multiply it by."""
    product = Fraction(1)
    for word in re.findall("|".join(sorted(_SIZES, key=len, reverse=True)), words):
        product *= _SIZES[word]
    return product


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
