"""GSM8K's rows as problems."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from rlreason.data import gsm8k
from rlreason.data.sources import Row
from rlreason.errors import UserError
from rlreason.types import Problem

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "gsm8k"


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
        f"{tmp_path}/train.jsonl:1: the column 'answer' must end with a line '#### NUMBER'; mend the row"
    )


@pytest.mark.parametrize("column", ["question", "answer"])
def test_a_missing_column_names_file_and_line(tmp_path: Path, column: str) -> None:
    row = {"question": "One?", "answer": "#### 1"}
    write(tmp_path, row, {key: value for key, value in row.items() if key != column})
    with pytest.raises(UserError, match=re.escape(f"{tmp_path}/train.jsonl:2: the column '{column}' is missing")):
        gsm8k.load("train", str(tmp_path))


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared copy of GSM8K")
@pytest.mark.parametrize(("split", "size"), [("train", 7473), ("test", 1319)])
def test_the_real_files(split: str, size: int) -> None:
    problems = gsm8k.load(split, str(SHARED))
    assert len(problems) == size
    assert problems[16].id == f"gsm8k-{split}-17"
    assert all(problem.steps for problem in problems)
    assert all(re.fullmatch(r"-?\d+", problem.answer) for problem in problems)
