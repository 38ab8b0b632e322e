"""Questions of the user's own: forms, columns, splits, copies, clusters, and what is refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlreason.data.base import bare, normalised
from rlreason.data.files import FilesConfig
from rlreason.data.layout import located
from rlreason.data.sources import Row
from rlreason.data.splits import Data, read_data
from rlreason.errors import UserError
from rlreason.types import Problem

Rows = Sequence[Mapping[str, Any]]
NAMES = ("train", "validation", "test")


def config(path: Path | str, **changes: Any) -> FilesConfig:
    made = FilesConfig(
        name="files",
        path=str(path),
        subset=None,
        question=None,
        answer=None,
        solution=None,
        cluster=None,
        split=None,
        shares=[0.8, 0.1, 0.1],
        seed=0,
        train_size=None,
        validation_size=None,
        test_size=None,
        max_prompt_tokens=256,
        max_completion_tokens=160,
    )
    return replace(made, **changes)


def refusal(function: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        function()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def refused(path: Path, **changes: Any) -> str:
    return refusal(lambda: read_data(config(path, **changes)))


def lines(path: Path, rows: Rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def sums(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [
        {"question": f"What is {n} + 2, in words?", "answer": n + 2, "solution": f"Add 2 to {n}.\n{n}+2={n + 2}"}
        for n in range(first, first + count)
    ]


def splits_of(data: Data) -> dict[str, list[Problem]]:
    return {split: list(problems) for split, problems in data.splits.items()}


# --- Twelve forms of one data set -------------------------------------------------------------------------------------

BY_SPLIT = {"train": sums(30), "validation": sums(6, 30), "test": sums(8, 36)}
COLUMNS = {
    "plain": {"question": "question", "answer": "answer", "solution": "solution"},
    "other": {"question": "Problem", "answer": "finalAnswer", "solution": "rationale"},
    "unknown": {"question": "frage", "answer": "antwort", "solution": "weg"},
}


def as_csv(path: Path, rows: Rows) -> None:
    pd.DataFrame(rows).to_csv(path.with_suffix(".csv"), index=False)


def as_parquet(path: Path, rows: Rows) -> None:
    pd.DataFrame(rows).to_parquet(path.with_suffix(".parquet"))


def as_json(path: Path, rows: Rows) -> None:
    path.with_suffix(".json").write_text(json.dumps(rows))


def as_compressed_lines(path: Path, rows: Rows) -> None:
    path.with_suffix(".jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))


FORMATS = [as_csv, as_parquet, as_json, as_compressed_lines]
FORMS = [(write, columns) for write in FORMATS for columns in COLUMNS]
KINDS = ["files", "a column", "a column of a name of its own", "a folder for each"]


def written(folder: Path, write: Callable[[Path, Rows], None], names: Mapping[str, str], kind: str) -> Path:
    renamed = {
        split: [{names[key]: value for key, value in row.items()} for row in rows] for split, rows in BY_SPLIT.items()
    }
    if kind.startswith("a column"):
        column = "split" if kind == "a column" else "teil"
        write(folder / "questions", [{**row, column: split} for split, rows in renamed.items() for row in rows])
    else:
        for rows, name in zip(renamed.values(), ("train", "dev", "test"), strict=True):
            if kind == "a folder for each":
                (folder / name).mkdir()
            write(folder / name / "0000" if kind == "a folder for each" else folder / name, rows)
    return folder


@pytest.mark.parametrize(("write", "columns"), FORMS, ids=lambda value: getattr(value, "__name__", value))
def test_forms_of_one_data_set_give_the_same_problems_and_splits(
    tmp_path: Path, write: Callable[[Path, Rows], None], columns: str
) -> None:
    reference = splits_of(read_data(config(written(make(tmp_path, "reference"), as_json, COLUMNS["plain"], "files"))))
    assert {split: len(problems) for split, problems in reference.items()} == {"train": 30, "validation": 6, "test": 8}
    assert reference["test"][0].steps != ()
    for kind in KINDS:
        folder = written(make(tmp_path, kind.replace(" ", "_")), write, COLUMNS[columns], kind)
        named = COLUMNS[columns] if columns == "unknown" else {}
        column = {"split": "teil"} if "of its own" in kind else {}
        assert splits_of(read_data(config(folder, **named, **column))) == reference, kind


def make(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def test_formats_give_the_same_shares(tmp_path: Path) -> None:
    found = []
    for write in FORMATS:
        folder = make(tmp_path, write.__name__)
        write(folder / "questions", sums(60))
        (file,) = folder.iterdir()
        found += [splits_of(read_data(config(place))) for place in (folder, file)]
    assert all(splits == found[0] for splits in found)
    assert set(found[0]) == set(NAMES)


# --- No question in two splits, and none that changes its split -------------------------------------------------------

SHARES = st.tuples(*[st.integers(1, 20)] * 3).map(lambda parts: [part / sum(parts) for part in parts])


@settings(deadline=None, max_examples=40)
@given(
    shares=SHARES,
    order=st.permutations(range(80)),
    copies=st.lists(
        st.tuples(st.integers(0, 79), st.sampled_from([str.upper, str.title, "  {} ".format])), max_size=20
    ),
    seed=st.integers(0, 3),
)
def test_no_question_is_in_two_splits_for_any_shares_order_and_copies(
    tmp_path_factory: pytest.TempPathFactory,
    shares: list[float],
    order: list[int],
    copies: list[tuple[int, Callable[[str], str]]],
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("data")
    rows = sums(80)
    again = [{**rows[index], "question": change(rows[index]["question"])} for index, change in copies]
    path = lines(folder / "questions.jsonl", [rows[index] for index in order] + again)
    plain = lines(folder / "plain.jsonl", rows)
    try:
        reference = read_data(config(plain, shares=shares, seed=seed))
    except UserError:
        assert "leaves no" in refused(path, shares=shares)
        return
    data = read_data(config(path, shares=shares, seed=seed))
    found = {split: {normalised(item.question) for item in problems} for split, problems in data.splits.items()}
    assert sum(map(len, found.values())) == sum(map(len, data.splits.values())) == 80
    assert len(set().union(*found.values())) == 80
    assert {split: [item.id for item in problems] for split, problems in data.splits.items()} == {
        split: [item.id for item in problems] for split, problems in reference.splits.items()
    }


@settings(deadline=None, max_examples=30)
@given(st.integers(20, 80), st.integers(0, 5))
def test_a_question_keeps_its_split_and_its_place_whatever_else_is_there(
    tmp_path_factory: pytest.TempPathFactory, count: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("data")
    few, many = (lines(folder / name, sums(size)) for name, size in (("few.jsonl", count), ("many.jsonl", 90)))
    shares = {"shares": [0.5, 0.25, 0.25]}
    whole = read_data(config(many, seed=seed, **shares))
    part = read_data(config(few, seed=0, **shares))
    for split in NAMES:
        there = {item.id for item in part.splits[split]}
        assert there <= {item.id for item in whole.splits[split]}
    part = read_data(config(few, seed=seed, **shares))
    for split in NAMES:
        there = [item.id for item in part.splits[split]]
        assert [item.id for item in whole.splits[split] if item.id in there] == there


def test_the_seed_draws_the_order_and_moves_no_question(tmp_path: Path) -> None:
    path = lines(tmp_path / "questions.jsonl", sums(80))
    one, other = (splits_of(read_data(config(path, seed=seed))) for seed in (0, 1))
    for split in NAMES:
        assert one[split] != other[split]
        assert sorted(item.id for item in one[split]) == sorted(item.id for item in other[split])


def test_sizes_take_the_first_of_a_split_and_move_no_question(tmp_path: Path) -> None:
    path = lines(tmp_path / "questions.jsonl", sums(80))
    whole = splits_of(read_data(config(path)))
    cut = splits_of(read_data(config(path, train_size=9, validation_size=2, test_size=3)))
    assert cut == {split: whole[split][:size] for split, size in zip(NAMES, (9, 2, 3), strict=True)}
    too_many = len(whole["validation"]) + 1
    assert refused(path, validation_size=too_many) == (
        f"data.validation_size={too_many}: data=files has only {too_many - 1} validation questions; lower it, or use "
        "null for all"
    )


def test_a_missing_split_is_a_share_of_the_training_questions(tmp_path: Path) -> None:
    lines(tmp_path / "train.jsonl", sums(60))
    lines(tmp_path / "test.jsonl", sums(5, 60))
    data = read_data(config(tmp_path, shares=[0.5, 0.25, 0.25]))
    assert len(data.measured("test")) == 5
    assert 60 / 3 * 0.5 < len(data.training().validation) < 60 / 3 * 1.5
    assert len(data.training().train) + len(data.training().validation) == 60
    assert any(note.startswith("validation questions are shares of those for training") for note in data.notes)


@pytest.mark.parametrize("name", ["test.jsonl", "my_test_questions.jsonl", "eval.jsonl"])
def test_test_questions_alone_are_measured_and_not_trained_on(tmp_path: Path, name: str) -> None:
    data = read_data(config(lines(tmp_path / name, sums(5))))
    assert len(data.measured("test")) == 5
    assert refusal(data.training) == (
        "data=files has no train and no validation questions (there: test), so models can be measured on it and not "
        "trained; use task=evaluate, or add training questions"
    )


def test_all_questions_of_a_file_can_be_tests(tmp_path: Path) -> None:
    data = read_data(config(lines(tmp_path / "questions.jsonl", sums(5)), shares=[0, 0, 1]))
    assert list(data.splits) == ["test"]
    assert len(data.measured("test")) == 5


def test_a_share_of_nothing_is_no_split(tmp_path: Path) -> None:
    data = read_data(config(lines(tmp_path / "questions.jsonl", sums(20)), shares=[1, 0, 0]))
    assert "no such split; choose from: none; add test questions" in refusal(lambda: data.measured("test"))
    assert "has no validation questions" in refusal(data.training)


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ([0.8, 0.1], "must be three numbers of at least 0"),
        ([0.8, 0.3, -0.1], "must be three numbers of at least 0"),
        ([float("nan"), 0.5, 0.5], "must be three numbers of at least 0"),
        ([0.8, 0.1, 0.2], "data.shares=[0.8, 0.1, 0.2] must add up to 1 and add up to 1.1"),
        ([80, 10, 10], "must add up to 1 and add up to 100"),
    ],
)
def test_shares_that_are_none_are_refused(tmp_path: Path, shares: list[float], words: str) -> None:
    assert words in refusal(lambda: config(tmp_path, shares=shares))


def test_a_share_that_leaves_a_split_empty_is_refused(tmp_path: Path) -> None:
    path = lines(tmp_path / "questions.jsonl", sums(3))
    assert refused(path, shares=[0.998, 0.001, 0.001]) == (
        f"data.shares=[0.998, 0.001, 0.001] leaves no validation questions: data.path={path} has 3 to divide; raise "
        "that share, or use more data"
    )


# --- Copies and clusters ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]])
def test_copies_count_once_with_the_most_frequent_answer(tmp_path: Path, order: list[int]) -> None:
    copies = [
        {"question": "How many?", "answer": 3},
        {"question": "how  many?", "answer": 4},
        {"question": "How many?", "answer": "4"},
        {"question": "HOW MANY?", "answer": 5},
    ]
    path = lines(tmp_path / "train.jsonl", [*sums(40), *(copies[index] for index in order)])
    data = read_data(config(path))
    found = [item for problems in data.splits.values() for item in problems if "many" in item.question.lower()]
    assert [(item.question, item.answer) for item in found] == [("How many?", "4")]
    assert (
        "train: rows left out, for their questions stand there already: 3 (questions with several answers, of which "
        "the most frequent one counts: 1)"
    ) in data.notes


def test_a_question_that_two_given_splits_share_is_refused(tmp_path: Path) -> None:
    lines(tmp_path / "train.jsonl", sums(20))
    lines(tmp_path / "test.jsonl", sums(2, 19))
    assert "and test share 1 questions (first: files-" in refused(tmp_path)


def test_near_copies_share_a_split_where_it_is_drawn_and_are_said_where_it_is_given(tmp_path: Path) -> None:
    near = [{**row, "question": row["question"].replace(",", "")} for row in sums(60)]
    path = lines(tmp_path / "questions.jsonl", [*sums(60), *near])
    data = read_data(config(path, shares=[0.4, 0.3, 0.3]))
    forms = [{bare(item.question) for item in problems} for problems in data.splits.values()]
    assert sum(map(len, forms)) == 60
    lines(tmp_path / "given" / "train.jsonl", sums(40))
    lines(tmp_path / "given" / "test.jsonl", near[:3])
    notes = read_data(config(tmp_path / "given", shares=[1, 0, 0])).notes
    assert any(
        "questions of train and test that are the same but for punctuation and symbols: 3" in note for note in notes
    )


def test_a_cluster_is_kept_and_stays_in_one_split(tmp_path: Path) -> None:
    rows = [{**row, "template": index // 4} for index, row in enumerate(sums(80))]
    path = lines(tmp_path / "questions.jsonl", rows)
    data = read_data(config(path, cluster="template", shares=[0.4, 0.3, 0.3]))
    clusters = [{item.cluster for item in problems} for problems in data.splits.values()]
    assert sum(map(len, clusters)) == len(set().union(*clusters)) == 20
    assert all(cluster is not None and cluster.isdecimal() for found in clusters for cluster in found)


def test_clusters_that_lie_in_two_given_splits_are_said(tmp_path: Path) -> None:
    for name, first in (("train", 0), ("validation", 30), ("test", 60)):
        lines(tmp_path / f"{name}.jsonl", [{**row, "template": f"t{i % 3}"} for i, row in enumerate(sums(4, first))])
    notes = read_data(config(tmp_path, cluster="template")).notes
    assert "clusters that lie in train and in test: 3 (first: t0, t1, t2)" in notes


def test_a_row_without_its_cluster_is_refused(tmp_path: Path) -> None:
    path = lines(tmp_path / "questions.jsonl", [{**sums(1)[0], "template": 1}, *sums(3, 5)])
    assert refused(path, cluster="template").startswith(f"{path}:2: the column 'template' is missing")


def test_the_whole_row_is_kept(tmp_path: Path) -> None:
    path = lines(tmp_path / "questions.jsonl", [{**row, "tags": ["a", {"b": 1}]} for row in sums(30)])
    for item in read_data(config(path)).training().train:
        assert item.columns["tags"] == ["a", {"b": 1}]
        assert item.columns["question"] == item.question


# --- Columns ----------------------------------------------------------------------------------------------------------


def one(path: Path, **changes: Any) -> tuple[Problem, tuple[str, ...]]:
    data = read_data(config(path, shares=[0, 0, 1], **changes))
    (problem,) = data.measured("test")
    return problem, data.notes


VERL = {
    "data_source": "openai/gsm8k",
    "prompt": [
        {"content": 'How many? Let\'s think step by step and output the final answer after "####".', "role": "user"}
    ],
    "ability": "math",
    "reward_model": {"ground_truth": "1,200", "style": "rule"},
    "extra_info": {"answer": "6*200=1200\n#### 1,200", "index": 0, "question": "How many?", "split": "train"},
}
SKYRL = {
    "data_source": "openai/gsm8k",
    "prompt": [{"content": "You solve problems.", "role": "system"}, {"content": "How many?", "role": "user"}],
    "env_class": "gsm8k",
    "reward_spec": {"ground_truth": "1200", "method": "rule"},
}


@pytest.mark.parametrize(
    ("row", "steps", "guessed"),
    [
        (
            VERL,
            ("6*200=1200",),
            "data.question=extra_info.question, data.answer=reward_model.ground_truth, data.solution=extra_info.answer",
        ),
        (SKYRL, (), "data.question=prompt, data.answer=reward_spec.ground_truth"),
        (
            {"question": "How many?", "answer": "6*200=1200\n#### 1,200"},
            ("6*200=1200",),
            "data.question=question, data.answer=answer",
        ),
        ({"Problem": "How many?", "Final Answer": 1200.0}, (), "data.question=Problem, data.answer=Final Answer"),
        ({"prompt": "How many?", "completion": "#### 1200"}, (), "data.question=prompt, data.answer=completion"),
        ({"query": "How many?", "label": "$1200$"}, (), "data.question=query, data.answer=label"),
        (
            {"problem": "How many?", "solution": "6*200=\\boxed{1,200}", "level": "Level 1"},
            ("6*200=\\boxed{1,200}",),
            "data.question=problem, data.answer=solution, data.solution=solution",
        ),
        (
            {"instruction": "How many?", "input": None, "output": "Six times 200.\nThe answer is 1,200."},
            ("Six times 200.",),
            "data.question=instruction, data.answer=output",
        ),
    ],
    ids=["verl", "skyrl", "gsm8k", "capitals", "trl", "label", "math", "alpaca"],
)
def test_columns_are_guessed_by_the_names_that_are_in_use(
    tmp_path: Path, row: dict[str, Any], steps: tuple[str, ...], guessed: str
) -> None:
    pd.DataFrame([row]).to_parquet(tmp_path / "questions.parquet")
    for path in (lines(tmp_path / "questions.jsonl", [row]), tmp_path / "questions.parquet"):
        problem, notes = one(path)
        assert (problem.question, problem.answer, problem.steps) == ("How many?", "1200", steps)
        assert f"guessed from the names of the columns: {guessed}" in notes


def test_the_rows_of_one_file_of_verl_say_their_split(tmp_path: Path) -> None:
    rows = [
        {**VERL, "extra_info": {**VERL["extra_info"], "question": f"How many {n}?", "split": split}}  # type: ignore[dict-item]
        for split, numbers in (("train", range(30)), ("test", range(30, 35)))
        for n in numbers
    ]
    assert len(read_data(config(lines(tmp_path / "questions.jsonl", rows))).measured("test")) == 5


def test_named_columns_are_taken_and_nothing_is_said(tmp_path: Path) -> None:
    row = {"meta": {"ask": ["How many?"]}, "a.b": 7, "why": ["3+4=7", "done"], "question": "Who?", "answer": "I"}
    path = lines(tmp_path / "questions.jsonl", [row])
    problem, notes = one(path, question="meta.ask.0", answer="a.b", solution="why")
    assert (problem.question, problem.answer, problem.steps) == ("How many?", "7", ("3+4=7", "done"))
    assert not any("guessed" in note for note in notes)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"question": "Who?", "problem": "What?", "answer": 1},
            "the columns 'question', 'problem' may all be the question; choose one: data.question=question",
        ),
        (
            {"question": "Who?", "answer": 1, "final_answer": 1},
            "the columns 'answer', 'final_answer' may all be the answer; choose one: data.answer=answer",
        ),
        (
            {"frage": "Who?", "answer": 1},
            "no column has a name that is known for the question (there: frage, answer); name it: data.question=COLUMN",
        ),
        ({"question": "Who?", "x": 1}, "no column has a name that is known for the answer (there: question, x)"),
    ],
)
def test_columns_that_cannot_be_told_are_refused(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    path = lines(tmp_path / "questions.jsonl", [row])
    assert refused(path).startswith(f"{path}:1: {message}")


def test_a_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = lines(tmp_path / "questions.jsonl", sums(3))
    assert refused(path, answer="result") == (
        f"{path}:1: the column 'result' is missing (there: question, answer, solution); add it or use other data"
    )


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (["7"], "is neither a number nor text (it is ['7'])"),
        (float("nan"), "is no finite number (it is nan)"),
        ("First this.\nThen that.", "is a long text that states no answer (it is 'First this.\\nThen that.')"),
        (None, "is missing (there: question, answer)"),
    ],
)
def test_a_gold_that_is_neither_number_nor_text_is_refused(tmp_path: Path, value: Any, reason: str) -> None:
    rows = [{"question": "How many?", "answer": 1}, {"question": "How few?", "answer": value}]
    path = lines(tmp_path / "questions.jsonl", rows)
    assert refused(path).startswith(f"{path}:2: the column 'answer' {reason}")


@pytest.mark.parametrize(
    "value", [3, " ", [{"role": "user", "content": "a"}] * 2, [{"role": "system", "content": "a"}], [1], {"a": 1}]
)
def test_a_question_that_is_no_text_is_refused(tmp_path: Path, value: Any) -> None:
    path = lines(tmp_path / "questions.jsonl", [{"question": value, "answer": 1}])
    assert refused(path).startswith(f"{path}:1: the column 'question' must be text")


def test_a_split_column_with_other_words_is_refused_where_it_was_asked_for(tmp_path: Path) -> None:
    path = lines(tmp_path / "questions.jsonl", [{**row, "split": "main"} for row in sums(40)])
    assert set(read_data(config(path)).splits) == set(NAMES)
    assert refused(path, split="split") == (
        f"{path}:1: the column 'split' must be train, validation or test; it is 'main'"
    )


# --- Where the rows lie -----------------------------------------------------------------------------------------------

A, B, C = sums(40), sums(5, 40), sums(5, 45)


def parquet(path: Path, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(path)


def clone(folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / "README.md").write_text("# Data")
    (folder / "dataset_infos.json").write_text("{}")
    parquet(folder / "data/train-00000-of-00002.parquet", A[:20])
    parquet(folder / "data/train-00001-of-00002.parquet", A[20:])
    parquet(folder / "data/test-00000-of-00001-0a1b2c.parquet", B)


def converted(folder: Path) -> None:
    parquet(folder / "default/train/0000.parquet", A)
    parquet(folder / "default/test/0000.parquet", B)


def with_others(folder: Path) -> None:
    lines(folder / "train.jsonl", A)
    lines(folder / "test.jsonl", B)
    lines(folder / "train_socratic.jsonl", C)


def one_object(folder: Path) -> None:
    (folder / "my_test.json").write_text(json.dumps({"train": A, "test": B}))


def mixed(folder: Path) -> None:
    parquet(folder / "mine_train.parquet", A)
    pd.DataFrame(B).to_csv(folder / "mine-test.csv.gz", index=False)


@pytest.mark.parametrize("layout", [clone, converted, with_others, one_object, mixed])
def test_layouts_of_a_folder(tmp_path: Path, layout: Callable[[Path], None]) -> None:
    folder = make(tmp_path, "here = (1) é")
    layout(folder)
    data = read_data(config(folder, shares=[1, 0, 0]))
    assert {split: len(problems) for split, problems in data.splits.items()} == {"train": 40, "test": 5}
    passed_over = [note for note in data.notes if "not read" in note]
    assert len(passed_over) == (layout is with_others)


def test_one_of_several_subsets_is_chosen(tmp_path: Path) -> None:
    for number, subset in enumerate(("main", "socratic")):
        for split, first in (("train", 0), ("test", 20)):
            parquet(tmp_path / subset / f"{split}-00000-of-00001.parquet", sums(20, first + 100 * number))
    assert refused(tmp_path) == (
        f"data.path={tmp_path} has several subsets; choose one of them as data.subset: main, socratic"
    )
    assert "data.subset=mian: " in refused(tmp_path, subset="mian")
    assert read_data(config(tmp_path, subset="socratic")).measured("test")[0].question in {
        row["question"] for row in sums(20, 120)
    }


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no data in this folder; give one that holds JSON lines, JSON, CSV or parquet, each also .gz"),
        (["a.jsonl", "b.jsonl"], "holds a, b: which are training questions, which test questions?"),
        (["aime-24.jsonl", "aime-25.jsonl"], "holds aime-24, aime-25: which are training questions"),
        (["train.jsonl", "train.csv"], "holds train.csv, train.jsonl, and only one of them can be meant"),
        (["val.jsonl", "dev.jsonl"], "holds dev and val, and both may be the validation split"),
        (["train-00000-of-00002.jsonl"], "1 of the 2 files of 'train' are there; copy the others too"),
    ],
)
def test_a_folder_that_is_not_clear_is_refused(tmp_path: Path, files: list[str], message: str) -> None:
    for name in files:
        lines(tmp_path / name, A)
    found = refused(tmp_path)
    assert found.startswith(f"data.path={tmp_path}")
    assert message in found


def test_paths_that_lead_nowhere_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "no.jsonl") == (
        f"data.path={tmp_path}/no.jsonl: no such file or folder; check the path (a data set of the Hub is written "
        "OWNER/NAME)"
    )
    path = lines(tmp_path / "questions.jsonl", A)
    assert "is one file, which has no subsets" in refused(path, subset="main")
    assert "cannot be looked at" in refused(Path("x" * 5000))
    with pytest.raises(UserError, match=r"data\.path is missing: data=files needs data\.path=FILE"):
        replace(config(path), path=None)


def test_a_name_of_the_hub_is_read_from_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def hub_splits(*arguments: Any) -> dict[str, list[Row]]:
        asked.append(arguments)
        sets = {"train": A, "test": B}
        return {name: [Row(n, f"hub, row {n}", row) for n, row in enumerate(rows, 1)] for name, rows in sets.items()}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rlreason.data.layout.hub_splits", hub_splits)
    data = read_data(config("openai/gsm8k", subset="main"))
    assert asked == [("openai/gsm8k", "main", None)]
    assert len(data.measured("test")) == 5
    with_others(make(make(tmp_path, "openai"), "gsm8k"))
    assert splits_of(read_data(config("openai/gsm8k"))) == splits_of(data)
    assert len(asked) == 1, "a folder here goes before the Hub"


def test_a_subset_inside_the_data_folder_of_a_clone(tmp_path: Path) -> None:
    parquet(tmp_path / "data/easy/train.parquet", A)
    parquet(tmp_path / "data/hard/train.parquet", B)
    assert len(located(str(tmp_path), "hard").splits["train"]()) == 5
