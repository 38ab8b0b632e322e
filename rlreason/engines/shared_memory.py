"""Folders in main memory (`/dev/shm`) for weights on their way from a trainer to an engine of the same machine.

Nothing of them stays: a folder is removed at the end of its block, and one whose process was killed by the next
process that makes one. A lock says which process still lives; the kernel drops it with the process.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlreason.run.folder import held

MEMORY = Path("/dev/shm")
PREFIX = "rlreason-"


@contextmanager
def folder_in_memory(size: float | None, otherwise: Path, name: str | None = None) -> Iterator[Path]:
    """A folder that lives as long as the block, readable by its owner alone.

    Args:
        size: Bytes that will be written; None where that is not known.
        otherwise: Made instead on a disk, where memory has no room for `size` bytes, or `size` is None.
        name: Of the folder in memory, for readers that remember where things were; another one is taken where it is in
            use. None: any.
    """
    remove_abandoned()
    if size is None or not has_room(size):
        shutil.rmtree(otherwise, ignore_errors=True)
        otherwise.mkdir(parents=True)
        try:
            yield otherwise
        finally:
            shutil.rmtree(otherwise, ignore_errors=True)
        return
    folder = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=MEMORY))
    with (folder / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Only with such a name may others ask whether it is held.
        visible = MEMORY / folder.name.removeprefix(".")
        try:
            folder = folder.rename(visible if name is None else MEMORY / f"{PREFIX}{name}")
        except OSError:
            folder = folder.rename(visible)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def has_room(size: float) -> bool:
    """Whether `size` bytes fit into shared memory and leave half of the free memory to everything else."""
    import psutil

    if not os.access(MEMORY, os.W_OK):
        return False
    return size <= min(shutil.disk_usage(MEMORY).free, psutil.virtual_memory().available / 2)


def remove_abandoned() -> None:
    """Remove the folders of processes that were killed."""
    for folder in MEMORY.glob(f"{PREFIX}*"):
        if os.access(folder, os.W_OK) and not held(folder):
            shutil.rmtree(folder, ignore_errors=True)


def is_in_memory(folder: Path) -> bool:
    """Whether a folder was made by `folder_in_memory` in main memory."""
    return folder.parent == MEMORY and folder.name.startswith(PREFIX)
