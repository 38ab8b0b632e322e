"""GSM8K: grade-school word problems with worked solutions (Cobbe et al. 2021)."""

from __future__ import annotations

from functools import partial

from rlreason.answers.extraction import FINAL_ANSWER_MARKER, split_solution
from rlreason.config.sections import DataConfig
from rlreason.data.base import DataFacts, Dataset, official
from rlreason.data.sources import Row, hub_rows, json_lines
from rlreason.errors import UserError
from rlreason.types import Problem

HUB_NAME = "openai/gsm8k"
HUB_SUBSET = "main"


def load(split: str, path: str | None) -> list[Problem]:
    """Load one split, in the order of the file.

    The number in an id is the row's number from 1, which is the same in the files and on the Hub.

    Args:
        split: "train" or "test".
        path: Folder with `train.jsonl` and `test.jsonl`; None loads from the Hub.

    Raises:
        UserError: The data are missing or malformed; the message names file and line.
    """
    rows = hub_rows("gsm8k", HUB_NAME, HUB_SUBSET, split) if path is None else json_lines(path, f"{split}.jsonl")
    return [_problem(row, split) for row in rows]


def _problem(row: Row, split: str) -> Problem:
    steps, answer = split_solution(row.text("answer"))
    answer = answer.replace(",", "")
    if not answer or "\n" in answer:
        raise UserError(
            f"{row.place}: the column 'answer' must end with a line '{FINAL_ANSWER_MARKER} NUMBER'; fix the row"
        )
    return Problem(f"gsm8k-{split}-{row.number}", row.text("question"), answer, steps)


GSM8K = Dataset(
    settings=DataConfig,
    title="GSM8K",
    splits=partial(official, load),
    generated=False,
    solutions=True,
    other_kind=False,
    facts=DataFacts(7473, 1319, 60.2, 223, 124.4, 454, 3.57),
    hub_name=HUB_NAME,
    licence="mit",
)
