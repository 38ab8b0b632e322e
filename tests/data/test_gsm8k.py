"""GSM8K's rows as problems."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from gsm8k_like import FINAL_ANSWERS, GSM8K_ROWS, write_gsm8k
from hypothesis import given
from hypothesis import strategies as st

from rlreason.data import gsm8k
from rlreason.data.sources import Row
from rlreason.errors import UserError
from rlreason.types import Problem


def write(folder: Path, *rows: Any) -> Path:
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_a_row_becomes_a_problem(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"question": "One?", "answer": "#### 1"},
        {"question": " Two? ", "answer": "Half: 2/2=<<2/2=1>>1.\n\nAll: 1,200 \n#### 1,200"},
    )
    assert gsm8k.load("train", str(tmp_path)) == [
        Problem("gsm8k-train-1", "One?", "1", ()),
        Problem("gsm8k-train-2", "Two?", "1200", ("Half: 2/2=<<2/2=1>>1.", "All: 1,200")),
    ]


def test_the_hub_gives_the_same_problems(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values = {"question": "One?", "answer": "It is 1.\n#### 1"}
    monkeypatch.setattr(gsm8k, "hub_rows", lambda *_: [Row(1, "openai/gsm8k train, row 1", values)])
    assert gsm8k.load("train", None) == gsm8k.load("train", str(write(tmp_path, values)))


@pytest.mark.parametrize("answer", ["It is 1.", "It is 1.\n####", "#### 1\nand more"])
def test_an_answer_without_final_line_is_refused(tmp_path: Path, answer: str) -> None:
    write(tmp_path, {"question": "One?", "answer": answer})
    with pytest.raises(UserError) as caught:
        gsm8k.load("train", str(tmp_path))
    assert str(caught.value) == (
        f"{tmp_path}/train.jsonl:1: the column 'answer' must end with a line '#### NUMBER'; fix the row"
    )


@pytest.mark.parametrize("column", ["question", "answer"])
def test_a_missing_column_names_file_and_line(tmp_path: Path, column: str) -> None:
    row = {"question": "One?", "answer": "#### 1"}
    write(tmp_path, row, {key: value for key, value in row.items() if key != column})
    with pytest.raises(UserError, match=re.escape(f"{tmp_path}/train.jsonl:2: the column '{column}' is missing")):
        gsm8k.load("train", str(tmp_path))


def test_files_as_they_are_distributed(tmp_path: Path) -> None:
    folder = str(write_gsm8k(tmp_path))
    train, test = (gsm8k.load(split, folder) for split in ("train", "test"))
    assert (len(train), len(test)) == (9, 3)
    assert (train[6].id, test[2].id) == ("gsm8k-train-7", "gsm8k-test-3")
    assert tuple(problem.answer for problem in train + test) == FINAL_ANSWERS
    assert [problem.question for problem in train + test] == [row["question"] for row in GSM8K_ROWS]
    for problem, row in zip(train + test, GSM8K_ROWS, strict=True):
        lines = [line for line in row["answer"].splitlines()[:-1] if line]
        assert problem.steps == tuple(lines), "each line is a step, annotations and all; blank lines are none"


NUMBERS = st.integers(-(10**9), 10**9)
LINES = st.lists(st.text(st.characters(exclude_characters="#", exclude_categories=("C", "Z")), min_size=1), max_size=5)


@given(LINES, NUMBERS, st.booleans())
def test_any_solution_is_its_lines_and_its_final_number(lines: list[str], number: int, commas: bool) -> None:
    written = f"{number:,}" if commas else str(number)
    values = {"question": "How many?", "answer": "\n".join([*lines, f"#### {written}"])}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gsm8k, "hub_rows", lambda *_: [Row(1, "row 1", values)])
        (problem,) = gsm8k.load("test", None)
    assert (problem.answer, problem.steps) == (str(number), tuple(lines))


def parquet(path: Path, rows: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(path)


def clone(folder: Path, train: Any, test: Any) -> None:
    for subset, changed in (("main", ""), ("socratic", " **")):
        for split, rows in (("train", train), ("test", test)):
            changes = [{**row, "answer": changed + row["answer"]} for row in rows]
            parquet(folder / subset / f"{split}-00000-of-00001.parquet", changes)


def tables(folder: Path, train: Any, test: Any) -> None:
    pd.DataFrame(train).to_csv(folder / "train.csv", index=False)
    pd.DataFrame(test).to_csv(folder / "test.csv", index=False)


def arrays(folder: Path, train: Any, test: Any) -> None:
    (folder / "train.json").write_text(json.dumps(train))
    (folder / "test.json").write_text(json.dumps(test))


def compressed(folder: Path, train: Any, test: Any) -> None:
    for name, rows in (("train", train), ("test", test)):
        (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))


def one_file(folder: Path, train: Any, test: Any) -> None:
    (folder / "gsm8k.json").write_text(json.dumps({"train": train, "test": test}))


def original(folder: Path, train: Any, test: Any) -> None:
    for name, rows in (("train", train), ("test", test), ("train_socratic", test), ("example_model_solutions", test)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))


@pytest.mark.parametrize("layout", [clone, tables, arrays, compressed, one_file, original])
def test_a_clone_and_every_form_give_the_same_problems(tmp_path: Path, layout: Callable[..., None]) -> None:
    layout(tmp_path, GSM8K_ROWS[:9], GSM8K_ROWS[9:])
    reference = str(write_gsm8k(tmp_path / "reference"))
    for split in ("train", "test"):
        (tmp_path / "reference").rename(tmp_path.parent / "reference")
        found = gsm8k.load(split, str(tmp_path))
        (tmp_path.parent / "reference").rename(tmp_path / "reference")
        assert found == gsm8k.load(split, reference)
        assert found[0].columns["question"] == found[0].question


@pytest.mark.parametrize("gold", ["1,5", "(1, 2)", "12,34", "1,2,3", "8.0"])
def test_nothing_but_thousands_separators_is_taken_from_an_answer(tmp_path: Path, gold: str) -> None:
    write(tmp_path, {"question": "One?", "answer": f"It is.\n#### {gold}"})
    assert gsm8k.load("train", str(tmp_path))[0].answer == gold


def test_one_file_that_names_no_split_is_refused(tmp_path: Path) -> None:
    (tmp_path / "questions.jsonl").write_text(json.dumps(GSM8K_ROWS[0]))
    with pytest.raises(UserError, match="nothing says which questions are for training and which for tests"):
        gsm8k.load("train", str(tmp_path))
