"""Rows of data files and of Hub data sets, each with the place it came from, so that every complaint can name it."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlreason.errors import UserError, in_one_line

FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
FORMATS_IN_WORDS = "JSON lines, JSON, CSV or parquet, each also .gz"
# `datasets` retries an unreachable Hub for 23 seconds, and for minutes behind a firewall that drops packets.
HUB_TIMEOUT_SECONDS = 5.0
LONGEST_SHOWN = 80  # characters of a value in a message
MOST_SHOWN = 12  # names in a message
LONGEST_CSV_FIELD = 2**31 - 1
_LFS_POINTER = b"version https://git-lfs"
_SURROGATE = re.compile("[\ud800-\udfff]")
# What splits are called, as the whole name or as one word of it: "train", "gsm8k_test", "val-00000-of-00001".
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
# Under which name a JSON object with facts about the data holds their rows.
CONTAINERS = ("data", "rows", "examples", "instances", "items", "problems", "questions")


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a data set."""

    number: int  # its position in its file or Hub split, from 1
    place: str  # file and line, or Hub name and row, for messages
    values: Mapping[str, Any]

    def find(self, column: str) -> Any:
        """The value of a column; None where the row does not have it.

        A dotted name reaches into nested values: "reward_model.ground_truth", "messages.0.content".
        """
        if column in self.values:
            return self.values[column]
        value: Any = self.values
        for part in column.split("."):
            if isinstance(value, Mapping):
                value = value.get(part)
            elif isinstance(value, Sequence) and not isinstance(value, str) and part.isdecimal():
                value = value[int(part)] if int(part) < len(value) else None
            else:
                return None
        return value

    def value(self, column: str) -> Any:
        """The value of a column, which may be nested, see `find`.

        Raises:
            UserError: The row does not have the column.
        """
        value = self.find(column)
        if value is None:
            raise UserError(
                f"{self.place}: the column {column!r} is missing (there: {names_of(self.values)}); add it or use other "
                "data"
            )
        return value

    def text(self, column: str) -> str:
        """The text of a column, without surrounding white space.

        Raises:
            UserError: The row does not have the column, or it holds something other than text.
        """
        value = self.value(column)
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{self.place}: the column {column!r} must be text and not empty; it is {shown(value)}")
        return value.strip()


def split_of(name: str) -> str | None:
    """The split that a file, a folder, a list in a file or a split of the Hub is named after; None for other names."""
    lower = name.strip().casefold()
    words = {SPLIT_WORDS[word] for word in re.split(r"[\W_]+", lower) if word in SPLIT_WORDS}
    return SPLIT_WORDS.get(lower) or (next(iter(words)) if len(words) == 1 else None)


def shown(value: Any) -> str:
    """A value in a message: on one line, and not too long."""
    return _shortened(repr(value))


def names_of(names: Iterable[Any]) -> str:
    """Names in a message: on one line, and not too many."""
    found = [_shortened(" ".join(str(name).split())) for name in names]
    more = f" and {len(found) - MOST_SHOWN:,} more" if len(found) > MOST_SHOWN else ""
    return ", ".join(found[:MOST_SHOWN]) + more or "none"


def is_data_file(path: Path) -> bool:
    """Whether the end of its name says that a file holds rows in a form that can be read."""
    return _format(path) in FORMATS and not path.name.startswith(".")


def file_rows(path: Path) -> dict[str | None, list[Row]]:
    """The rows of a file of any form: JSON lines, JSON, CSV or parquet, each also compressed by gzip.

    Args:
        path: The file; the end of its name says its form.

    Returns:
        Its rows under None; under several names where the file is a JSON object of several lists of rows, such as
        {"train": [...], "test": [...]}.

    Raises:
        UserError: The file cannot be read, is damaged or empty, or a row has no named columns; the message names the
            file, and the line or row.
    """
    kind, content = _format(path), _content(path)
    if kind not in FORMATS:
        raise UserError(f"{path}: a file of unknown form; data are {FORMATS_IN_WORDS}")
    if content.startswith(_LFS_POINTER):
        raise UserError(f"{path}: only a pointer to the file, as Git LFS leaves it; run `git lfs pull` in its folder")
    found: dict[str | None, list[Row]]
    if kind == ".parquet":
        found = {None: _parquet_rows(path, content)}
    else:
        text = _decoded(path, content)
        if not text.strip():
            found = {None: []}
        elif kind in (".csv", ".tsv"):
            found = {None: _csv_rows(path, text)}
        else:
            found = _json_rows(path, text, kind)
    for name, rows in found.items():
        if not rows:
            what = "the file" if name is None else f"its list {name!r}"
            raise UserError(f"{path}: {what} is empty; copy it again or give another data.path")
    return found


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

    with _from_hub(f"data={data_name}: {repository}", repository):
        table = datasets.load_dataset(repository, subset, split=split)
        rows = _hub_table(repository, split, table)
    if not rows:
        raise UserError(f"data={data_name}: the {split} split of {repository} is empty; give data.path=FOLDER")
    return rows


def hub_splits(repository: str, subset: str | None, default_subset: str | None) -> dict[str, list[Row]]:
    """The rows of every split of a data set on the Hub, or of its copy in the local cache.

    Args:
        repository: Its name on the Hub.
        subset: The configuration within the repository; None where it has one only, or one that it calls its default.
        default_subset: Which is meant where it has several and `subset` names none; None: that is refused.

    Raises:
        UserError: The data set cannot be loaded, has several subsets and none was chosen, or not the one that was.
    """
    import datasets

    subsets = hub_subsets(repository)
    if subset is not None or (len(subsets) > 1 and "default" not in subsets):
        subset = chosen_subset(f"data.path={repository}", subset, subsets, default_subset)
    with _from_hub(_not_here(repository), repository):
        tables = datasets.load_dataset(repository, subset)
        found = {str(name): _hub_table(repository, name, table) for name, table in tables.items()}
    return {name: rows for name, rows in found.items() if rows}


def hub_subsets(repository: str) -> list[str]:
    """The configurations of a data set on the Hub, or of its copy in the local cache.

    Raises:
        UserError: The data set cannot be loaded.
    """
    import datasets

    with _from_hub(_not_here(repository), repository):
        return list(datasets.get_dataset_config_names(repository))


def chosen_subset(where: str, subset: str | None, subsets: Sequence[str], default: str | None = None) -> str:
    """The subset that was asked for, or the only one there is.

    Args:
        where: The data, for the message.
        subset: What `data.subset` asks for, if anything.
        subsets: Those that there are.
        default: Which is meant where there are several and none was asked for; None: that is refused.

    Raises:
        UserError: It is not there, or there are several and none was asked for.
    """
    if subset is None and (len(subsets) == 1 or default in subsets):
        return subsets[0] if default not in subsets else str(default)
    if subset in subsets:
        return str(subset)
    if subset is None:
        raise UserError(f"{where} has several subsets; choose one of them as data.subset: {names_of(subsets)}")
    raise UserError(f"data.subset={subset}: {where} has no such subset; choose from: {names_of(subsets)}")


def _not_here(path: str) -> str:
    return f"data.path={path} is no file and no folder here, and as a data set of that name it"


def _hub_table(repository: str, split: str, table: Any) -> list[Row]:
    return [_row(number, f"{repository} {split}, row {number}", row) for number, row in enumerate(table, start=1)]


@contextmanager
def _from_hub(what: str, repository: str) -> Iterator[None]:
    """Load from the Hub in the block; whatever goes wrong there becomes one line that begins with `what`."""
    from datasets.exceptions import DatasetsError
    from huggingface_hub import errors as hub_errors

    # huggingface_hub has changed its HTTP client before; its errors module names the base error of the present one.
    client_error: type[Exception] = vars(hub_errors)["HTTPError"]
    try:
        with _offline_unless_reachable(repository, client_error):
            yield
    except (OSError, ValueError, DatasetsError, client_error) as error:
        raise UserError(
            f"{what} can be loaded neither from the Hub ({type(error).__name__}) nor from its "
            "cache here; connect, unset HF_HUB_OFFLINE, or copy its files here and give data.path=FOLDER"
        ) from error


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


def _format(path: Path) -> str:
    """The ending that says in which form a file is, without that of its compression."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    if path.suffix.lower() != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: not a whole gzip file ({_shortened(in_one_line(error))}); copy it again") from error


def _decoded(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def _json_rows(path: Path, text: str, kind: str) -> dict[str | None, list[Row]]:
    """Rows of JSON; the content decides whether it is one array, one object of arrays, or one object a line."""
    if kind == ".json" or text.lstrip().startswith("["):
        try:
            return _json_document(path, json.loads(text))
        except json.JSONDecodeError as error:
            if error.msg != "Extra data":  # a second object: one a line, under the name of the other form
                raise UserError(
                    f"{path}:{error.lineno}: not valid JSON ({error.msg}); fix the file or copy it again"
                ) from error
        except (ValueError, RecursionError) as error:
            reason = _shortened(in_one_line(error))
            raise UserError(f"{path}: not JSON that can be read ({reason}); fix the file") from error
    rows: list[Row] = []
    for line, written in enumerate(text.split("\n"), start=1):
        if written.strip():
            place = f"{path}:{line}"
            try:
                values = json.loads(written)
            except (ValueError, RecursionError) as error:
                reason = error.msg if isinstance(error, json.JSONDecodeError) else _shortened(in_one_line(error))
                raise UserError(f"{place}: not valid JSON ({reason}); fix or remove the line") from error
            rows.append(_row(len(rows) + 1, place, values))
    return {None: rows}


def _json_document(path: Path, value: Any) -> dict[str | None, list[Row]]:
    """Rows of a whole JSON file: an array of them, an object that holds such arrays, or a single row."""
    if isinstance(value, list):
        return {None: _array(path, "", value)}
    if not isinstance(value, dict) or not value:
        raise UserError(f"{path}: must be a JSON array of objects, not {type(value).__name__}; copy the file again")
    lists = {
        name: items
        for name, items in value.items()
        if isinstance(items, list) and all(isinstance(item, dict) for item in items)
    }
    if any(name.casefold() in SPLIT_WORDS for name in lists):
        return {name: _array(path, f"{name} ", items) for name, items in lists.items()}
    for name, items in lists.items():
        if len(lists) == 1 and (len(value) == 1 or name in CONTAINERS):
            return {None: _array(path, f"{name} ", items)}
    return {None: [_row(1, str(path), value)]}


def _array(path: Path, name: str, items: Sequence[Any]) -> list[Row]:
    return [_row(number, f"{path}, {name}row {number}", item) for number, item in enumerate(items, start=1)]


def _csv_rows(path: Path, text: str) -> list[Row]:
    """Rows below a line of column names; a comma, a semicolon or a tab separates them, whichever the names have."""
    csv.field_size_limit(LONGEST_CSV_FIELD)
    rows: list[Row] = []
    line = 1
    try:
        # The first of the widest, so that a comma wins where there is one column only.
        delimiter = max(
            ",;\t", key=lambda mark: len(_first_row(csv.reader(io.StringIO(text, newline=""), delimiter=mark)))
        )
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        names = [name.strip() for name in _first_row(reader)]
        if "" in names[1:] or len(set(names)) < len(names):
            raise UserError(f"{path}:1: the first line must name every column, each with a name of its own; fix it")
        line = reader.line_num + 1
        for values in reader:
            place = f"{path}:{line}"
            if values:
                if len(values) != len(names):
                    raise UserError(
                        f"{place}: {len(values)} values for {len(names)} columns ({names_of(names)}); quote texts "
                        f"that hold {delimiter!r}, or fix the row"
                    )
                # An empty field is no value, as null is none.
                found = {name: value or None for name, value in zip(names, values, strict=True)}
                rows.append(_row(len(rows) + 1, place, found))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}:{line}: not valid CSV ({_shortened(in_one_line(error))}); fix the row") from error
    return rows


def _first_row(reader: Iterator[list[str]]) -> list[str]:
    return next((row for row in reader if row), [])


def _parquet_rows(path: Path, content: bytes) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    if not content:
        return []
    try:
        values = pyarrow.parquet.read_table(pyarrow.BufferReader(content)).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = _shortened(in_one_line(error))
        raise UserError(f"{path}: not a whole parquet file ({reason}); copy it again") from error
    return _array(path, "", values)


def _row(number: int, place: str, values: Any) -> Row:
    if not isinstance(values, dict):
        raise UserError(f"{place}: must be a JSON object with named columns, not {type(values).__name__}; fix the file")
    for column, value in values.items():
        if not (_is_encodable(column) and _is_encodable(value)):
            raise UserError(
                f"{place}: the column {column!r} holds half a character (a lone surrogate, \\ud800 to \\udfff), which "
                "is no text; fix or remove the row"
            )
    return Row(number, place, values)


def _is_encodable(value: Any) -> bool:
    """Whether all text in a value can be written as UTF-8."""
    if isinstance(value, str):
        return value.isascii() or not _SURROGATE.search(value)
    if isinstance(value, Mapping):
        return all(_is_encodable(key) and _is_encodable(item) for key, item in value.items())
    return not isinstance(value, list | tuple) or all(map(_is_encodable, value))


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."
