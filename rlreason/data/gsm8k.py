"""GSM8K: grade-school word problems with worked solutions (Cobbe et al. 2021)."""

from __future__ import annotations

from functools import partial

from rlreason.answers.extraction import FINAL_ANSWER_MARKER, split_solution
from rlreason.config.sections import DataConfig
from rlreason.data.base import DataFacts, Dataset, official
from rlreason.data.golds import without_thousands
from rlreason.data.layout import split_rows
from rlreason.data.sources import Row, hub_rows
from rlreason.errors import UserError
from rlreason.types import Problem

HUB_NAME = "openai/gsm8k"
HUB_SUBSET = "main"


def load(split: str, path: str | None) -> list[Problem]:
    """Load one split, in the order of the file; none where the files do not have it.

    The number in an id is the row's number from 1, which is the same in the files and on the Hub.

    Args:
        split: "train" or "test".
        path: File or folder with both splits in any form, a clone of the data set, or a name on the Hub; None loads
            it from the Hub.

    Raises:
        UserError: The data are missing or malformed; the message names file and line.
    """
    if path is None:
        rows = hub_rows("gsm8k", HUB_NAME, HUB_SUBSET, split)
    else:
        rows = split_rows(path, None, split, default_subset=HUB_SUBSET)
    return [problem(row, f"gsm8k-{split}-{row.number}") for row in rows]


def problem(row: Row, identity: str) -> Problem:
    """A row of GSM8K, or of a data set with its columns, as a problem.

    Raises:
        UserError: A column is missing, or the answer does not end with the line that states it.
    """
    steps, answer = split_solution(row.text("answer"))
    if not answer or "\n" in answer:
        raise UserError(
            f"{row.place}: the column 'answer' must end with a line '{FINAL_ANSWER_MARKER} NUMBER'; fix the row"
        )
    return Problem(identity, row.text("question"), without_thousands(answer), steps, dict(row.values))


FACTS = DataFacts(7473, 1319, 60.2, 223, 124.4, 454, 3.57)

GSM8K = Dataset(
    settings=DataConfig,
    title="GSM8K",
    splits=partial(official, load),
    generated=False,
    solutions=True,
    other_kind=False,
    facts=FACTS,
    hub_name=HUB_NAME,
    licence="mit",
)
