"""Where the rows of a data set lie (a file, a folder, a clone of a Hub data set, the Hub), and which split is where."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rlreason.data.sources import (
    FORMATS_IN_WORDS,
    SPLIT_WORDS,
    Row,
    chosen_subset,
    file_rows,
    hub_splits,
    hub_subsets,
    is_data_file,
    names_of,
    split_of,
)
from rlreason.errors import UserError

ONLY = "only"  # the one set of rows of data that name no split
# Facts about a data set that lie beside its rows.
NO_ROWS = re.compile(
    r"(dataset_infos?|dataset_dict|state|config|metadata|croissant|package(-lock)?)\.json", re.IGNORECASE
)
_WORDS = "|".join(SPLIT_WORDS)
# "train-00001-of-00004", with a hash behind it in older clones, or "train_1"; of other names a number is a part.
_SHARD = re.compile(rf"(?P<name>.+)[-_.]\d+-of-(?P<of>\d+)(?:-[0-9a-f]+)?|(?P<split>{_WORDS})[-_.]?\d+", re.IGNORECASE)
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

Reader = Callable[[], list[Row]]


@dataclass(frozen=True)
class Located:
    """The rows of a data set by split, to be read.

    Args:
        splits: What reads the rows of "train", "validation" and "test", as far as they are there; or of `ONLY` where
            nothing names a split.
        notes: What was passed over.
    """

    splits: Mapping[str, Reader]
    notes: Sequence[str] = ()


def located(path: str, subset: str | None, default_subset: str | None = None) -> Located:
    """Find the rows of a data set.

    Args:
        path: A file, a folder, or OWNER/NAME on the Hub; "~" is the user's own folder.
        subset: One of several data sets that lie there together; None where there is one only.
        default_subset: Which is meant where there are several and `subset` names none; None: that is refused.

    Raises:
        UserError: There is nothing, or it is not clear which files are meant.
    """
    try:
        place = Path(path)
        there, is_folder = place.exists(), place.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, no home, no permission
        raise UserError(f"data.path={path}: cannot be looked at ({error}); check the path") from error
    where = f"data.path={path}"
    if is_folder:
        return _by_split(_folder(place, subset, default_subset, where), where)
    if there:
        if subset is not None:
            raise UserError(f"data.subset={subset}: {where} is one file, which has no subsets; leave data.subset out")
        return _by_split(_sets_of_file(place), where)
    if _is_hub_name(path):
        found = hub_splits(path, subset, default_subset)
        return _by_split({name: [_giving(rows)] for name, rows in found.items()}, where)
    raise UserError(f"{where}: no such file or folder; check the path (a data set of the Hub is written OWNER/NAME)")


def split_rows(path: str, subset: str | None, split: str, default_subset: str | None = None) -> list[Row]:
    """The rows of one split; none where the data do not have it.

    Args:
        path: See `located`.
        subset: See `located`.
        split: "train", "validation" or "test".
        default_subset: See `located`.

    Raises:
        UserError: As `located`; or nothing names a split there.
    """
    place = located(path, subset, default_subset)
    if ONLY in place.splits:
        raise UserError(
            f"data.path={path}: nothing says which questions are for training and which for tests; call the files "
            "train and test, or read them as your own with data=files"
        )
    return place.splits[split]() if split in place.splits else []


def subsets_of(path: str) -> list[str]:
    """The data sets that lie together in a clone, a folder for each, or that a data set of the Hub consists of.

    Raises:
        UserError: `path` is a name of the Hub, and cannot be loaded from there.
    """
    place = Path(path)
    if _is_hub_name(path) and not place.exists():
        return hub_subsets(path)
    if not place.is_dir():
        return []
    folders = [folder for folder in _folders(place) if folder.name != "data" and folder.name not in SPLIT_WORDS]
    return [folder.name for folder in folders if any(split_of(item.name) for item in _listed(folder))]


def _is_hub_name(path: str) -> bool:
    return _HUB_NAME.fullmatch(path) is not None and not is_data_file(Path(path))


def _giving(rows: list[Row]) -> Reader:
    return lambda: rows


def _sets_of_file(path: Path) -> dict[str, list[Reader]]:
    return {_stem(path) if name is None else name: [_giving(rows)] for name, rows in file_rows(path).items()}


def _folder(folder: Path, subset: str | None, default: str | None, where: str) -> dict[str, list[Reader]]:
    """What reads the rows of every set of rows in a folder, by its name; shards of one set belong together."""
    here, below = _files(folder), _folders(folder)
    split_folders = [item for item in below if item.name.casefold() in SPLIT_WORDS]
    others = [item for item in below if item not in split_folders]
    if subset is not None:
        containers = [folder, *(item for item in others if item.name == "data")]
        names = {item.name: item for place in containers for item in _folders(place)}
        chosen = chosen_subset(where, subset, [name for name in names if name != "data"])
        return _folder(names[chosen], None, None, where)
    if here or split_folders:
        sets = _shards(here, where)
        for item in split_folders:
            sets.setdefault(item.name, []).extend(partial(_all_rows, path) for path in _files_below(item))
        return sets
    if not others:
        raise UserError(f"{where}: no data in this folder; give one that holds {FORMATS_IN_WORDS}")
    names = {item.name: item for item in others}
    name = "data" if "data" in names else chosen_subset(where, None, list(names), default)
    return _folder(names[name], None, default, where)


def _files(folder: Path) -> list[Path]:
    return sorted(item for item in _listed(folder) if is_data_file(item) and not NO_ROWS.fullmatch(item.name))


def _files_below(folder: Path) -> list[Path]:
    return [*_files(folder), *(file for item in _folders(folder) for file in _files_below(item))]


def _folders(folder: Path) -> list[Path]:
    """The folders in it that hold data, however deep."""
    below = sorted(item for item in _listed(folder) if item.is_dir() and not item.name.startswith("."))
    return [item for item in below if _files(item) or _folders(item)]


def _listed(folder: Path) -> Iterable[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from error


def _shards(files: Sequence[Path], where: str) -> dict[str, list[Reader]]:
    """Files by what they are called without the number of a shard and the ending."""
    sets: dict[str, list[Reader]] = {}
    matches = {path: _SHARD.fullmatch(_stem(path)) for path in files}
    shards: dict[str, list[Path]] = {}
    for path, match in matches.items():
        shards.setdefault(_stem(path) if match is None else match["name"] or match["split"], []).append(path)
    for name, paths in shards.items():
        of = {int(match["of"] or 0) for path in paths if (match := matches[path])}
        if len(paths) > 1 and not (all(matches[path] for path in paths) and len({path.suffix for path in paths}) == 1):
            raise UserError(
                f"{where} holds {names_of(path.name for path in paths)}, and only one of them can be meant; "
                "give data.path=FILE, or move the others away"
            )
        wanted = max(of, default=0)
        if wanted > len(paths):
            raise UserError(f"{where}: {len(paths)} of the {wanted} files of {name!r} are there; copy the others too")
        sets[name] = [partial(_all_rows, path) for path in paths]
    # A file alone may hold several splits, whatever it is called.
    return _sets_of_file(files[0]) if len(files) == 1 else sets


def _stem(path: Path) -> str:
    """The name of a file without the endings that say its form."""
    return Path(path.name[: -len(".gz")] if path.suffix.lower() == ".gz" else path.name).stem


def _all_rows(path: Path) -> list[Row]:
    return [row for rows in file_rows(path).values() for row in rows]


def _by_split(sets: Mapping[str, list[Reader]], where: str) -> Located:
    """Which set is which split, by their names."""
    exact = {name: split for name in sets if (split := SPLIT_WORDS.get(name.strip().casefold()))}
    found = exact or {name: split for name in sets if (split := split_of(name))}
    if not found and len(sets) > 1:
        raise UserError(
            f"{where} holds {names_of(sets)}: which are training questions, which test questions? Call them train, "
            "validation and test, or give data.path=FILE"
        )
    if not found:
        (readers,) = sets.values()
        return Located({ONLY: partial(_read, readers)})
    for split in dict.fromkeys(found.values()):
        names = [name for name in found if found[name] == split]
        if len(names) > 1:
            raise UserError(
                f"{where} holds {' and '.join(names)}, and both may be the {split} split; keep one, or give "
                "data.path=FILE"
            )
    passed_over = [name for name in sets if name not in found]
    note = f"{where}: not read, for its name is that of no split: {names_of(passed_over)}"
    return Located({split: partial(_read, sets[name]) for name, split in found.items()}, (note,) if passed_over else ())


def _read(readers: Sequence[Reader]) -> list[Row]:
    rows = [row for read in readers for row in read()]
    return [replace(row, number=number) for number, row in enumerate(rows, start=1)]
