"""Which cores and which GPU a job may use that runs beside others on one machine.

Two processes that each use every core slow each other down many times over, because their threads wait for each other
at every step. So the process that starts a sweep opens as many slots as jobs are to run at once, and each process
that runs jobs takes a slot for as long as it lives.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from rlreason.distributed.shares import confine

VARIABLE = "RLREASON_SLOTS"  # the folder of the slots' lock files
_taken: list[filelock.FileLock] = []


@contextmanager
def slots(count: int) -> Iterator[None]:
    """Let the processes that are started in this block share the machine between `count` of them."""
    with tempfile.TemporaryDirectory(prefix="rlreason-slots-") as folder:
        for number in range(count):
            (Path(folder) / str(number)).touch()
        os.environ[VARIABLE] = folder
        try:
            yield
        finally:
            del os.environ[VARIABLE]


def take_slot() -> bool:
    """Confine this process to its share of the machine; whether it has one to keep to.

    To be called before torch is imported, which reads how many threads it may use only then.
    """
    folder = os.environ.get(VARIABLE)
    if folder is None or _taken:
        return bool(_taken)
    names = sorted(os.listdir(folder), key=int)
    for name in names:
        lock = filelock.FileLock(Path(folder) / name)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            continue
        _taken.append(lock)
        confine(int(name), len(names))
        return True
    return False
