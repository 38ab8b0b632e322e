"""Files that are whole or not there: written beside their place, synced to the disk, then renamed.

Without the sync a power cut may leave the new name with an empty file: the file system may write the name first.
"""

from __future__ import annotations

import os
from pathlib import Path


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
    for path in (written, *written.rglob("*")) if written.is_dir() else (written,):
        sync(path)
    os.replace(written, place)
    sync(place.parent)


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk; file systems that cannot do that are left alone."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems have it for files alone
        if path.is_file():
            raise
    finally:
        os.close(descriptor)
