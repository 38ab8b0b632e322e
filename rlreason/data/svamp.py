"""SVAMP: one-step word problems that vary each other's wording, without worked solutions (Patel et al. 2021)."""

from __future__ import annotations

import random
import re
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path

from rlreason.config.sections import DataConfig
from rlreason.data.base import DataFacts, Dataset, official
from rlreason.data.golds import plain_number, without_thousands
from rlreason.data.layout import ONLY, located
from rlreason.data.sources import Row, hub_rows, shown
from rlreason.errors import UserError
from rlreason.types import Problem

HUB_NAME = "ChilleD/SVAMP"
FILE_NAME = "SVAMP.json"
TEST_SHARE = 0.3
# The Hub's 700/300 split is a shuffle whose seed nobody published, and SVAMP.json names no split. So the file is
# split by this constant, never by data.seed: its test questions are the same in every experiment, yet not the Hub's.
FILE_SPLIT_SEED = "svamp-700-300"


def load(split: str, path: str | None) -> list[Problem]:
    """Load one split: 700 training and 300 test questions, in the order of the file and without steps.

    Args:
        split: "train" or "test".
        path: Folder with `SVAMP.json`, or a file of its rows in any form, split 70/30 by a constant; or a clone or a
            name of the Hub, with the Hub's split. None loads from the Hub.

    Raises:
        UserError: The data are missing or malformed; the message names file and row.
    """
    rows = hub_rows("svamp", HUB_NAME, None, split) if path is None else _file_rows(split, path)
    return [_problem(row) for row in rows]


def _file_rows(split: str, path: str) -> list[Row]:
    official_file = Path(path) / FILE_NAME
    place = located(str(official_file) if official_file.is_file() else path, None)
    if ONLY not in place.splits:
        return place.splits[split]() if split in place.splits else []
    rows = place.splits[ONLY]()
    test_size = round(TEST_SHARE * len(rows))
    test = set(random.Random(FILE_SPLIT_SEED).sample(range(len(rows)), test_size))
    return [row for index, row in enumerate(rows) if (index in test) == (split == "test")]


def _problem(row: Row) -> Problem:
    question = join_sentences(row.text("Body"), row.text("Question"))
    return Problem(f"svamp-{row.text('ID')}", question, _number(row), (), dict(row.values))


def join_sentences(body: str, question: str) -> str:
    """Body and question as one text; the data set cut 'If ..., how ...?' at the comma and dropped it."""
    if body.endswith((".", "!", "?", ",", ";", ":")):
        return f"{body} {question}"
    last_sentence = re.split(r"(?<=[.!?]) ", body)[-1]
    return f"{body}{',' if last_sentence.startswith('If ') else '.'} {question}"


def _number(row: Row) -> str:
    """The answer as a plain decimal: the file has 8.0, the Hub "8"."""
    value = row.value("Answer")
    try:
        number = Decimal(without_thousands(str(value)))
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise UserError(f"{row.place}: the column 'Answer' must be a number; it is {shown(value)}")
    return plain_number(number)


SVAMP = Dataset(
    settings=DataConfig,
    title="SVAMP",
    splits=partial(official, load),
    generated=False,
    solutions=False,
    other_kind=False,
    # It has no solutions; theirs are the lengths of those of gsm_symbolic.
    facts=DataFacts(700, 300, 42.0, 76, 95.1, 260, 3.57),
    hub_name=HUB_NAME,
    licence="mit",
)
