"""When two solutions count as the same but for their layout.

For solutions that share their arithmetic, whatever their words, see `rlreason.answers.arithmetic.operations`.
"""

from __future__ import annotations

import re

from rlreason.answers.extraction import reasoning_of
from rlreason.answers.numbers import THOUSANDS, canonical

# With the spare "<" and ">" around an annotation; `arithmetic` reads what is inside and need not take them out.
_ANNOTATION = re.compile(r"(?<!<)<<++[^<>\n]*>>+")
_CURRENCY = re.compile(r"\\?[$€£¥₹]")
# Not `DECIMAL`, which finds numbers to be read. Here the text around a number stays, so digits that are a part of
# something else are left alone, or different texts would become one: 1.2.0 is not 1.2 and 0, the point of "18." may
# end a sentence, and 1,000,00 holds no 1,000.
_NUMBER = re.compile(
    rf"(?<![0-9])(?<![0-9]\.)"
    rf"(?:(?:(?<![0-9],){THOUSANDS}(?!,?[0-9])|[0-9]++)(?:\.[0-9]++)?|(?<![\w.])\.[0-9]++)"
    rf"(?!\.?[0-9])"
)
_OPERATOR = re.compile(r" ?([-+*/=^%()]) ?")
_SPACE_BEFORE_PUNCTUATION = re.compile(r" (?=[,;:])")
_TYPOGRAPHIC_OPERATORS = str.maketrans(
    {"\N{MULTIPLICATION SIGN}": "*", "\N{DIVISION SIGN}": "/", "\N{MINUS SIGN}": "-"}
)
_MOST_PASSES = 30  # as many as annotations may stand within each other
_TRAILING = " .,;:!?"


def solution_key(text: str) -> str:
    """Canonical form of a solution, equal for solutions that differ only in layout.

    Ignored are letter case, spacing, empty lines, calculator annotations `<<...>>`, currency signs, thousands
    separators, trailing zeros of decimals (18.00 is 18, .50 is 0.5), trailing punctuation, the typographic forms of
    the operators `*`, `/` and `-`, and all from the first final-answer marker on. Steps that stand before the marker
    on its own line do count, or solutions written on one line would all be equal. The wording and every number and
    operator of the steps count as well; a `!` after a number stays, as it may be a factorial.

    Args:
        text: A completion.

    Returns:
        The lines in canonical form, joined by newlines; empty when only an answer was given. Applying the function
        to its own result changes nothing, but where annotations stand within annotations many times over.
    """
    for _ in range(_MOST_PASSES):
        # Taking one thing out can join its neighbours into another, as in <<1<<2>>>>, so one pass is not always enough.
        if (key := _simplified(text)) == text:
            break
        text = key
    return text


def _simplified(text: str) -> str:
    steps = reasoning_of(text).lower().translate(_TYPOGRAPHIC_OPERATORS)
    # A space, not nothing, takes the place of what is removed: 5$3 must not become 53.
    steps = _CURRENCY.sub(" ", _ANNOTATION.sub(" ", steps))
    steps = _NUMBER.sub(lambda match: canonical(match[0]), steps)
    lines = (_simplified_line(line) for line in steps.splitlines())
    return "\n".join(line for line in lines if line)


def _simplified_line(line: str) -> str:
    spaced = " ".join(line.split())
    joined = _SPACE_BEFORE_PUNCTUATION.sub("", _OPERATOR.sub(r"\1", spaced))
    kept = joined.rstrip(_TRAILING)
    is_factorial = joined[len(kept) :].startswith("!") and kept[-1:] in tuple("0123456789)")
    return kept + "!" if is_factorial else kept
