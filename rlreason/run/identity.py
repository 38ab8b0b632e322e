"""What makes two runs the same: the part of a configuration that decides the numbers, and a name made from it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from rlreason.errors import FolderRefused

# Groups whose choice is part of a run's name, and of the command that makes it again, in this order.
NAMED_GROUPS = ("algo", "model", "data", "init", "reward")
# What does not decide the numbers of a run, so that it may be continued with other values.
RUNTIME_KEYS = (
    "runs_dir",
    "study",
    "tuned_on",
    "name",
    "nproc",
    "checkpoint_seconds",
    "check_memory",
    "gpus",
    "gpu_memory",
    "gpu_name",
    "gpu_hour_price",
)
SOURCE = "sources."  # begins the key of a digest of the user's own code
OWN = "own"  # folder of that code, in the run's
RUNTIME_SECTIONS = ("tracker", "launcher", "sharding")
RUNTIME_FIELDS = ("engine.replicas", "engine.devices", "engine.executor", "engine.probe_limit", "engine.adapters")


def run_name(choices: Mapping[str, str], changes: Mapping[str, Any], seed: int) -> str:
    """A folder name made from what was asked for.

    Args:
        choices: Group choices in the order in which they are named, such as {"algo": "ei", "model": "tiny"}.
        changes: Single values set on the command line, such as {"algo.rounds": 2}.
        seed: The run's seed.

    Returns:
        Such as "ei-tiny-wordproblems-scratch-sparse-algo.rounds=2-seed0"; safe as a folder name on any system.
    """
    parts = [*choices.values(), *(f"{key}={value}" for key, value in sorted(changes.items()))]
    name = re.sub(r"[^A-Za-z0-9.=_-]+", "_", "-".join(parts))
    if len(name) > 150:
        import hashlib

        name = name[:130] + "-" + hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{name}-seed{seed}"


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that decides the numbers, flattened to dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if key in RUNTIME_KEYS or key in RUNTIME_SECTIONS:
            continue
        if isinstance(value, Mapping):
            flat.update({f"{key}.{inner}": item for inner, item in value.items()})
        else:
            flat[key] = value
    return {key: value for key, value in flat.items() if key not in RUNTIME_FIELDS}


def refuse_other_configuration(folder: Path, config: Mapping[str, Any], mendable: Collection[str] = ()) -> bool:
    """Refuse a run folder that was made for a configuration with other numbers.

    Args:
        folder: The run folder.
        config: The composed configuration as plain values.
        mendable: Keys that may differ all the same.

    Returns:
        Whether one of those does.

    Raises:
        FolderRefused: Another key does.
    """
    path = folder / "config.yaml"
    if not path.exists():
        return False
    there, here = identity(yaml.safe_load(path.read_text())), identity(config)
    different = [key for key in sorted({*there, *here}) if there.get(key) != here.get(key)]
    if set(different) <= set(mendable):
        return bool(different)
    shown = ", ".join(
        f"{key.removeprefix(SOURCE)} has changed since; {folder / OWN} has what it was"
        if key.startswith(SOURCE)
        else f"{key}={there.get(key)} there, {here.get(key)} asked for"
        for key in different[:3]
    )
    raise FolderRefused(
        f"{folder} belongs to another configuration ({shown}{', ...' if len(different) > 3 else ''}); "
        "set name=OTHER or remove the folder"
    )
