"""Which cores and which GPU a job may use that runs beside others on one machine.

Two processes that each use every core slow each other down many times over, because their threads wait for each other
at every step. So the process that starts a sweep opens as many slots as jobs are to run at once, and each process
that runs jobs takes a slot for as long as it lives.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import filelock

VARIABLE = "RLREASON_SLOTS"  # the folder of the slots' lock files
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
Thing = TypeVar("Thing")
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


def share(things: Sequence[Thing], slot: int, count: int) -> list[Thing]:
    """The part of `things` that belongs to slot number `slot` of `count`; never empty where there are any.

    Slots share things where there are more slots than things.
    """
    size = len(things) // count
    if size == 0:
        return [things[slot % len(things)]] if things else []
    return list(things[slot * size : (slot + 1) * size])


def gpus() -> list[str]:
    """The NVIDIA GPUs that this process may use, by number or name."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(number) for number, _ in enumerate(listed.splitlines())]


def confine(slot: int, count: int) -> None:
    """Keep this process to the cores and GPUs of slot number `slot` of `count`."""
    confine_to_cores(slot, count)
    mine = share(gpus(), slot, count)
    if mine:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(mine)


def confine_to_cores(slot: int, count: int) -> None:
    """Keep this process to the cores of slot number `slot` of `count`."""
    if hasattr(os, "sched_setaffinity"):
        cores = share(sorted(os.sched_getaffinity(0)), slot, count)
        os.sched_setaffinity(0, cores)
        for variable in THREADS:
            os.environ[variable] = str(len(cores))
