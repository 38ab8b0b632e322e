"""SVAMP's rows as problems."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from gsm8k_like import SVAMP_ROWS, write_svamp

from rlreason.data import svamp
from rlreason.data.sources import Row
from rlreason.errors import UserError
from rlreason.types import Problem


def row(number: int, **changes: Any) -> dict[str, Any]:
    return {"ID": f"chal-{number}", "Body": f"Ann has {number} cats.", "Question": "How many?", "Answer": 8.0} | changes


def write(folder: Path, rows: list[dict[str, Any]]) -> str:
    (folder / "SVAMP.json").write_text(json.dumps(rows))
    return str(folder)


def both(path: str) -> list[Problem]:
    return svamp.load("train", path) + svamp.load("test", path)


def test_a_row_becomes_a_problem(tmp_path: Path) -> None:
    assert both(write(tmp_path, [row(1)])) == [Problem("svamp-chal-1", "Ann has 1 cats. How many?", "8", ())]


def test_the_file_is_split_by_a_constant(tmp_path: Path) -> None:
    path = write(tmp_path, [row(number) for number in range(100)])
    train, test = (svamp.load(split, path) for split in ("train", "test"))
    assert (len(train), len(test)) == (70, 30)
    assert len({problem.id for problem in train + test}) == 100
    assert svamp.load("test", path) == test
    # The published numbers of two users agree only as long as the split stays what it is.
    assert [problem.id for problem in test[:3]] == TEST_IDS


TEST_IDS = ["svamp-chal-3", "svamp-chal-7", "svamp-chal-13"]


def test_the_hub_brings_its_own_split(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def hub_rows(*arguments: Any) -> list[Row]:
        asked.append(arguments)
        return [Row(1, "ChilleD/SVAMP test, row 1", row(736, Answer="27", question_concat="..."))]

    monkeypatch.setattr(svamp, "hub_rows", hub_rows)
    assert [(problem.id, problem.answer) for problem in svamp.load("test", None)] == [("svamp-chal-736", "27")]
    assert asked == [("svamp", "ChilleD/SVAMP", None, "test")]


@pytest.mark.parametrize(
    ("body", "joined"),
    [
        ("He left.", "He left. How many?"),
        ("A party! If 3 came", "A party! If 3 came, How many?"),
        ("If 3 came", "If 3 came, How many?"),
        ("If 3 came. Then 2 left", "If 3 came. Then 2 left. How many?"),
        ("If 3 came,", "If 3 came, How many?"),
    ],
)
def test_punctuation_between_body_and_question(body: str, joined: str) -> None:
    assert svamp.join_sentences(body, "How many?") == joined


@pytest.mark.parametrize(
    ("answer", "plain"),
    [(8.0, "8"), ("8.0", "8"), ("145", "145"), (0.5, "0.5"), (1200.0, "1200"), (-3, "-3"), ("1,200", "1200")],
)
def test_answers_are_plain_numbers(tmp_path: Path, answer: Any, plain: str) -> None:
    assert both(write(tmp_path, [row(1, Answer=answer)]))[0].answer == plain


@pytest.mark.parametrize("answer", ["eight", "NaN", [8]])
def test_other_answers_are_refused(tmp_path: Path, answer: Any) -> None:
    path = write(tmp_path, [row(1, Answer=answer)])
    with pytest.raises(UserError) as caught:
        both(path)
    assert str(caught.value) == f"{path}/SVAMP.json, row 1: the column 'Answer' must be a number; it is {answer!r}"


@pytest.mark.parametrize("column", ["ID", "Body", "Question", "Answer"])
def test_a_missing_column_names_file_and_row(tmp_path: Path, column: str) -> None:
    path = write(tmp_path, [row(1), {key: value for key, value in row(2).items() if key != column}])
    with pytest.raises(UserError, match=f"SVAMP.json, row 2: the column '{column}' is missing"):
        both(path)


def test_a_file_as_it_is_distributed(tmp_path: Path) -> None:
    path = str(write_svamp(tmp_path))
    train, test = (svamp.load(split, path) for split in ("train", "test"))
    assert (len(train), len(test)) == (7, 3)
    answers = {problem.id: problem.answer for problem in train + test}
    assert answers == {f"svamp-{row['ID']}": f"{row['Answer']:g}" for row in SVAMP_ROWS}
    assert not any(problem.steps for problem in train + test)
    questions = {problem.id: problem.question for problem in train + test}
    assert questions["svamp-chal-2"] == "A barn holds 18 cows and 5 goats. How many more cows are there?"
    assert questions["svamp-chal-3"] == "If Pia has 9 caps and buys 6, how many has she?"


@pytest.mark.parametrize("answer", ["1,5", "12,34", "(1, 2)"])
def test_a_comma_that_separates_no_thousands_makes_no_number(tmp_path: Path, answer: str) -> None:
    path = write(tmp_path, [row(1, Answer=answer)])
    with pytest.raises(UserError, match="the column 'Answer' must be a number"):
        both(path)


def test_other_forms_give_the_same_problems(tmp_path: Path) -> None:
    path = write_svamp(tmp_path / "reference")
    table = pd.DataFrame(SVAMP_ROWS)
    table.to_csv(tmp_path / "svamp.csv", index=False)
    table.to_parquet(tmp_path / "any.parquet")
    for other in (tmp_path / "svamp.csv", tmp_path / "any.parquet", path / "SVAMP.json"):
        assert both(str(other)) == both(str(path))


def test_a_clone_brings_its_own_split(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for split, rows in (("train", SVAMP_ROWS[:3]), ("test", SVAMP_ROWS[3:5])):
        pd.DataFrame(rows).to_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet")
    assert [len(svamp.load(split, str(tmp_path))) for split in ("train", "test")] == [3, 2]
