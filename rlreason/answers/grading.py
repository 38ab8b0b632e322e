"""Decides whether a solution written in words ends in the right answer.

Plain numbers are compared exactly and fast. Anything else goes to math-verify, in subprocesses that can be killed
(see :mod:`rlreason.answers.worker`), because a solution is text from a model and may be built to hang a parser.
"""

import os
import re
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

MAX_ANSWER_CHARACTERS = 300
_MAX_DEFAULT_WORKERS = 8


class _Number(NamedTuple):
    value: int | Fraction
    is_percent: bool


_DECIMAL = r"(?:(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+)"
# Units that may touch the number ("5km"). Other letters may not: "3x" and "3xy" are algebra, not three of something.
_GLUED_UNIT = (
    r"(?:[kcm]?m|[km]?g|m?[lL]|lbs?|oz|ft|in|yd|mi|mph|hrs?|h|mins?|secs?|s|am|pm|st|nd|rd|th|°[CF]?|¢|[KMGT]B)"
    r"(?:/[a-z]+)?(?:\s?\^\{?[23]\}?|[²³])?(?![A-Za-z])"
)
# After a space any word is a unit, except what makes another number of it or makes it an expression.
_UNIT_WORDS = (
    r"\s+(?!(?:pi|sqrt|sin|cos|tan|log|ln|exp|mod|or|and|to|hundred|thousand|million|billion|trillion)\b)"
    r"(?:[A-Za-zµ'-]{2,}|[mglLsh])(?:/[A-Za-z]+)?(?:\s?\^\{?[23]\}?|[²³])?"
    r"(?:\s+(?!(?:or|and)\b)[A-Za-z'-]+(?:/[A-Za-z]+)?){0,3}"
)
_CURRENCY = r"(?:[$€£¥₹]{1,2}\s?)?"
_NUMBER = re.compile(
    rf"""{_CURRENCY}(?P<sign>[-+]?)\s*{_CURRENCY}
    (?:(?P<whole>[0-9]+)(?:\s+(?P<top>[0-9]+)\s*/\s*(?P<bottom>[0-9]+)
                          |\s*\\[dt]?frac\s*\{{\s*(?P<latex_top>[0-9]+)\s*\}}\s*\{{\s*(?P<latex_bottom>[0-9]+)\s*\}})
      |\\[dt]?frac\s*\{{\s*(?P<numerator>-?{_DECIMAL})\s*\}}\s*\{{\s*(?P<denominator>-?{_DECIMAL})\s*\}}
      |(?P<decimal>{_DECIMAL})(?:\s*/\s*(?P<divisor>{_DECIMAL}))?)
    (?P<percent>\s*%|\s+per\s?cent\b)?\s?{_CURRENCY}
    (?:(?<!\s)(?:{_UNIT_WORDS}|\s?{_GLUED_UNIT}))?""",
    re.VERBOSE,
)
# Minus signs and the dash that stands in for one; thin spaces, which group thousands.
_SPELLINGS = str.maketrans(dict.fromkeys("\u2212\uff0d\ufe63\u2013", "-") | dict.fromkeys("\u2009\u202f"))
_LATEX_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_LATEX_DEGREE = re.compile(r"\s*\^\s*(?:\\circ|\{\s*\\circ\s*\})")
_LATEX_SPACE = re.compile(r"\\[,!;: ]|\\q?quad")

_ANSWER_IS = re.compile(r"answer[*_\s]*(?:\bis\b|:|=)[*_:\s]*", re.IGNORECASE)
_CLOSING_LINE = re.compile(r"[*_ ]*(?:A:|#{4,})[*_\s]*(.+)")
_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
_BOXED = re.compile(r"\\f?boxed\s*\{")
_DELIMITED = re.compile(r"\$\$([^$]+)\$\$|\$([^$]+)\$|\\\((.+)\\\)|\\\[(.+)\\\]")
_MARKER = re.compile(r"#{4,}([^\n#]*)")
_BOLD_END = re.compile(r"(?<=\S)\*\*(?=\s)")
_NUMBERED_HEADING = re.compile(r"[0-9]+[.)]\s+[A-Z*]")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_BEGINS_LIKE_A_NUMBER = re.compile(r"[-+\u2212$€£\s]*(?:\.?[0-9]|\\)")
# Where the sentence that holds the answer ends, or its justification begins, or a special token follows it.
_AFTER_ANSWER = re.compile(
    r"[.!?]\s|(?<=[0-9]),(?=\s+(?!and\b|or\b)[A-Za-z]{2})|\s\((?=[A-Za-z]{2})|\s(?:because|since)\s|<[|/]"
)


def extract_answer(text: str) -> str | None:
    r"""Finds the final answer that a solution states.

    The places are tried in this order, and what is found is stripped of the sentence and of the mathematics
    delimiters around it:

    1. The first ``####`` marker with an answer behind it on its line. The first, as in the official GSM8K rule:
       a model that rambles on to another question after its answer gains and loses nothing. A heading such as
       ``#### Step 1`` or ``#### 1. Add`` is no answer.
    2. The last ``\boxed{...}``, then the last "answer is" or "answer:": these also appear in the reasoning
       ("the answer is not 3"), and the last one is the conclusion.
    3. A last line ``A: 18`` (or ``#### word``).
    4. The text itself, if it is nothing but a number or one expression between dollar signs.

    Args:
        text: A whole solution.

    Returns:
        The answer, or None if the text states none.
    """
    answer = _first_marked(text) or _last_boxed(text)
    if answer:
        return answer
    stated = _last_stated(text)
    if stated and _is_answer_like(stated):
        return stated
    return _closing_line(text) or stated or _whole_text(text)


def states_final_answer(line: str) -> bool:
    """Whether a line ends a solution: it has the final-answer marker with an answer (and no heading) behind it."""
    return "####" in line and _first_marked(line) is not None


def answer_key(answer: str) -> str:
    """Gives equal answers one name, to count votes by.

    Args:
        answer: An answer as `extract_answer` returns it.

    Returns:
        The value of a plain number as an integer or a reduced fraction ("18" for "18.0", "$18" and "36/2"), the
        percent sign dropped; any other answer with its whitespace normalised.
    """
    number = _parse_number(_strip_sentence(answer))
    return " ".join(answer.split()) if number is None else str(number.value)


def grade(texts: Sequence[str], golds: Sequence[str], workers: int | None = None) -> list[bool]:
    """Decides for each solution whether it is right.

    Units and currencies are not compared. A number with a percent sign equals the same number without one, and
    also its hundredth part without one.

    Args:
        texts: Whole solutions.
        golds: The right answer to each, bare or as the end of a reference solution.
        workers: How many subprocesses share the answers that are not plain numbers; None for one a core, at most 8.

    Returns:
        One verdict for each text, in order. A text without an answer is wrong.

    Raises:
        ValueError: If there are not as many golds as texts, or `workers` is less than one.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    verdicts: list[bool] = []
    undecided: dict[tuple[str, str], list[int]] = {}
    for index, (text, gold) in enumerate(zip(texts, golds, strict=True)):
        answer = extract_answer(text)
        verdict = False if answer is None else _quick_verdict(answer, gold)
        verdicts.append(bool(verdict))
        if answer is not None and verdict is None:
            undecided.setdefault((answer, _gold_answer(gold)), []).append(index)
    if undecided:
        for indices, verdict in zip(undecided.values(), _slow_verdicts(list(undecided), workers), strict=True):
            for index in indices:
                verdicts[index] = verdict
    return verdicts


def _quick_verdict(answer: str, gold: str) -> bool | None:
    """Compares without math-verify; None if that cannot decide."""
    number, gold_number = _parse_number(answer), _parse_gold(gold)
    if number is not None and gold_number is not None:
        return _are_equal(number, gold_number)
    gold_answer = _gold_answer(gold)
    if " ".join(answer.split()) == " ".join(gold_answer.split()):
        return True
    if max(len(answer), len(gold_answer)) > MAX_ANSWER_CHARACTERS:
        return False
    # A base model often ends in prose, and asking math-verify about each such end would take most of the time.
    if gold_number is not None and not any(character.isdigit() for character in answer):
        return False
    return None


def _slow_verdicts(pairs: list[tuple[str, str]], workers: int | None) -> list[bool]:
    # Imported here because most callers meet plain numbers only, and need neither.
    from concurrent.futures import ThreadPoolExecutor

    from rlreason.answers.worker import are_equivalent

    wanted = workers or min(len(os.sched_getaffinity(0)), _MAX_DEFAULT_WORKERS)
    with ThreadPoolExecutor(min(wanted, len(pairs))) as executor:
        return list(executor.map(lambda pair: are_equivalent(*pair), pairs))


def _are_equal(first: _Number, second: _Number) -> bool:
    if first.value == second.value:
        return True
    if first.is_percent == second.is_percent:
        return False
    return first.value == second.value * 100 if first.is_percent else first.value * 100 == second.value


@lru_cache(maxsize=65536)
def _gold_answer(gold: str) -> str:
    return gold if gold.isdecimal() else extract_answer(gold) or _strip_sentence(gold)


@lru_cache(maxsize=65536)
def _parse_gold(gold: str) -> _Number | None:
    return _parse_number(_gold_answer(gold))


def _parse_number(answer: str) -> _Number | None:
    # The limit comes before the cache, so that a long text is neither kept nor turned into a huge integer.
    if len(answer) > MAX_ANSWER_CHARACTERS:
        return None
    if answer.isascii() and answer.isdecimal():
        return _Number(int(answer), False)
    return _parse_short_number(answer)


@lru_cache(maxsize=65536)
def _parse_short_number(answer: str) -> _Number | None:
    plain = answer.replace("{,}", ",").replace("\\$", "$").replace("\\%", "%").translate(_SPELLINGS)
    if "\\" in plain:
        plain = _LATEX_TEXT.sub(r" \1 ", plain)
        plain = _LATEX_SPACE.sub("", _LATEX_DEGREE.sub("°", plain))
    match = _NUMBER.fullmatch(plain.strip().rstrip(".,;:!"))
    if match is None:
        return None
    try:
        value = _value(match)
    except ZeroDivisionError:
        return None
    return _Number(-value if match["sign"] == "-" else value, match["percent"] is not None)


def _value(match: re.Match[str]) -> int | Fraction:
    if match["whole"]:
        top, bottom = match["top"] or match["latex_top"], match["bottom"] or match["latex_bottom"]
        value = int(match["whole"]) + Fraction(int(top), int(bottom))
    elif match["numerator"]:
        value = _fraction(match["numerator"]) / _fraction(match["denominator"])
    else:
        value = _fraction(match["decimal"]) / _fraction(match["divisor"] or "1")
    return value.numerator if value.denominator == 1 else value


def _fraction(decimal: str) -> Fraction:
    # Fraction reads no "18.", and would read exponents, which the pattern keeps out.
    return Fraction(decimal.replace(",", "").removesuffix("."))


def _first_marked(text: str) -> str | None:
    if "####" not in text:
        return None
    for match in _MARKER.finditer(text):
        candidate = match[1].strip()
        if _NUMBERED_HEADING.match(candidate):
            continue
        if _parse_number(candidate) is not None:
            return _strip_sentence(candidate)
        answer = _last_boxed(candidate) or _last_stated(candidate) or _strip_sentence(candidate)
        if answer and _is_answer_like(answer):
            return answer
    return None


def _last_boxed(text: str) -> str | None:
    starts = [match.end() for match in _BOXED.finditer(text)]
    if not starts:
        return None
    start, depth = starts[-1], 1
    for brace in _BRACES.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return _strip_sentence(text[start : brace.start()]) or None
    return None


def _last_stated(text: str) -> str | None:
    starts = [match.end() for match in _ANSWER_IS.finditer(text)]
    return (_strip_sentence(text[starts[-1] :].partition("\n")[0]) or None) if starts else None


def _closing_line(text: str) -> str | None:
    match = _CLOSING_LINE.fullmatch(text.rstrip().rpartition("\n")[2])
    return None if match is None else _strip_sentence(match[1]) or None


def _whole_text(text: str) -> str | None:
    whole = text.strip()
    if len(whole) > MAX_ANSWER_CHARACTERS:
        return None
    is_expression = _DELIMITED.fullmatch(whole.rstrip(".")) is not None
    return _strip_sentence(whole) if is_expression or _parse_number(whole) is not None else None


def _is_answer_like(candidate: str) -> bool:
    return _BEGINS_LIKE_A_NUMBER.match(candidate) is not None or _WORD.search(candidate) is None


def _strip_sentence(candidate: str) -> str:
    sentence = _BOLD_END.sub("", _AFTER_ANSWER.split(candidate, maxsplit=1)[0])
    inner = sentence.lstrip(" \t\r\n*_`:=").rstrip(" \t\r\n*_`.,;:!?")
    match = _DELIMITED.fullmatch(inner)
    return inner if match is None else next(filter(None, match.groups())).strip()
