"""The final answer of a solution: how a solution states it, and how it is found in whatever a model wrote."""

from __future__ import annotations

import re

from rlreason.answers.numbers import MAX_ANSWER_CHARACTERS, answer_number

FINAL_ANSWER_MARKER = "####"

_ANSWER_IS = re.compile(r"answer[*_\s]*(?:\bis\b|:|=)[*_:\s]*", re.IGNORECASE)
_CLOSING_LINE = re.compile(rf"[*_ ]*(?:A:|{FINAL_ANSWER_MARKER}#*)[*_\s]*(.+)")
_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
_BOXED = re.compile(r"\\f?boxed\s*\{")
_DELIMITED = re.compile(r"\$\$([^$]+)\$\$|\$([^$]+)\$|\\\((.+)\\\)|\\\[(.+)\\\]")
_MARKED = re.compile(rf"{FINAL_ANSWER_MARKER}#*([^\n#]*)")
_BOLD_END = re.compile(r"(?<=\S)\*\*(?=\s)")
_NUMBERED_HEADING = re.compile(r"[0-9]+[.)]\s+[A-Z*]")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_BEGINS_LIKE_A_NUMBER = re.compile(r"[-+\u2212$€£\s]*(?:\.?[0-9]|\\)")
# Where the sentence that holds the answer ends, or its justification begins, or a special token follows it.
_AFTER_ANSWER = re.compile(
    r"(?<!\bRs)[.!?]\s|(?<=[0-9]),(?=\s+(?!and\b|or\b)[A-Za-z]{2})|\s\((?=[A-Za-z]{2})|\s(?:because|since)\s|<[|/]"
)


def final_answer_line(answer: str) -> str:
    """The last line of a solution: the marker, then the answer."""
    return f"{FINAL_ANSWER_MARKER} {answer}"


def reasoning_of(text: str) -> str:
    """What stands before the first final-answer marker; the whole text without one."""
    return text.partition(FINAL_ANSWER_MARKER)[0]


def split_solution(text: str) -> tuple[tuple[str, ...], str]:
    """Splits a reference solution.

    Args:
        text: Steps, one a line, then a line with the marker and the answer.

    Returns:
        The steps without empty lines, and all that stands behind the first marker, without surrounding white space;
        the latter is empty where there is no marker.
    """
    reasoning, _, answer = text.partition(FINAL_ANSWER_MARKER)
    return tuple(line.rstrip() for line in reasoning.split("\n") if line.strip()), answer.strip()


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
    return _first_marked(line) is not None


def bare_answer(candidate: str) -> str:
    """An answer without the sentence, the emphasis and the mathematics delimiters around it."""
    sentence = _BOLD_END.sub("", _AFTER_ANSWER.split(candidate, maxsplit=1)[0])
    inner = sentence.lstrip(" \t\r\n*_`:=").rstrip(" \t\r\n*_`.,;:!?")
    match = _DELIMITED.fullmatch(inner)
    return inner if match is None else next(filter(None, match.groups())).strip()


def _first_marked(text: str) -> str | None:
    if FINAL_ANSWER_MARKER not in text:
        return None
    for match in _MARKED.finditer(text):
        candidate = match[1].strip()
        if _NUMBERED_HEADING.match(candidate):
            continue
        if answer_number(candidate) is not None:
            return bare_answer(candidate)
        answer = _last_boxed(candidate) or _last_stated(candidate) or bare_answer(candidate)
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
            return bare_answer(text[start : brace.start()]) or None
    return None


def _last_stated(text: str) -> str | None:
    starts = [match.end() for match in _ANSWER_IS.finditer(text)]
    return (bare_answer(text[starts[-1] :].partition("\n")[0]) or None) if starts else None


def _closing_line(text: str) -> str | None:
    match = _CLOSING_LINE.fullmatch(text.rstrip().rpartition("\n")[2])
    return None if match is None else bare_answer(match[1]) or None


def _whole_text(text: str) -> str | None:
    whole = text.strip()
    if len(whole) > MAX_ANSWER_CHARACTERS:
        return None
    is_expression = _DELIMITED.fullmatch(whole.rstrip(".")) is not None
    return bare_answer(whole) if is_expression or answer_number(whole) is not None else None


def _is_answer_like(candidate: str) -> bool:
    return _BEGINS_LIKE_A_NUMBER.match(candidate) is not None or _WORD.search(candidate) is None
