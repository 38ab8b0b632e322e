"""Models that are split over processes are read once: process 0 maps the files, the others get their parts of it.

Every process makes a model of the same shape, whose weights take no memory as long as nobody writes to them. It gets
adapters and heads, and is split, as any model is; then process 0 hands out the checkpoint, one weight after the other,
in the precision in which the model is trained. What each process holds in main memory meanwhile does not grow with the
number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlreason.distributed import ranks
from rlreason.models.architecture import configuration


@dataclass(frozen=True)
class Unread:
    """What a model's weights will be.

    Args:
        read: Gives the model with its weights; called in process 0.
        places: The name of each weight, the module that has it, and its name there. Adapters, heads and splitting
            change the weight and what is around the module, not the module.
    """

    read: Callable[[], Any]
    places: Sequence[tuple[str, Any, str]]


def unread_model(folder: Path, dtype: str, read: Callable[[], Any]) -> Any:
    """A language model that is what `read` gives, in every process, once `read_weights` has been called on it.

    Args:
        folder: Of its checkpoint.
        dtype: Its precision; "auto" for that which its configuration names, or else float32.
        read: Gives it with its weights, in any precision.
    """
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    config = configuration(folder)
    config.name_or_path = str(folder)
    precision = (config.dtype or torch.float32) if dtype == "auto" else getattr(torch, dtype)
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(config, dtype=precision)
    model.tie_weights()
    made: dict[int, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, weights in module.named_parameters(recurse=False, remove_duplicate=False):
            # Pages of fresh memory are there once they are written to.
            made.setdefault(id(weights), torch.nn.Parameter(torch.empty(weights.shape, dtype=weights.dtype)))
            setattr(module, name, made[id(weights)])
    places = [(name, *_place(model, name)) for name in dict(model.named_parameters())]
    places += [(name, *_place(model, name)) for name in model.state_dict() if name in dict(model.named_buffers())]
    model.unread = Unread(read, places)
    return model.eval()


def read_weights(module: Any) -> None:
    """Give the models inside of a module the weights that they lack; every process has to call it.

    Models that have theirs keep them.
    """
    for part in module.modules():
        unread: Unread | None = part.__dict__.pop("unread", None)
        if unread is not None:
            stored: Mapping[str, Any] = unread.read().state_dict() if ranks.rank() == 0 else {}
            for name, owner, attribute in unread.places:
                _hand_out(getattr(owner, attribute), stored.get(name))


def lacks_weights(module: Any) -> bool:
    """Whether a model inside of a module still waits for its weights."""
    return any("unread" in part.__dict__ for part in module.modules())


@contextmanager
def read_when_split(accelerator: Any) -> Iterator[None]:
    """Weights that a Trainer's model lacks are read as soon as its `accelerator` has split it, within the block."""
    import torch

    prepare = accelerator.prepare

    def prepare_and_read(*objects: Any, **options: Any) -> Any:
        prepared = prepare(*objects, **options)
        for item in prepared if isinstance(prepared, tuple | list) else (prepared,):
            if isinstance(item, torch.nn.Module):
                read_weights(item)
        return prepared

    accelerator.prepare = prepare_and_read
    try:
        yield
    finally:
        del accelerator.prepare


def _place(model: Any, name: str) -> tuple[Any, str]:
    """The module that has the weight called `name`, and its name there."""
    path, _, attribute = name.rpartition(".")
    return model.get_submodule(path), attribute


def _hand_out(target: Any, value: Any) -> None:
    """Put a weight that process 0 has into every process's `target`, which is whole or a part of it."""
    import torch
    from torch.distributed import broadcast
    from torch.distributed.tensor import DTensor, distribute_tensor

    split = isinstance(target, DTensor)
    device = target.device_mesh.device_type if split else target.device
    if value is None:
        value = torch.empty(target.shape, dtype=target.dtype, device=device)
    value = value.to(device).to(target.dtype).contiguous()
    with torch.no_grad():
        if split:
            target.to_local().copy_(distribute_tensor(value, target.device_mesh, target.placements).to_local())
        else:
            broadcast(value, src=0)
            target.copy_(value)
