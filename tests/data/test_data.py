"""Splits: what is held out, what sizes do, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rlreason.config.sections import DataConfig
from rlreason.data.base import GENERATED_TEST_SIZE, GENERATED_TRAIN_SIZE, Splits, bare
from rlreason.data.registry import DATASETS
from rlreason.data.splits import TrainingData, read_data
from rlreason.errors import UserError
from rlreason.types import Problem


def data_config(name: str = "wordproblems", path: Path | None = None, **changes: int | None) -> DataConfig:
    config = DataConfig(
        name=name,
        path=None if path is None else str(path),
        seed=0,
        train_size=None,
        validation_size=3,
        test_size=None,
        max_prompt_tokens=256,
        max_completion_tokens=160,
    )
    return replace(config, **changes)  # type: ignore[arg-type]


def write_gsm8k(folder: Path, train: int = 10, test: int = 5) -> Path:
    for split, size in (("train", train), ("test", test)):
        rows = [{"question": f"{split} question {n}?", "answer": f"It is {n}.\n#### {n}"} for n in range(size)]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def ids(problems: tuple[Problem, ...]) -> list[str]:
    return [problem.id for problem in problems]


def training_data(config: DataConfig) -> TrainingData:
    return read_data(config).training()


def evaluation_problems(config: DataConfig, split: str) -> tuple[Problem, ...]:
    return read_data(config).measured(split)


def refusal(config: DataConfig, split: str | None = None) -> str:
    """The one line with which the data are refused."""
    with pytest.raises(UserError) as caught:
        training_data(config) if split is None else evaluation_problems(config, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_training_validation_and_test_are_disjoint_and_complete(tmp_path: Path) -> None:
    config = data_config("gsm8k", write_gsm8k(tmp_path))
    whole = training_data(config)
    assert (len(whole.train), len(whole.validation)) == (7, 3)
    assert sorted(ids(whole.train) + ids(whole.validation)) == sorted(f"gsm8k-train-{n}" for n in range(1, 11))
    assert evaluation_problems(config, "validation") == whole.validation
    assert sorted(ids(evaluation_problems(config, "test"))) == [f"gsm8k-test-{n}" for n in range(1, 6)]


def test_held_out_questions_do_not_depend_on_train_size_nor_training_on_validation_size(tmp_path: Path) -> None:
    config = data_config("gsm8k", write_gsm8k(tmp_path))
    whole = training_data(config)
    fewer = training_data(replace(config, train_size=4))
    assert fewer.validation == whole.validation
    assert fewer.train == whole.train[:4]
    assert training_data(replace(config, validation_size=1)).train[:7] == whole.train


def test_data_seed_changes_what_is_held_out(tmp_path: Path) -> None:
    config = data_config("gsm8k", write_gsm8k(tmp_path, train=60))
    assert training_data(config) == training_data(config)
    assert set(training_data(config).validation) != set(training_data(replace(config, seed=1)).validation)


def test_a_larger_test_size_extends_the_smaller(tmp_path: Path) -> None:
    config = data_config("gsm8k", write_gsm8k(tmp_path))
    two, four = (evaluation_problems(replace(config, test_size=size), "test") for size in (2, 4))
    assert len(two) == 2
    assert four[:2] == two
    assert evaluation_problems(config, "test")[:4] == four


@pytest.mark.parametrize("size", [10, 11])
def test_validation_must_leave_training_questions(tmp_path: Path, size: int) -> None:
    message = refusal(data_config("gsm8k", write_gsm8k(tmp_path), validation_size=size))
    assert message == (f"data.validation_size={size} leaves no training questions: data=gsm8k has 10; lower it")


def test_sizes_beyond_the_data_are_refused(tmp_path: Path) -> None:
    config = data_config("gsm8k", write_gsm8k(tmp_path))
    assert refusal(replace(config, train_size=8)) == (
        "data.train_size=8: data=gsm8k has only 7 train questions; lower it, or use null for all"
    )
    assert refusal(replace(config, test_size=6), "test") == (
        "data.test_size=6: data=gsm8k has only 5 test questions; lower it, or use null for all"
    )


def test_a_question_of_training_and_test_is_refused_whatever_its_case_and_spaces(tmp_path: Path) -> None:
    write_gsm8k(tmp_path)
    with (tmp_path / "test.jsonl").open("a") as file:
        for number in range(4):
            file.write("\n" + json.dumps({"question": f" Train  QUESTION {number}?", "answer": "#### 1"}))
    for split in (None, "test", "validation"):
        message = refusal(data_config("gsm8k", tmp_path, validation_size=1), split)
        # At least three: the one held-out question may be the fourth copy.
        assert "train and test share" in message
        assert " = gsm8k-test-6" in message or " = gsm8k-test-7" in message
        assert f"remove the copies in data.path={tmp_path}" in message


@pytest.mark.parametrize("seed", range(4))
def test_copies_within_a_split_count_once_whatever_the_seed(tmp_path: Path, seed: int) -> None:
    write_gsm8k(tmp_path)
    row = {"question": "train  question 3?", "answer": "It is 4.\n#### 4"}
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write("\n" + "\n".join([json.dumps(row)] * 2))
    data = read_data(data_config("gsm8k", tmp_path, seed=seed))
    whole = [*data.training().train, *data.training().validation]
    assert len(whole) == 10
    assert [problem.answer for problem in whole if "question 3?" in problem.question] == ["4"]
    assert data.notes == (
        "train: rows left out, for their questions stand there already: 2 (questions with several answers, of which "
        "the most frequent one counts: 1)",
    )


def test_near_copies_over_splits_are_said_and_stay(tmp_path: Path) -> None:
    write_gsm8k(tmp_path)
    with (tmp_path / "test.jsonl").open("a") as file:
        file.write("\n" + json.dumps({"question": "Train, question: 4!", "answer": "#### 1"}))
    data = read_data(data_config("gsm8k", tmp_path))
    assert len(data.measured("test")) == 6
    (note,) = data.notes
    assert "and test that are the same but for punctuation and symbols: 1 (first: gsm8k-train-5 =" in note


@pytest.mark.parametrize("name", ["gsm8k", "svamp", "wordproblems"])
def test_a_data_set_without_a_validation_split_needs_a_number(tmp_path: Path, name: str) -> None:
    path = None if name == "wordproblems" else write_gsm8k(tmp_path)
    if name == "svamp":
        rows = [{"ID": f"{n}", "Body": f"{n} cats.", "Question": "How many?", "Answer": n} for n in range(9)]
        (tmp_path / "SVAMP.json").write_text(json.dumps(rows))
    assert refusal(data_config(name, path, validation_size=None)).startswith(
        f"data.validation_size=null: data={name} has no validation split of its own"
    )


def test_test_questions_alone_can_be_measured_and_not_trained_on(tmp_path: Path) -> None:
    (write_gsm8k(tmp_path) / "train.jsonl").unlink()
    config = data_config("gsm8k", tmp_path)
    assert len(evaluation_problems(config, "test")) == 5
    assert refusal(config) == (
        "data=gsm8k has no train and no validation questions (there: test), so models can be measured on it and not "
        "trained; use task=evaluate, or add training questions"
    )


def test_repeated_ids_are_refused(tmp_path: Path) -> None:
    rows = [
        {"ID": f"chal-{n // 2}", "Body": f"There are {n} cats.", "Question": "How many?", "Answer": n}
        for n in range(20)
    ]
    (tmp_path / "SVAMP.json").write_text(json.dumps(rows))
    message = refusal(data_config("svamp", tmp_path))
    assert message.startswith("data=svamp: 10 ids occur more than once (first: svamp-chal-")
    assert message.endswith(f"make them unique in data.path={tmp_path}")


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_empty_split_is_refused(monkeypatch: pytest.MonkeyPatch, split: str) -> None:
    splits = {"train": [Problem("a", "A?", "1")], "test": [Problem("b", "B?", "1")], split: []}
    row = replace(DATASETS["gsm8k"], splits=lambda _: Splits(splits))
    monkeypatch.setattr(DATASETS, "rows", {"gsm8k": row})
    assert refusal(data_config("gsm8k")) == f"data=gsm8k: the {split} split is empty; use more data"


@pytest.mark.parametrize("split", ["ood", "dev"])
def test_unknown_splits_are_refused(tmp_path: Path, split: str) -> None:
    message = refusal(data_config("gsm8k", write_gsm8k(tmp_path)), split)
    assert message == f"eval.split={split}: data=gsm8k has no such split; choose from: validation, test"


def test_training_questions_cannot_be_evaluated(tmp_path: Path) -> None:
    assert "training questions measure nothing" in refusal(data_config("gsm8k", write_gsm8k(tmp_path)), "train")


def test_unknown_data_set_is_refused() -> None:
    assert refusal(data_config("maths")) == (
        "data=maths is not declared; choose from: files, gsm8k, gsm8k_platinum, math, svamp, gsm_symbolic, "
        "wordproblems, or name a row of your own in its configuration file: row: PACKAGE.MODULE.NAME"
    )


@pytest.mark.parametrize("name", ["wordproblems", "gsm_symbolic"])
def test_generated_sizes(name: str) -> None:
    config = data_config(name)
    whole = training_data(config)
    assert (len(whole.train), len(whole.validation)) == (GENERATED_TRAIN_SIZE, 3)
    assert len(evaluation_problems(config, "test")) == GENERATED_TEST_SIZE
    small = data_config(name, train_size=5, test_size=4, validation_size=2)
    assert training_data(small).train == whole.train[:5]
    assert training_data(small).validation == whole.validation[:2]
    assert len(evaluation_problems(small, "test")) == 4


def test_wordproblems_out_of_distribution() -> None:
    problems = evaluation_problems(data_config(test_size=6), "ood")
    assert len(problems) == 6
    assert {len(problem.steps) for problem in problems} <= {5, 6}


def test_questions_that_differ_in_symbols_and_in_the_form_of_their_letters_are_the_same_when_bare() -> None:
    assert bare("Café: 3 × 4?") == bare("CAFE\u0301 3 4")
    assert bare("３ cats") == bare("3 cats!")
    assert bare("+?") != bare("-?")
