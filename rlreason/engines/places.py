"""Where the replicas of an engine run: cores, GPUs and memory of each, and the environment of its process."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlreason.config.sections import EngineConfig
from rlreason.distributed.shares import THREADS, share
from rlreason.errors import UserError

# What launchers of distributed training tell each of their processes. An engine that read it would wait for the other
# processes, or take a part of the machine that is meant for a trainer.
LAUNCH = re.compile(
    "((LOCAL_|GROUP_|ROLE_|CROSS_)?(RANK|WORLD_SIZE)|ROLE_NAME|CROSS_SIZE|MASTER_(ADDR|PORT)"
    "|(TORCHELASTIC|ACCELERATE|FSDP|PMI|OMPI_COMM_WORLD)_.*)"
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one replica runs."""

    cores: tuple[int, ...]  # that it keeps to; empty: those of the process that starts it
    gpus: tuple[str, ...] | None  # that it sees, by number or name; None: those that this process sees
    memory_share: float  # of the free memory there that it may take


def places(config: EngineConfig, cores: Sequence[int], gpus: Sequence[str]) -> list[Place]:
    """A place for each replica; what replicas share, each has an equal part of.

    Args:
        config: Section `engine`.
        cores: The cores of all replicas together.
        gpus: The GPUs that this process sees; `engine.devices` counts in them.

    Raises:
        UserError: There are too few GPUs.
    """
    count, size = config.replicas, config.tensor_parallel_size
    own_cores = [tuple(share(cores, number, count)) for number in range(count)]
    if not gpus:
        if config.devices is not None:
            raise UserError(f"engine.devices={config.devices}: no GPU is visible here; leave engine.devices out")
        share_of_each = config.memory_share / count
        return [Place(own, None, share_of_each) for own in own_cores]
    if config.executor == "ray":  # Ray hands out the GPUs of all its nodes, each to one copy only
        return [Place(own, None, config.memory_share) for own in own_cores]
    if config.devices is not None and max(config.devices) >= len(gpus):
        raise UserError(
            f"engine.devices={config.devices}: {len(gpus)} GPUs are visible, numbered from 0 to {len(gpus) - 1}"
        )
    if size > len(gpus):
        raise UserError(
            f"engine.tensor_parallel_size={size} needs {size} GPUs for one copy of the model and {len(gpus)} are "
            "visible; lower it, or set engine.executor=ray to use the GPUs of other nodes"
        )
    numbers = config.devices or [number % len(gpus) for number in range(count * size)]
    sharing = Counter(numbers)
    parts = [numbers[first : first + size] for first in range(0, count * size, size)]
    return [
        Place(own, tuple(gpus[n] for n in part), config.memory_share / max(sharing[n] for n in part))
        for own, part in zip(own_cores, parts, strict=True)
    ]


def environment(inherited: Mapping[str, str], place: Place) -> dict[str, str]:
    """The environment of a replica's process, made from the one that this process has `inherited`."""
    own = {name: value for name, value in inherited.items() if not LAUNCH.fullmatch(name)}
    if place.cores:
        own |= dict.fromkeys(THREADS, str(len(place.cores)))
    if place.gpus is not None:
        own["CUDA_VISIBLE_DEVICES"] = ",".join(place.gpus)
    return own
