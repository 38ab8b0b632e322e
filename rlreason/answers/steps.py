"""Steps of a completion: which tokens belong to which line, decided once for every reward and algorithm.

A step is a line of the solution (paper: a line or sentence; the line is our choice). Its tokens end with the token
that holds its line end, so credit for a step is received exactly when the step is complete. Only tokens that contain
a line end matter for that, and a line end is never part of a longer character, so tokens that carry fragments of a
character (byte-level BPE, byte fall-back) need no special care.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlreason.answers.extraction import EXTRACTIONS, Extraction
from rlreason.types import Rollout, Step


class StepSplitter:
    """Splits completions of one tokeniser into steps.

    Args:
        tokenizer: The tokeniser.
        extraction: Tells which line states the final answer.
    """

    def __init__(self, tokenizer: Any, extraction: Extraction = EXTRACTIONS["standard"]) -> None:
        self._tokenizer = tokenizer
        self._extraction = extraction
        self._line_ends: dict[int, int] = {}

    def split(self, completion_ids: Sequence[int], text: str) -> tuple[Step, ...]:
        """The steps of a completion, given by its tokens, and as text without special tokens.

        Their token spans partition the completion: blank lines, the end-of-text token and tokens after a stop text
        belong to the step before them. A token that holds the end of one line and the start of the next belongs to
        the first. Lines that end within one token are one step.

        There is at least one step in a completion of at least one token.
        """
        parts: list[tuple[str, int]] = []  # text and end of each step
        for line, end in zip(text.split("\n"), self._ends(completion_ids, text.count("\n")), strict=True):
            if parts and not (parts[-1][0] and line.strip() and end > parts[-1][1]):
                line = "\n".join(filter(None, (parts.pop()[0], line.strip())))
            parts.append((line.strip(), end))
        starts = [0, *(end for _, end in parts)]
        steps = [Step(start, end, words, "reasoning") for start, (words, end) in zip(starts, parts, strict=False)]
        return self._with_kinds(steps) if completion_ids else ()

    def end_of_answer(self, completion_ids: Sequence[int], text: str) -> int:
        """Index after the last token of the final answer, its line end left out; after the last token without one."""
        last = next((step for step in self.split(completion_ids, text) if step.kind == "answer"), None)
        if last is None:
            return len(completion_ids)
        answer = next(line for line in last.text.split("\n") if self.states_answer(line))
        end = last.end
        first = max(0, last.start - 1)  # the token that ended the line before may hold the marker as well
        while answer in self._decode(completion_ids[first : end - 1]):
            end -= 1
        return end

    def states_answer(self, line: str) -> bool:
        """Whether a line ends a solution, because it states the final answer."""
        return self._extraction.line(line) is not None

    def is_finished(self, rollout: Rollout) -> bool:
        """Whether a solution came to its end: the policy ended it, or had finished the line of its answer before the
        limit.

        A text that was cut in the line of its answer may be about to write another digit.
        """
        line = self._extraction.line(rollout.text)
        return rollout.finish_reason != "length" or (line is not None and line < rollout.text.count("\n"))

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def line_end_ids(self) -> tuple[int, ...]:
        """Every token of the vocabulary that holds a line end."""
        return tuple(token for token in range(len(self._tokenizer)) if self._count(token))

    def _with_kinds(self, steps: Sequence[Step]) -> tuple[Step, ...]:
        line = self._extraction.line("\n".join(step.text for step in steps))
        if line is None:
            return tuple(steps)
        kinds: list[Step] = []
        first = 0  # line of the step
        for step in steps:
            last = first + step.text.count("\n")
            kind = "reasoning" if last < line else "answer" if first <= line else "after"
            kinds.append(Step(step.start, step.end, step.text, kind))
            first = last + 1
        return tuple(kinds)

    def _ends(self, ids: Sequence[int], line_ends: int) -> list[int]:
        """For each line, the index after the token with its line end; for the last line, the number of tokens."""
        ends: list[int] = []
        for position, token in enumerate(ids):
            for _ in range(min(self._count(token), line_ends - len(ends))):
                ends.append(position + 1)
        return ends + [len(ids)] * (line_ends + 1 - len(ends))

    def _count(self, token: int) -> int:
        if token not in self._line_ends:
            self._line_ends[token] = self._decode([token]).count("\n")
        return self._line_ends[token]


def through_answer(steps: Sequence[Step]) -> Sequence[Step]:
    """The steps up to the one that states the final answer; all of them where none does."""
    return [step for step in steps if step.kind != "after"]
