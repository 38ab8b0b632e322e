"""Files and the Hub, and every way in which reading them can fail."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest

from rlreason.data.sources import Row, hub_rows, json_array, json_lines
from rlreason.errors import UserError

Reader = Callable[[str, str], list[Row]]
READERS = [json_lines, json_array]


def refusal(read: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_lines_know_their_row_and_their_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"x": 1}\n\n{"x": 2}\n')
    rows = json_lines(str(tmp_path), "a.jsonl")
    assert [(row.number, row.place, row.value("x")) for row in rows] == [
        (1, f"{tmp_path}/a.jsonl:1", 1),
        (2, f"{tmp_path}/a.jsonl:3", 2),
    ]


def test_array_knows_its_rows(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"x": 1},\n {"x": 2}]')
    assert [row.place for row in json_array(str(tmp_path), "a.json")] == [
        f"{tmp_path}/a.json, row 1",
        f"{tmp_path}/a.json, row 2",
    ]


def test_a_line_separator_inside_text_does_not_end_the_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"x": "a\u2028b"}\n', encoding="utf-8")
    assert json_lines(str(tmp_path), "a.jsonl")[0].text("x") == "a\u2028b"


@pytest.mark.parametrize("read", READERS)
def test_missing_folder(tmp_path: Path, read: Reader) -> None:
    assert refusal(read, str(tmp_path / "no"), "a") == (
        f"data.path={tmp_path}/no: no such folder; check the path, or leave data.path out to use the Hub"
    )


@pytest.mark.parametrize("read", READERS)
def test_folder_is_a_file(tmp_path: Path, read: Reader) -> None:
    (tmp_path / "a").write_text("")
    assert refusal(read, str(tmp_path / "a"), "a") == (
        f"data.path={tmp_path}/a is a file; give the folder that holds a"
    )


@pytest.mark.parametrize("read", READERS)
def test_missing_file(tmp_path: Path, read: Reader) -> None:
    assert refusal(read, str(tmp_path), "a.jsonl") == (
        f"data.path={tmp_path}: a.jsonl is not in this folder; copy it there or give its folder"
    )


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("content", ["", "\n \n"])
def test_empty_file(tmp_path: Path, read: Reader, content: str) -> None:
    (tmp_path / "a").write_text(content)
    assert refusal(read, str(tmp_path), "a") == (
        f"{tmp_path}/a: the file is empty; copy it again or give another data.path"
    )


def test_empty_array(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("[]")
    assert "the file is empty" in refusal(json_array, str(tmp_path), "a")


@pytest.mark.parametrize("read", READERS)
def test_not_utf8(tmp_path: Path, read: Reader) -> None:
    (tmp_path / "a").write_bytes(b'{"x": "\xff"}')
    assert refusal(read, str(tmp_path), "a") == f"{tmp_path}/a: not UTF-8 text (byte 7); save it as UTF-8"


@pytest.mark.parametrize("read", READERS)
def test_unreadable(tmp_path: Path, read: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: Any, **__: Any) -> str:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a").write_text("{}")
    monkeypatch.setattr(Path, "read_text", denied)
    assert refusal(read, str(tmp_path), "a") == (
        f"{tmp_path}/a: cannot be read (Permission denied); check its permissions"
    )


def test_broken_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_text('{"x": 1}\n{"x": \n')
    assert refusal(json_lines, str(tmp_path), "a") == (
        f"{tmp_path}/a:2: not valid JSON (Expecting value); fix or remove the line"
    )


def test_broken_array(tmp_path: Path) -> None:
    (tmp_path / "a").write_text('[{"x": 1},\n{"x" 2}]')
    assert refusal(json_array, str(tmp_path), "a") == (
        f"{tmp_path}/a:2: not valid JSON (Expecting ':' delimiter); fix the file or copy it again"
    )


def test_rows_must_be_objects(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("[1]")
    assert refusal(json_lines, str(tmp_path), "a") == (
        f"{tmp_path}/a:1: must be a JSON object with named columns, not list; fix the file"
    )
    assert refusal(json_array, str(tmp_path), "a") == (
        f"{tmp_path}/a, row 1: must be a JSON object with named columns, not int; fix the file"
    )


def test_an_object_is_no_array(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("{}")
    assert refusal(json_array, str(tmp_path), "a") == (
        f"{tmp_path}/a: must be a JSON array of objects, not dict; copy the file again"
    )


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
