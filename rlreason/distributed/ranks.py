"""Processes that train together.

Rank 0 samples, evaluates and writes the run folder, as one process alone would; the other ranks take part in training
only. A training update is a function that every process must be in, so rank 0 calls it by `together`, and the others,
which wait in `serve`, call it with the same arguments. Who started the processes (`launcher=accelerate`, torchrun,
Slurm, Ray) does not matter: RANK and WORLD_SIZE in the environment say that they are there.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

Value = TypeVar("Value")

# The others wait as long as rank 0 samples, which can be days; a process that dies is noticed by who started them.
PATIENCE = timedelta(days=30)
# Inside an update all processes are at the same place; saving a large model is the longest that they wait.
WITHIN_UPDATE = timedelta(hours=1)

_control: Any = None  # process group of what rank 0 tells the others
_torn = False  # whether rank 0 left an update by an error, so that the others cannot hear it any more


def size() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process among them, from 0."""
    return int(os.environ.get("RANK", "0")) if size() > 1 else 0


@contextmanager
def leading() -> Iterator[None]:
    """Lead the other processes, if there are any, through the block; afterwards they end."""
    if size() == 1:
        yield
        return
    _connect()
    try:
        yield
    finally:
        if not _torn:
            shared(None)


def serve() -> None:
    """Take part in what rank 0 calls by `together`, until it has no more."""
    _connect()
    while (call := shared(None)) is not None:
        module, name, arguments = call
        getattr(importlib.import_module(module), name)(*arguments)


def together(function: Callable[..., Value], *arguments: Any, **only_here: Any) -> Value:
    """Call a function in every process.

    Args:
        function: A function of a module.
        arguments: What every process gets; must be picklable.
        only_here: What this process gets besides; the others have the function's defaults.

    Returns:
        What the function returned here.
    """
    with called_elsewhere(function, *arguments):
        return function(*arguments, **only_here)


@contextmanager
def called_elsewhere(function: Callable[..., Any], *arguments: Any) -> Iterator[None]:
    """Have the other processes call a function while the block calls it here, with the same arguments.

    Args:
        function: A function of a module.
        arguments: What every process gets; must be picklable.
    """
    global _torn
    if size() == 1:
        yield
        return
    shared((function.__module__, function.__qualname__, arguments))
    _torn = True
    yield
    _torn = False


def shared(value: Value) -> Value:
    """Rank 0's value, in every process; all must call it."""
    if size() == 1:
        return value
    from torch.distributed import broadcast_object_list

    box = [value]
    broadcast_object_list(box, src=0, group=_control)
    return box[0]


def wait() -> None:
    """Go on when every process has come here."""
    if size() > 1:
        from torch.distributed import barrier

        barrier(group=_control)


def total(value: float) -> float:
    """The sum of the processes' values, in every process."""
    if size() == 1:
        return value
    import torch
    from torch.distributed import all_reduce

    tensor = torch.tensor(value, dtype=torch.float64)
    all_reduce(tensor, group=_control)
    return float(tensor)


def average(tensors: list[torch.Tensor]) -> None:
    """Replace each tensor, in place, by its mean over the processes."""
    if size() == 1:
        return
    from torch.distributed import all_reduce

    for tensor in tensors:
        all_reduce(tensor)
        tensor /= size()


def _connect() -> None:
    """Find the other processes, before the run begins, so that one that is missing is noticed at once."""
    global _control
    import torch
    from torch.distributed import init_process_group, new_group

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    init_process_group(backend, timeout=WITHIN_UPDATE)
    _control = new_group(backend="gloo", timeout=PATIENCE)
