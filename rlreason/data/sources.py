"""Rows of data files and of Hub data sets, each with the place it came from, so that every complaint can name it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlreason.errors import UserError

# `datasets` retries an unreachable Hub for 23 seconds, and for minutes behind a firewall that drops packets.
HUB_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a data set."""

    number: int  # its position in its file or Hub split, from 1
    place: str  # file and line, or Hub name and row, for messages
    values: Mapping[str, Any]

    def value(self, column: str) -> Any:
        """The value of a column.

        Raises:
            UserError: The row does not have the column.
        """
        if self.values.get(column) is None:
            there = ", ".join(map(str, self.values)) or "none"
            raise UserError(
                f"{self.place}: the column {column!r} is missing (there: {there}); add it or use other data"
            )
        return self.values[column]

    def text(self, column: str) -> str:
        """The text of a column, without surrounding white space.

        Raises:
            UserError: The row does not have the column, or it holds something other than text.
        """
        value = self.value(column)
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{self.place}: the column {column!r} must be text and not empty; it is {value!r}")
        return value.strip()


def json_lines(folder: str, name: str) -> list[Row]:
    """The rows of a file with one JSON object a line; blank lines are passed over.

    Raises:
        UserError: The folder or the file is missing, unreadable or empty, or a line is not a JSON object.
    """
    path = _file(folder, name)
    rows: list[Row] = []
    for line, text in enumerate(_read(path).split("\n"), start=1):
        if text.strip():
            place = f"{path}:{line}"
            try:
                values = json.loads(text)
            except json.JSONDecodeError as error:
                raise UserError(f"{place}: not valid JSON ({error.msg}); fix or remove the line") from error
            rows.append(_row(len(rows) + 1, place, values))
    return _not_empty(rows, path)


def json_array(folder: str, name: str) -> list[Row]:
    """The rows of a file that is one JSON array of objects.

    Raises:
        UserError: The folder or the file is missing, unreadable or empty, or is not an array of objects.
    """
    path = _file(folder, name)
    content = _read(path)
    if not content.strip():
        return _not_empty([], path)
    try:
        values = json.loads(content)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}:{error.lineno}: not valid JSON ({error.msg}); fix the file or copy it again"
        ) from error
    if not isinstance(values, list):
        raise UserError(f"{path}: must be a JSON array of objects, not {type(values).__name__}; copy the file again")
    rows = [_row(number, f"{path}, row {number}", value) for number, value in enumerate(values, start=1)]
    return _not_empty(rows, path)


def hub_rows(data_name: str, repository: str, subset: str | None, split: str) -> list[Row]:
    """The rows of one split of a data set on the Hub, or of its copy in the local cache when the Hub does not answer.

    Args:
        data_name: What the user calls the data set, for messages.
        repository: Its name on the Hub.
        subset: The configuration within the repository, if it has several.
        split: "train" or "test".

    Raises:
        UserError: The data set cannot be loaded.
    """
    import datasets
    from datasets.exceptions import DatasetsError
    from huggingface_hub import errors as hub_errors

    # huggingface_hub has changed its HTTP client before; its errors module names the base error of the present one.
    client_error: type[Exception] = vars(hub_errors)["HTTPError"]
    try:
        with _offline_unless_reachable(repository, client_error):
            table = datasets.load_dataset(repository, subset, split=split)
            rows = [
                _row(number, f"{repository} {split}, row {number}", row) for number, row in enumerate(table, start=1)
            ]
    except (OSError, ValueError, DatasetsError, client_error) as error:
        raise UserError(
            f"data={data_name}: {repository} can be loaded neither from the Hub ({type(error).__name__}) nor from its "
            "cache here; connect, unset HF_HUB_OFFLINE, or copy its files here and give data.path=FOLDER"
        ) from error
    if not rows:
        raise UserError(f"data={data_name}: the {split} split of {repository} is empty; give data.path=FOLDER")
    return rows


@contextmanager
def _offline_unless_reachable(repository: str, client_error: type[Exception]) -> Iterator[None]:
    """Let `datasets` go straight to its cache when one quick request shows that the Hub does not answer."""
    import datasets
    import huggingface_hub

    before = datasets.config.HF_HUB_OFFLINE
    try:
        huggingface_hub.HfApi().dataset_info(repository, timeout=HUB_TIMEOUT_SECONDS)
    except (OSError, client_error):
        datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _file(folder: str, name: str) -> Path:
    directory = Path(folder)
    if not directory.exists():
        raise UserError(f"data.path={folder}: no such folder; check the path, or leave data.path out to use the Hub")
    if not directory.is_dir():
        raise UserError(f"data.path={folder} is a file; give the folder that holds {name}")
    if not (directory / name).is_file():
        raise UserError(f"data.path={folder}: {name} is not in this folder; copy it there or give its folder")
    return directory / name


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def _row(number: int, place: str, values: Any) -> Row:
    if not isinstance(values, dict):
        raise UserError(f"{place}: must be a JSON object with named columns, not {type(values).__name__}; fix the file")
    return Row(number, place, values)


def _not_empty(rows: list[Row], path: Path) -> list[Row]:
    if not rows:
        raise UserError(f"{path}: the file is empty; copy it again or give another data.path")
    return rows
