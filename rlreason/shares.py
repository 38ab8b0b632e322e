"""How processes that run side by side divide the cores and GPUs of a machine, and those that train together a batch."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import TypeVar

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
Thing = TypeVar("Thing")


def share(things: Sequence[Thing], slot: int, count: int) -> list[Thing]:
    """The part of `things` that belongs to slot number `slot` of `count`; never empty where there are any.

    Slots share things where there are more slots than things.
    """
    size = len(things) // count
    if size == 0:
        return [things[slot % len(things)]] if things else []
    return list(things[slot * size : (slot + 1) * size])


def micro_batch(batch_size: int, largest: int, processes: int) -> int:
    """Sequences per forward pass of each process: at most `largest`, and such that all have as many passes.

    Args:
        batch_size: Sequences per optimizer step, over all processes, whose number divides it.
        largest: As configured.
        processes: How many train together.
    """
    part = batch_size // processes
    return next(count for count in range(min(largest, part), 0, -1) if part % count == 0)


def cores() -> list[int]:
    """The cores that this process may use; none where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


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
    own_gpus = share(gpus(), slot, count)
    if own_gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(own_gpus)


def confine_to_cores(slot: int, count: int) -> None:
    """Keep this process to the cores of slot number `slot` of `count`."""
    own_cores = share(cores(), slot, count)
    if own_cores:
        os.sched_setaffinity(0, own_cores)
        for variable in THREADS:
            os.environ[variable] = str(len(own_cores))
