"""How things are divided: cores and GPUs between processes, a batch between trainers, attention heads between GPUs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

from rlreason.distributed import devices
from rlreason.errors import UserError

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
Thing = TypeVar("Thing")

_before: list[int] = []  # the cores that this process had before it kept to a trainer's share of them


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


def check_heads(heads: int, key_value_heads: int, size: int, model: str) -> None:
    """Refuse to split a model over more GPUs than its attention heads can be divided between.

    Args:
        heads: Attention heads of the queries.
        key_value_heads: Of keys and values.
        size: GPUs of one copy. As in vLLM, it must divide the heads of the queries, and those of keys and values must
            either be divided by it or divide it (they are then held more than once).
        model: What the model is called.

    Raises:
        UserError: It does not; the message names the numbers that do.
    """
    possible = [
        n for n in range(1, heads + 1) if heads % n == 0 and (key_value_heads % n == 0 or n % key_value_heads == 0)
    ]
    if size not in possible:
        raise UserError(
            f"engine.tensor_parallel_size={size} does not divide the {heads} attention heads of model={model}"
            + (f" ({key_value_heads} of keys and values)" if key_value_heads != heads else "")
            + f"; choose from: {', '.join(map(str, possible))}"
        )


def cores() -> list[int]:
    """The cores for what this process starts: its own, or those of all that train together here if it is one of them.

    An engine beside distributed training works while the trainers wait, so that it may have the cores of all of them.
    """
    return _before or _own_cores()


def gpus() -> list[str]:
    """The NVIDIA GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES takes."""
    return [device.name for device in devices.visible()]


def confine(slot: int, count: int) -> None:
    """Keep this process to the cores and GPUs of slot number `slot` of `count`."""
    confine_to_cores(slot, count)
    own_gpus = share(gpus(), slot, count)
    if own_gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(own_gpus)


def confine_to_cores(slot: int, count: int) -> None:
    """Keep this process to the cores of slot number `slot` of `count`."""
    own_cores = share(_own_cores(), slot, count)
    if own_cores:
        os.sched_setaffinity(0, own_cores)
        for variable in THREADS:
            os.environ[variable] = str(len(own_cores))


def train_beside_others(number: int, count: int) -> None:
    """Keep this process to its share of the cores as trainer `number` of `count`; what it starts may use all."""
    _before[:] = _own_cores()
    confine_to_cores(number, count)


def _own_cores() -> list[int]:
    """The cores that this process may use; none where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
