"""The final answer of a solution: how a solution states it, and how it is found in whatever a model wrote."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from rlreason.answers.numbers import CURRENCY_SIGNS, DECIMAL, MAX_ANSWER_CHARACTERS, answer_number
from rlreason.answers.spelling import plain_text

FINAL_ANSWER_MARKER = "####"
# The last line of a solution, in each form that a prompt can ask for.
FORMS = {
    "marker": FINAL_ANSWER_MARKER + " {answer}",
    "boxed": r"The final answer is \boxed{{{answer}}}.",
    "answer_is": "The answer is {answer}.",
}

_ADVERBS = (
    r"(?:(?:therefore|thus|hence|simply|just|then|so|clearly|obviously|exactly|precisely|indeed|now|actually|also|only"
    r"|still|finally|again|equal\s+to|given\s+by|found\s+to\s+be)(?![A-Za-z])[*_,:\s]*)*"
)
_OF_WHAT = r"(?:\s+(?:to|for|of)\s+(?:the|this|that|your|our|part)(?:\s+[A-Za-z0-9]+){0,3})?(?:\s*\([^()\n]{1,40}\))?"
_ANSWER_IS = re.compile(
    rf"(?:[Aa]nswer|ANSWER)(?i:s?(?![A-Za-z]){_OF_WHAT}[*_,\s]*{_ADVERBS}"
    r"(?:\b(?:is|are|was|equals|(?:should|must|would|will)(?:\s+[a-z]+)?\s+be|(?:comes|works)(?:\s+out)?\s+to)\b|:|=)"
    rf"[*_:=,\s]*{_ADVERBS})"
)
# A line that is nothing but a heading of the answer, or the marker alone; the answer is the next line with words.
_HEADING = re.compile(
    rf"(?:[Aa]nswer|ANSWER|[Rr]esult|RESULT|(?<!#){FINAL_ANSWER_MARKER}#*+)[*_:. \t]*(?:\n[ \t]*)+([^\n]+)"
)
_BEFORE_HEADING = re.compile(r"[ \t#*_>]*(?:(?:the|my|our)\s+)?(?:final\s+)?", re.IGNORECASE)
_CLOSING_LINE = re.compile(rf"[*_ ]*(?:A:|{FINAL_ANSWER_MARKER}#*)[*_\s]*(.+)")
_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
_BOXED = re.compile(r"\\(?:boxed|fbox|framebox)(?:\s*(?P<brace>\{)|\s+(?P<bare>[-+]?[0-9][0-9.,/]*))")
_TAGGED = re.compile(r"<answer>((?:(?!</?answer>).)*)</answer>", re.DOTALL | re.IGNORECASE)
_DELIMITED = re.compile(r"\$\$([^$]+)\$\$|\$([^$]+)\$|\\\((.+)\\\)|\\\[(.+)\\\]")
_MARKED = re.compile(rf"{FINAL_ANSWER_MARKER}#*([^\n#]*)")
_ANNOTATION = re.compile(r"<<[^<>\n]*>>")
_OPENING_TAG = re.compile(r"<[A-Za-z][A-Za-z _-]*>:?\s*(?=\S)")
_BOLD_END = re.compile(r"(?<=\S)\*\*(?=\s)")
_NUMBERED_HEADING = re.compile(r"[0-9]+[.)]\s+[A-Z*]")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_BEGINS_LIKE_A_NUMBER = re.compile(rf"[-+{CURRENCY_SIGNS}\s]*(?:\.?[0-9]|\\)")
# Where the sentence that holds the answer ends, or its justification begins, or a special token follows it.
_MORE_ANSWERS = r"(?!(?:and|or|nor|maybe|perhaps|possibly|alternatively|either|else)\b)"
_AFTER_ANSWER = re.compile(
    rf"(?<!\bRs)(?<!\\)[.!?]\s|(?<=[0-9]),(?=\s+{_MORE_ANSWERS}[A-Za-z]{{2}})|\s\((?!(?:in )?base\b)(?=[A-Za-z]{{2}})"
    r"|\s(?:because|since|as)\s|\s(?:\u2014|--)\s?(?=[A-Za-z])"
    r"|<(?:[|/]|(?:end|eo|start|bos|pad|unk)[a-z_]*>)|\[/?(?:INST|EOS|END)\]"
    r"|\\(?:checkmark|blacksquare|square|qed)\b|\\\\$"
)
_AFTER_UNIT = re.compile(rf",(?=\s+{_MORE_ANSWERS}[A-Za-z]{{2}})")
_THOUGHTS = re.compile(
    r"<(think(?:ing)?|thoughts?|reasoning)>.*?(?:</\1>|\Z)|\[THINK\].*?(?:\[/THINK\]|\Z)",
    re.DOTALL | re.IGNORECASE,
)
_END_OF_THOUGHTS = re.compile(r"</(?:think(?:ing)?|thoughts?|reasoning)>|\[/THINK\]")
# Where a model goes on to another question, or somebody else speaks.
_ANOTHER_TURN = (
    r"^[ \t#*_>\[(]*+(?:(?:next|new|another|similar|bonus|second|third|follow-?up)[ \t]+)?"
    r"(?:question|problem|exercise|q|user|human|instruction|student|example[ \t]*[0-9]+)\b[ \t]*+[0-9]*+[ \t]*+"
    r"(?:[:.)\]*-]|$)"
    r"|<\|[a-z_]+\|>|</s>|<(?:start|end)_of_turn>|\[INST\]"
)
_NEXT_TURN = re.compile(_ANOTHER_TURN, re.IGNORECASE | re.MULTILINE)
# Behind a marker whatever asks begins another question; in reasoning a model may ask itself.
_ASKING = re.compile(
    r"\b(?:how[ \t]+(?:many|much|long|far|old|often|fast|tall|big|large|heavy)"
    r"|what[ \t]+(?:is|was|are|were|will|would|percent[a-z]*|fraction)|which|find|calculate)\b",
    re.IGNORECASE,
)
_END_OF_SENTENCE = re.compile(r"[.!?\n]")
# What a model says that takes an answer back.
_CORRECTION = re.compile(
    r"\b(?:wait|actually|correct(?:ion|ed|ing)|mistake|wrong|incorrect|instead|revised?|re-?check|double-?check"
    r"|let (?:me|us)|hold on|sorry|oops|no,)",
    re.IGNORECASE,
)
_SIGNED = re.compile(rf"(?:(?<![\w)])-[{CURRENCY_SIGNS}]?)?{DECIMAL}(?:/[0-9]+(?![0-9.,/]))?")
# What lm-evaluation-harness and verl look for; a comma or point behind the number is none of it.
_MARKED_NUMBER = re.compile(rf"{FINAL_ANSWER_MARKER} (-?[0-9.,]+)")
_LONGEST_STATEMENT = 1000  # characters that are looked at behind an "answer is"
_MOST_STATEMENTS = 1000  # of one text, the last ones, are looked at


class Extraction(NamedTuple):
    """How answers are found in what a model wrote under one prompt.

    Args:
        answer: Gives the answer of a whole solution, in plain characters; None where it states none.
        line: Gives the number of the line, from 0, that ends a solution because it states the answer, from a solution
            or what there is of it; None where no line does, and a solution is then as long as its text.
    """

    answer: Callable[[str], str | None]
    line: Callable[[str], int | None]


def final_answer_line(answer: str, form: str = "marker") -> str:
    """The last line of a solution: the answer in one of `FORMS`."""
    return FORMS[form].format(answer=answer)


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

    What a model thinks (``<think>...</think>``) is not its solution, nor is anything after the line, such as
    ``Question:``, with which it goes on to another question once it has answered. The places are tried in this order,
    and what is found is stripped of the sentence and of the mathematics delimiters around it:

    1. The first ``####`` marker with an answer behind it on its line, as in the official GSM8K rule. A heading such as
       ``#### Step 1`` or ``#### 1. Add`` is no answer. A statement of the second kind that follows on a later line
       takes its place, and so does a marker before which the model takes its answer back ("Wait, ..."): a model that
       guesses first and reasons then has corrected itself.
    2. The last ``\boxed{...}``, ``\fbox{...}`` or ``<answer>...</answer>``, then the last "answer is" or "answer:",
       or the line below a heading "Final answer": these also appear in the reasoning ("the answer is not 3"), and the
       last one that is a number is the conclusion.
    3. A last line ``A: 18`` (or ``#### word``).
    4. The text itself, if it is nothing but a number or one expression between dollar signs.

    Args:
        text: A whole solution.

    Returns:
        The answer in plain characters, see `rlreason.answers.spelling`; None if the text states none.
    """
    return _found(_solution(text))[0]


def answer_line(text: str) -> int | None:
    """The number of the line, from 0, whose marker is followed by the final answer; None where it is stated otherwise.

    Args:
        text: A whole solution, or what there is of it.
    """
    return _found(_solution(text))[1] if FINAL_ANSWER_MARKER in text else None


def last_number(text: str) -> str | None:
    """The last number in a text, which stands in for an answer where none is stated; None without a number.

    What follows another question does not count, but what a model thinks does, where it never came to an end.
    """
    text = _before_turn(_solution(text).strip() or plain_text(text), 1)
    numbers = _SIGNED.findall(text)
    return numbers[-1] if numbers else None


def bare_answer(candidate: str) -> str:
    """An answer without the sentence, the emphasis, the annotations and the mathematics delimiters around it."""
    if candidate.isalnum():
        return candidate
    if "<" in candidate:
        annotated = _ANNOTATION.sub("", candidate)
        if any(map(str.isalnum, annotated)):
            candidate = annotated
        elif "<<" in candidate:
            candidate = candidate.replace("<<", "").replace(">>", "")
        tag = _OPENING_TAG.match(candidate)
        candidate = candidate if tag is None else candidate[tag.end() :]
    sentence = _BOLD_END.sub("", _AFTER_ANSWER.split(candidate, maxsplit=1)[0])
    inner = sentence.lstrip(" \t\r\n*_`\"':=\u2192\u21d2\u2234").rstrip(" \t\r\n*_`.,;:!?")
    if "," in inner and answer_number(head := _AFTER_UNIT.split(inner, maxsplit=1)[0]) is not None:
        inner = head
    if inner.endswith((")", "]")) and not any(bracket in inner for bracket in "([{"):
        inner = inner[:-1].rstrip(" .")
    if len(inner) > 1 and inner[-1] in "\"'" and not inner[-2].isdecimal():
        inner = inner[:-1].rstrip(" .,")
    match = _DELIMITED.fullmatch(inner)
    return inner if match is None else next(filter(None, match.groups())).strip()


def _solution(text: str) -> str:
    """A text in plain characters and without what was thought, but with all line ends."""
    text = plain_text(text)
    if "</" in text or "<t" in text or "<T" in text or "<r" in text or "[THINK]" in text:
        text = _THOUGHTS.sub(_line_ends, text)
        ends = [match.end() for match in _END_OF_THOUGHTS.finditer(text)]  # of those that a prompt has begun
        text = "\n" * text.count("\n", 0, ends[-1]) + text[ends[-1] :] if ends else text
    return text


def _line_ends(match: re.Match[str]) -> str:
    return "\n" * match[0].count("\n")


def _before_turn(text: str, start: int) -> str:
    """What stands before the next turn that begins at an index or later."""
    match = _NEXT_TURN.search(text, start)
    return text if match is None else text[: match.start()]


def _before_question(text: str, start: int) -> str:
    """What stands before the next turn, or the next sentence that asks, which begins at an index or later."""
    text = _before_turn(text, start)
    asking = _ASKING.search(text, start)
    while asking is not None:
        end = _END_OF_SENTENCE.search(text, asking.end())
        if end is None:
            break
        if end[0] == "?":
            return text[: asking.start()]
        # Whatever else asks in this sentence ends with it.
        asking = _ASKING.search(text, end.end())
    return text


def _found(text: str) -> tuple[str | None, int | None]:
    """The answer of a solution, and the line of its marker; None for the line of an answer that has no marker."""
    marked = _marked(text) if FINAL_ANSWER_MARKER in text else None
    if marked is None:
        return _unmarked(text), None
    answer, start, end = marked
    later = text.find("\n", end)
    if later >= 0 and "?" not in text[start:end]:
        after = _before_question(text[later:], 1)
        stated = _last_boxed(after) or next(filter(answer_number, _statements(after, _places(after))), None)
        if stated:
            return stated, None
    return answer, text.count("\n", 0, start)


def _unmarked(text: str) -> str | None:
    places = _places(text)
    boxes = list(_BOXED.finditer(text)) if "box" in text else []
    first = min((*(start for start, _ in places[:1]), *(box.end() for box in boxes[:1])), default=None)
    if first is not None:
        text = _before_turn(text, first)
    boxed = _last_boxed(text)
    if boxed:
        return boxed
    others = []
    for stated in _statements(text, places):
        if _states_number(stated):
            return stated
        others.append(stated)
    answer_like = next(filter(_is_answer_like, others), None)
    return answer_like or _closing_line(text) or next(iter(others), None) or _whole_text(text)


def _marked(text: str) -> tuple[str, int, int] | None:
    """The answer behind the first marker, or one that corrects it, and where marker and answer begin and end."""
    found: tuple[str, int, int] | None = None
    end_of_solution = len(text)
    corrected = 0  # where the first correction of what was found ends
    for match in _MARKED.finditer(text):
        if match.start() >= end_of_solution:
            break
        if match.start() < corrected:
            continue
        answer = _behind_marker(match[1].strip())
        if answer is None:
            continue
        if found is None and match.end() < len(text):
            end_of_solution = len(_before_question(text, match.end()))
        found = answer, match.start(), match.end()
        correction = _CORRECTION.search(text, match.end())
        corrected = len(text) if correction is None else correction.end()
    return found


def _behind_marker(candidate: str) -> str | None:
    if _NUMBERED_HEADING.match(candidate):
        return None
    if answer_number(candidate) is not None:
        return bare_answer(candidate)
    answer = _last_boxed(candidate) or next(_statements(candidate, _places(candidate)), None) or bare_answer(candidate)
    return answer if answer and _is_answer_like(answer) else None


def _last_boxed(text: str) -> str | None:
    """The content of the last box, or answer tag, that has one."""
    if "<" in text:
        for content in reversed(_TAGGED.findall(text)):
            answer = _unmarked(content) or bare_answer(content)
            if answer:
                return answer
    for match in reversed(list(_BOXED.finditer(text)) if "box" in text else []):
        content = match["bare"] or _braced(text, match.end())
        if content is None:
            return None
        answer = bare_answer(content)
        if answer:
            return answer
    return None


def _braced(text: str, start: int) -> str | None:
    """What stands between a brace and the one that closes it; None where none does."""
    depth = 1
    for brace in _BRACES.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return text[start : brace.start()]
    return None


def _places(text: str) -> list[tuple[int, bool]]:
    """Where what stands behind an "answer is" or below a heading begins, and whether it is the latter; in order."""
    if not ("nswer" in text or "NSWER" in text or "esult" in text or "RESULT" in text or FINAL_ANSWER_MARKER in text):
        return []
    places = [(match.end(), False) for match in _ANSWER_IS.finditer(text)]
    if "\n" in text:
        headings = (match.start(1) for match in _HEADING.finditer(text) if _is_heading(text, match.start()))
        places = sorted([*places, *((start, True) for start in headings)])
    return places


def _statements(text: str, places: list[tuple[int, bool]]) -> Iterator[str]:
    """What stands at places before the end of a text, the last first; below a heading only what is a number."""
    for start, is_below_heading in reversed(places[-_MOST_STATEMENTS:]):
        end = text.find("\n", start)
        answer = bare_answer(text[start : min(end if end >= 0 else len(text), start + _LONGEST_STATEMENT)])
        if answer and (not is_below_heading or _states_number(answer)):
            yield answer


def _is_heading(text: str, start: int) -> bool:
    return _BEFORE_HEADING.fullmatch(text, text.rfind("\n", 0, start) + 1, start) is not None


def _states_number(answer: str) -> bool:
    """Whether an answer is a number, or an equation with one at an end."""
    if answer_number(answer) is not None:
        return True
    return "=" in answer and any(map(answer_number, (answer.partition("=")[0], answer.rpartition("=")[2])))


def _closing_line(text: str) -> str | None:
    match = _CLOSING_LINE.fullmatch(text.rstrip().rpartition("\n")[2])
    return None if match is None else bare_answer(match[1]) or None


def _whole_text(text: str) -> str | None:
    whole = text.strip(" \t\r\n*_")
    if len(whole) > MAX_ANSWER_CHARACTERS:
        return None
    is_expression = _DELIMITED.fullmatch(whole.rstrip(".")) is not None
    return bare_answer(whole) if is_expression or answer_number(whole) is not None else None


def _is_answer_like(candidate: str) -> bool:
    return _BEGINS_LIKE_A_NUMBER.match(candidate) is not None or _WORD.search(candidate) is None


def _without_line(text: str) -> int | None:
    return None


def _marked_number(text: str, place: int) -> tuple[str, int] | None:
    """The first (0) or last (-1) number behind a marker before the next question, and its line."""
    text = _solution(text)
    first = _MARKED_NUMBER.search(text)
    if first is None:
        return None
    match = list(_MARKED_NUMBER.finditer(_before_turn(text, first.end())))[place]
    return bare_answer(match[1]), text.count("\n", 0, match.start())


def _by_marked_number(place: int) -> Extraction:
    def answer(text: str) -> str | None:
        found = _marked_number(text, place)
        return found[0] or None if found else None

    def line(text: str) -> int | None:
        found = _marked_number(text, place)
        return found[1] if found else None

    return Extraction(answer, line)


def _boxed_answer(text: str) -> str | None:
    text = _solution(text)
    first = next((match.end() for match in (_BOXED.search(text), _TAGGED.search(text)) if match), None)
    return None if first is None else _last_boxed(_before_turn(text, first))


def _stated_answer(text: str) -> str | None:
    text = _solution(text)
    places = _places(text)
    if not places:
        return None
    text = _before_turn(text, places[0][0])
    return next(_statements(text, [place for place in places if place[0] <= len(text)]), None)


def _last_number(text: str) -> str | None:
    number = last_number(text)
    return None if number is None else bare_answer(number)  # a sentence ends behind it


EXTRACTIONS: dict[str, Extraction] = {
    "standard": Extraction(extract_answer, answer_line),
    "first_marker": _by_marked_number(0),
    "last_marker": _by_marked_number(-1),
    "boxed": Extraction(_boxed_answer, _without_line),
    "answer_is": Extraction(_stated_answer, _without_line),
    "last_number": Extraction(_last_number, _without_line),
}
