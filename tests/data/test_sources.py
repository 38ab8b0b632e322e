"""Files and the Hub, and every way in which reading them can fail."""

from __future__ import annotations

import gzip
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlreason.data.sources import Row, file_rows, hub_rows, hub_splits, split_of
from rlreason.errors import UserError


def refusal(read: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows_of(path: Path) -> list[Row]:
    (rows,) = file_rows(path).values()
    return rows


def test_lines_know_their_row_and_their_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"x": 1}\n\n{"x": 2}\r\n')
    assert [(row.number, row.place, row.value("x")) for row in rows_of(path)] == [
        (1, f"{path}:1", 1),
        (2, f"{path}:3", 2),
    ]


def test_an_array_knows_its_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", '[{"x": 1},\n {"x": 2}]')
    assert [row.place for row in rows_of(path)] == [f"{path}, row 1", f"{path}, row 2"]


def test_csv_rows_know_the_line_that_they_begin_on(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'x,y\n"two\nlines",1\n\n"a ""b"", c",\n')
    assert [(row.place, row.values) for row in rows_of(path)] == [
        (f"{path}:2", {"x": "two\nlines", "y": "1"}),
        (f"{path}:5", {"x": 'a "b", c', "y": None}),
    ]


ROWS = [{"question": "Café, \u2028 or tea?", "answer": 1}, {"question": "Wie viele?", "answer": 22}]
JSON = json.dumps(ROWS, ensure_ascii=False)
LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
CSV = pd.DataFrame(ROWS).to_csv(index=False)
FORMS = {
    "a.json": JSON,
    "b.json": '{"version": 2, "data": ' + JSON + "}",
    "c.json": LINES,
    "d.json": '{"anything": ' + JSON + "}",
    "a.jsonl": LINES,
    "b.jsonl": JSON,
    "a.ndjson": LINES,
    "a.csv": CSV,
    "b.csv": CSV.replace("question,answer", "question;answer").replace(",1\n", ";1\n").replace(",22\n", ";22\n"),
    "a.tsv": pd.DataFrame(ROWS).to_csv(index=False, sep="\t"),
    "windows.csv": CSV.replace("\n", "\r\n"),
}


def same(rows: list[Row]) -> bool:
    return [(row.text("question"), int(row.value("answer"))) for row in rows] == [
        (row["question"], row["answer"]) for row in ROWS
    ]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("kind", ["", "BOM", "gz", "BOM and gz"])
def test_every_form_gives_the_same_rows(tmp_path: Path, name: str, kind: str) -> None:
    content = (b"\xef\xbb\xbf" if "BOM" in kind else b"") + FORMS[name].encode()
    path = tmp_path / (f"{name}.gz" if "gz" in kind else name)
    assert same(rows_of(write(path, gzip.compress(content, mtime=0) if "gz" in kind else content)))


def test_parquet_gives_plain_values(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{**row, "nested": {"list": [row["answer"]]}} for row in ROWS])
    for path in (tmp_path / "a.parquet", tmp_path / "A.PARQUET.GZ"):
        sink = io.BytesIO()
        pq.write_table(table, sink)
        write(path, gzip.compress(sink.getvalue(), mtime=0) if path.suffix == ".GZ" else sink.getvalue())
        assert same(rows_of(path))
        assert rows_of(path)[1].find("nested.list.0") == 22
        assert rows_of(path)[1].find("nested.list.1") is None
        assert rows_of(path)[0].place == f"{path}, row 1"


def test_lists_under_the_names_of_splits_are_splits(tmp_path: Path) -> None:
    found = file_rows(write(tmp_path / "a.json", '{"train": ' + JSON + ', "about": "x", "test": ' + JSON + "}"))
    assert list(found) == ["train", "test"]
    assert all(map(same, found.values()))
    assert found["test"][1].place == f"{tmp_path}/a.json, test row 2"


def test_an_object_that_is_one_row_is_one_row(tmp_path: Path) -> None:
    row = {"prompt": [{"role": "user", "content": "How many?"}], "test_cases": [{"x": 1}], "answer": 2}
    assert [row.values for row in rows_of(write(tmp_path / "1.json", json.dumps(row)))] == [row]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Validation", "validation"),
        ("val", "validation"),
        ("dev", "validation"),
        ("eval", "test"),
        ("gsm8k_test", "test"),
        ("train-sft", "train"),
        ("train_and_test", None),
        ("latest", None),
        ("problems", None),
    ],
)
def test_names_of_splits(name: str, split: str | None) -> None:
    assert split_of(name) == split


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet", "a.jsonl.gz"])
@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str, content: str) -> None:
    compressed = gzip.compress(content.encode(), mtime=0) if name.endswith(".gz") else content
    path = write(tmp_path / name, "" if "parquet" in name else compressed)
    assert refusal(file_rows, path) == f"{path}: the file is empty; copy it again or give another data.path"


@pytest.mark.parametrize(("name", "content"), [("a.json", "[]"), ("a.csv", "question,answer\n")])
def test_a_file_without_rows_is_refused(tmp_path: Path, name: str, content: str) -> None:
    assert "the file is empty" in refusal(file_rows, write(tmp_path / name, content))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"x": "\xff"}', ": not UTF-8 text (byte 7); save it as UTF-8"),
        ("a.csv", "x\né".encode("latin-1"), ": not UTF-8 text (byte 2); save it as UTF-8"),
        ("a.jsonl", '{"x": 1}\n{"x": \n', ":2: not valid JSON (Expecting value); fix or remove the line"),
        (
            "a.json",
            '[{"x": 1},\n{"x" 2}]',
            ":2: not valid JSON (Expecting ':' delimiter); fix the file or copy it again",
        ),
        ("a.json", "[1]", ", row 1: must be a JSON object with named columns, not int; fix the file"),
        ("a.jsonl", '"x"', ":1: must be a JSON object with named columns, not str; fix the file"),
        ("a.json", "{}", ": must be a JSON array of objects, not dict; copy the file again"),
        ("a.json", "[" * 100_000, ": not JSON that can be read (maximum recursion depth exceeded"),
        ("a.csv", "x,y\n1,2\n1,2,3\n", ":3: 3 values for 2 columns (x, y); quote texts that hold ',', or fix the row"),
        ("a.csv", "x,y\n1\n", ":2: 1 values for 2 columns (x, y)"),
        ("a.csv", 'x,y\n1,"2\n', ":2: not valid CSV (unexpected end of data); fix the row"),
        ("a.csv", "x,x\n1,2\n", ":1: the first line must name every column, each with a name of its own; fix it"),
        ("a.csv", 'x,y\n1,2\n"1"3,4\n', ":3: not valid CSV (',' expected after '\"'); fix the row"),
        ("a.parquet", "PAR1nothingPAR1", ": not a whole parquet file ("),
        ("a.jsonl.gz", '{"x": 1}', ": not a whole gzip file ("),
        ("a.jsonl.gz", gzip.compress(b'{"x": 1}', mtime=0)[:-9], ": not a whole gzip file ("),
        ("a.parquet", "version https://git-lfs.github.com/spec/v1\noid", ": only a pointer to the file, as Git LFS"),
        ("a.txt", "x", ": a file of unknown form; data are JSON lines, JSON, CSV or parquet, each also .gz"),
        ("a.jsonl", '{"x": 1}\n{"y": ["\\ud83d!"]}', ":2: the column 'y' holds half a character"),
        ("a.json", '[{"x": {"z": "\\udc00"}}]', ", row 1: the column 'x' holds half a character"),
    ],
)
def test_a_damaged_file_is_refused_by_name_and_row(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    path = write(tmp_path / name, content)
    assert refusal(file_rows, path).startswith(f"{path}{message}")


def test_a_whole_pair_of_surrogates_is_a_character(tmp_path: Path) -> None:
    assert rows_of(write(tmp_path / "a.jsonl", '{"x": "\\ud83d\\ude00"}'))[0].text("x") == "\N{GRINNING FACE}"


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: Any, **__: Any) -> bytes:
        raise PermissionError(13, "Permission denied")

    path = write(tmp_path / "a.jsonl", "{}")
    monkeypatch.setattr(Path, "read_bytes", denied)
    assert refusal(file_rows, path) == f"{path}: cannot be read (Permission denied); check its permissions"


@pytest.mark.parametrize("values", [{"x": 1}, {"x": 1, "y": None}])
def test_missing_column(values: dict[str, Any]) -> None:
    there = ", ".join(values)
    assert refusal(Row(1, "a.jsonl:7", values).value, "y") == (
        f"a.jsonl:7: the column 'y' is missing (there: {there}); add it or use other data"
    )


@pytest.mark.parametrize("value", [3, " ", ["a"]])
def test_text_column(value: Any) -> None:
    assert refusal(Row(1, "a.jsonl:7", {"x": value}).text, "x") == (
        f"a.jsonl:7: the column 'x' must be text and not empty; it is {value!r}"
    )


def unreachable(*_: Any, **__: Any) -> Any:
    raise ConnectionError("no network")


def test_unreachable_hub_is_refused_quickly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    start = time.monotonic()
    message = refusal(hub_rows, "gsm8k", "openai/gsm8k", "main", "train")
    assert time.monotonic() - start < 5
    assert message == (
        "data=gsm8k: openai/gsm8k can be loaded neither from the Hub (ConnectionError) nor from its cache here; "
        "connect, unset HF_HUB_OFFLINE, or copy its files here and give data.path=FOLDER"
    )
    assert datasets.config.HF_HUB_OFFLINE is False


def test_hub_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(*arguments: Any, **keywords: Any) -> Any:
        asked.append((*arguments, keywords["split"]))
        return datasets.Dataset.from_list([{"x": "a"}, {"x": "b"}])

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: None)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    rows = hub_rows("gsm8k", "openai/gsm8k", "main", "test")
    assert asked == [("openai/gsm8k", "main", "test")]
    assert [(row.place, row.text("x")) for row in rows] == [
        ("openai/gsm8k test, row 1", "a"),
        ("openai/gsm8k test, row 2", "b"),
    ]


def test_empty_hub_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: None)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: [])
    assert refusal(hub_rows, "svamp", "ChilleD/SVAMP", None, "test") == (
        "data=svamp: the test split of ChilleD/SVAMP is empty; give data.path=FOLDER"
    )


def test_a_cached_hub_data_set_serves_without_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def load_dataset(*_: Any, **__: Any) -> Any:
        seen.append(datasets.config.HF_HUB_OFFLINE)
        return [{"x": "a"}]

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert len(hub_rows("gsm8k", "openai/gsm8k", "main", "train")) == 1
    assert seen == [True]


class Hub:
    """Stands in for the Hub: one data set with several subsets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **subsets: Any) -> None:
        self.subsets = subsets
        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: None)
        monkeypatch.setattr(datasets, "get_dataset_config_names", lambda _: list(subsets))
        monkeypatch.setattr(datasets, "load_dataset", self.load_dataset)

    def load_dataset(self, _: str, subset: str | None, **__: Any) -> Any:
        return self.subsets["default" if subset is None else subset]


def test_every_split_of_a_hub_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    Hub(monkeypatch, default={"train": [{"x": "a"}], "test": [{"x": "b"}], "extra": []}, other={"train": [{"x": "c"}]})
    found = hub_splits("some/one", None, None)
    assert [(name, row.place, row.text("x")) for name, rows in found.items() for row in rows] == [
        ("train", "some/one train, row 1", "a"),
        ("test", "some/one test, row 1", "b"),
    ]
    assert [row.text("x") for row in hub_splits("some/one", "other", None)["train"]] == ["c"]


def test_one_of_several_subsets_of_the_hub_must_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    Hub(monkeypatch, main={"train": [{"x": "a"}]}, socratic={"train": [{"x": "b"}]})
    assert refusal(hub_splits, "some/one", None, None) == (
        "data.path=some/one has several subsets; choose one of them as data.subset: main, socratic"
    )
    assert refusal(hub_splits, "some/one", "mian", None) == (
        "data.subset=mian: data.path=some/one has no such subset; choose from: main, socratic"
    )
    assert hub_splits("some/one", None, "main")["train"][0].text("x") == "a"
    assert hub_splits("some/one", "socratic", "main")["train"][0].text("x") == "b"


def test_a_hub_data_set_that_cannot_be_loaded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    Hub(monkeypatch)
    monkeypatch.setattr(datasets, "get_dataset_config_names", unreachable)
    assert refusal(hub_splits, "data/gsm8k", None, None).startswith(
        "data.path=data/gsm8k is no file and no folder here, and as a data set of that name it can be loaded neither "
        "from the Hub (ConnectionError) nor from its cache here"
    )
