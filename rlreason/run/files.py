"""Files that are whole or not there: written beside their place, synced to the disk, then renamed; results of runs.

Without the sync a power cut may leave the new name with an empty file: the file system may write the name first.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

CONFIG_FILE, RESULT_FILE = "config.yaml", "result.json"  # of a run folder


def read_result(run: Path) -> dict[str, Any] | None:
    """The `result.json` of a run; None where it has not finished, or the file is empty or cut."""
    try:
        result = json.loads((run / RESULT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) else None


def write_atomically(path: Path, text: str) -> None:
    """Replace a file, whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    put_in_place(temporary, path)


def put_in_place(written: Path, place: Path) -> None:
    """Give a file or a folder that is complete the name of its place, where no folder may be.

    Args:
        written: What was written, on the same file system.
        place: Where it belongs.
    """
    sync(written)
    os.replace(written, place)
    _sync_one(place.parent)


def sync(path: Path) -> None:
    """Have a file, or a folder with all that is in it, on the disk."""
    for item in (path, *path.rglob("*")) if path.is_dir() else (path,):
        _sync_one(item)


def _sync_one(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk; file systems that cannot do that are left alone."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems have it for files alone
        if path.is_file():
            raise
    finally:
        os.close(descriptor)
