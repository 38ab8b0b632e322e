"""MATH and GSM8K-Platinum: their layouts, answers, levels and splits."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from gsm8k_like import GSM8K_ROWS

from rlreason.config.sections import DataConfig
from rlreason.data import gsm8k, gsm8k_platinum, math
from rlreason.data.math import MathConfig
from rlreason.data.sources import Row
from rlreason.data.splits import read_data
from rlreason.errors import UserError

COMMON: dict[str, Any] = {
    "path": None,
    "seed": 0,
    "train_size": None,
    "validation_size": 2,
    "test_size": None,
    "max_prompt_tokens": 256,
    "max_completion_tokens": 160,
}


def problem(number: int, level: int = 1, solution: str = "We add.\nSo it is $\\boxed{%d}$.") -> dict[str, Any]:
    return {
        "problem": f"What is ${number} + 0$?",
        "level": f"Level {level}",
        "type": "Algebra",
        "solution": solution.replace("%d", str(number)),
    }


ALGEBRA = {"train": [problem(n, n % 5 + 1) for n in range(10)], "test": [problem(n, n % 5 + 1) for n in range(10, 15)]}
GEOMETRY = {"train": [problem(n) for n in range(20, 24)], "test": [problem(n) for n in range(24, 26)]}
SUBJECTS: dict[str, dict[str, list[dict[str, Any]]]] = {"algebra": ALGEBRA, "geometry": GEOMETRY}


def original(folder: Path) -> None:
    for subject, splits in SUBJECTS.items():
        for split, rows in splits.items():
            (folder / split / subject).mkdir(parents=True)
            for number, row in enumerate(rows):
                (folder / split / subject / f"{number}.json").write_text(json.dumps(row, indent=4))


def clone(folder: Path) -> None:
    (folder / "README.md").write_text("# MATH")
    for subject, splits in SUBJECTS.items():
        (folder / subject).mkdir()
        for split, rows in splits.items():
            pd.DataFrame(rows).to_parquet(folder / subject / f"{split}-00000-of-00001.parquet")


def merged(folder: Path) -> None:
    for split in ("train", "test"):
        rows = [row for splits in SUBJECTS.values() for row in splits[split]]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))


def ids(problems: Sequence[Any]) -> list[str]:
    return [item.id for item in problems]


def test_a_name_of_the_hub_that_has_the_subjects_as_subsets(monkeypatch: pytest.MonkeyPatch) -> None:
    def hub_splits(path: str, subset: str | None, _: str | None) -> dict[str, list[Row]]:
        assert path == "some/math" and subset is not None
        return {
            split: [Row(number, f"{subset} {split}, row {number}", row) for number, row in enumerate(rows, start=1)]
            for split, rows in SUBJECTS[subset].items()
        }

    monkeypatch.setattr("rlreason.data.layout.hub_subsets", lambda _: list(SUBJECTS))
    monkeypatch.setattr("rlreason.data.layout.hub_splits", hub_splits)
    assert len(math.load("train", "some/math", None)) == 14


@pytest.mark.parametrize("layout", [original, clone, merged])
def test_every_layout_of_math_gives_the_splits_of_the_hub(
    tmp_path: Path, layout: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def hub_rows(name: str, repository: str, subset: str, split: str) -> list[Row]:
        assert (name, repository) == ("math", "EleutherAI/hendrycks_math")
        rows: Sequence[Mapping[str, Any]] = SUBJECTS.get(subset, {}).get(split, [])
        return [Row(number, f"{subset} {split}, row {number}", row) for number, row in enumerate(rows, start=1)]

    monkeypatch.setattr(math, "hub_rows", hub_rows)
    config = MathConfig(name="math", levels=None, **COMMON)
    layout(tmp_path)
    whole, found = read_data(config), read_data(replace(config, path=str(tmp_path)))
    assert found == whole
    assert [len(whole.splits[split]) for split in ("train", "validation", "test")] == [12, 2, 7]
    assert set(ids(whole.measured("test"))) == set(ids(math.load("test", str(tmp_path), None)))
    first = whole.measured("test")[0]
    assert first.question == f"What is ${first.answer} + 0$?"
    assert first.steps == ("We add.", f"So it is $\\boxed{{{first.answer}}}$.")


def test_levels_are_chosen_in_every_split(tmp_path: Path) -> None:
    merged(tmp_path)
    config = MathConfig(name="math", levels=[2, 5], **{**COMMON, "path": str(tmp_path), "validation_size": 1})
    found = read_data(config)
    levels = {item.columns["level"] for problems in found.splits.values() for item in problems}
    assert levels == {"Level 2", "Level 5"}
    assert sum(map(len, found.splits.values())) == 6
    (tmp_path / "test.jsonl").write_text(json.dumps(problem(77)))
    with pytest.raises(UserError, match=r"data.levels=\[3\]: no test problem is of these"):
        read_data(replace(config, levels=[3]))


@pytest.mark.parametrize("levels", [[], [0], [1, 6]])
def test_levels_that_no_problem_has_are_refused(levels: list[int]) -> None:
    with pytest.raises(UserError, match="must be some of 1, 2, 3, 4, 5, or null"):
        MathConfig(name="math", levels=levels, **COMMON)


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("First $\\boxed{1}$, no: $\\boxed{\\frac{1}{2}}$.", "\\frac{1}{2}"),
        ("It is $\\boxed{10,\\!080}$.", "10080"),
        ("It is $\\boxed{(1, 2)}$.", "(1, 2)"),
        ("It is $\\boxed 7$.", "7"),
        ("It is $\\fbox{7}$.", "7"),
    ],
)
def test_the_answer_is_what_the_last_box_holds(tmp_path: Path, solution: str, answer: str) -> None:
    (tmp_path / "test.jsonl").write_text(json.dumps(problem(1, solution=solution)))
    assert [item.answer for item in math.load("test", str(tmp_path), None)] == [answer]


def test_a_solution_without_a_box_is_refused(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text(json.dumps(problem(1, solution="It is 1.")))
    with pytest.raises(UserError, match=r"test.jsonl:1: the column 'solution' must state its answer in \\boxed\{\}"):
        math.load("test", str(tmp_path), None)


def test_a_training_problem_that_is_a_test_problem_is_left_out_and_said(tmp_path: Path) -> None:
    merged(tmp_path)
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write("\n" + json.dumps(problem(12)))
    found = read_data(MathConfig(name="math", levels=None, **{**COMMON, "path": str(tmp_path)}))
    assert "train: questions left out, for the test split has them as well: 1" in found.notes
    assert len(found.training().train) == 12


TESTS = [{**row, "cleaning_status": "consensus"} for row in GSM8K_ROWS[9:]]


def platinum(path: Path | None) -> DataConfig:
    return DataConfig(name="gsm8k_platinum", **{**COMMON, "path": None if path is None else str(path)})


def test_platinum_measures_on_its_own_questions_and_trains_on_those_of_gsm8k(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hub_rows(_: str, repository: str, subset: str, split: str) -> list[Row]:
        rows = {("openai/gsm8k", "train"): GSM8K_ROWS[:9], ("madrylab/gsm8k-platinum", "test"): TESTS}
        assert subset == "main"
        return [Row(number, f"row {number}", row) for number, row in enumerate(rows[repository, split], start=1)]

    for module in (gsm8k, gsm8k_platinum):
        monkeypatch.setattr(module, "hub_rows", hub_rows)
    for name, rows in (("train", GSM8K_ROWS[:9]), ("test", TESTS)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    whole = read_data(platinum(None))
    assert whole == read_data(platinum(tmp_path))
    assert set(ids(whole.measured("test"))) == {f"gsm8k_platinum-test-{number}" for number in (1, 2, 3)}
    assert whole.training() == read_data(replace(platinum(tmp_path), name="gsm8k")).training()


def test_a_clone_of_platinum_alone_is_measured_on(tmp_path: Path) -> None:
    (tmp_path / "main").mkdir()
    pd.DataFrame(TESTS).to_parquet(tmp_path / "main/test-00000-of-00001.parquet")
    assert len(read_data(platinum(tmp_path)).measured("test")) == 3
