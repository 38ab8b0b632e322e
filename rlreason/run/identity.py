"""What makes two runs the same: the part of a configuration that decides the numbers, and a name made from it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from rlreason.errors import FolderRefused
from rlreason.run.files import CONFIG_FILE, read_result

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
LAST_KEYS = ("seed", "gpu_hour_price")  # of every version's config.yaml; one that was cut in its middle lacks them
CONTENT = "contents."  # begins the key of a digest of what lies at a path that the run reads
SOURCE = "sources."  # begins the key of a digest of the user's own code
# What the prompts of versions that did not name it were.
OLD_PROMPT = {"system": None, "drawn": "once", "separator": "\n\n", "answer": "marker", "extraction": "standard"}
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


def prompt_of(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """The section `prompt` of a finished run, with what `auto` stood for; older versions had no `auto`."""
    found: Mapping[str, Any] = result["prompt"] if "prompt" in result else {**OLD_PROMPT, **result["config"]["prompt"]}
    return found


def prompt_of_checkpoint(path: str) -> Mapping[str, Any] | None:
    """The section `prompt` that the policy at `path` was trained with; None where it is no policy of one."""
    checkpoint = Path(path)
    result = read_result(checkpoint.parent.parent) if checkpoint.parent.name == "checkpoints" else None
    try:
        return None if result is None else prompt_of(result)
    except KeyError:
        return None


def _difference(key: str, there: Mapping[str, Any], here: Mapping[str, Any], folder: Path) -> str:
    if key.startswith(SOURCE):
        return f"{key.removeprefix(SOURCE)} has changed since; {folder / OWN} has what it was"
    if key.startswith(CONTENT) and key in there and key in here:
        setting = key.removeprefix(CONTENT)
        return f"what lies at {setting}={here.get(setting)} has changed since"
    return f"{key}={there.get(key)} there, {here.get(key)} asked for"


def stored_configuration(folder: Path, whole: Collection[str]) -> tuple[dict[str, Any], bool]:
    """The configuration that a run folder was made for, from `config.yaml`, or from its result where that is broken.

    Args:
        folder: The run folder.
        whole: Keys that a file has which is not cut.

    Returns:
        The configuration, and whether `config.yaml` is broken.

    Raises:
        FolderRefused: Neither can be read.
    """
    try:
        written = yaml.safe_load((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        written = None
    for found in (written, (read_result(folder) or {}).get("config")):
        if isinstance(found, dict) and found.keys() >= set(whole):
            return found, found is not written
    raise FolderRefused(
        f"{folder / CONFIG_FILE} is empty or cut, so that nobody can say what the run was made for; if it is this "
        "command's own, remove that file and give the command again; else set name=OTHER"
    )


def refuse_other_configuration(folder: Path, config: Mapping[str, Any], mendable: Collection[str] = ()) -> bool:
    """Refuse a run folder that was made for a configuration with other numbers.

    Args:
        folder: The run folder.
        config: The composed configuration as plain values.
        mendable: Keys that may differ all the same.

    Returns:
        Whether one of those does, or `config.yaml` is broken, so that it is to be written again.

    Raises:
        FolderRefused: Another key does.
    """
    if not (folder / CONFIG_FILE).exists():
        return False
    stored, broken = stored_configuration(folder, [key for key in LAST_KEYS if key in config])
    there, here = identity(stored), identity(config)
    compared = {*there, *here}
    if "contents" not in stored:  # of an older version, which did not look
        compared -= {key for key in here if key.startswith(CONTENT)}
    different = [key for key in sorted(compared) if there.get(key) != here.get(key)]
    if set(different) <= set(mendable):
        return bool(different) or broken
    shown = ", ".join(_difference(key, there, here, folder) for key in different[:3])
    raise FolderRefused(
        f"{folder} belongs to another configuration ({shown}{', ...' if len(different) > 3 else ''}); "
        "set name=OTHER or remove the folder"
    )
