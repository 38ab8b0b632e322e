"""The NVIDIA GPUs of this machine, and which of them this process may use, read without importing torch here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rlreason.errors import in_one_line

MIB = 2**20
DEVICES = Path("/dev")  # where a driver shows its GPUs, in a container too
SHOWN, SHOWN_BY_WINDOWS = "nvidia[0-9]*", "dxg"  # the latter is any maker's GPU
SECONDS = 30  # for nvidia-smi, which wakes sleeping GPUs
# What a process says of the GPUs that CUDA gives it, where there is no nvidia-smi. Another process than this one, since
# CUDA reads CUDA_VISIBLE_DEVICES only once in the life of a process.
ASKING_TORCH = """
import json, torch
found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
print(json.dumps([(one.name, one.total_memory) for one in found]))
"""


@dataclass(frozen=True, slots=True)
class Listed:
    """A GPU as nvidia-smi lists it.

    Args:
        index: Its number.
        uuid: Its name in the world.
        kind: What it is sold as.
        memory: Bytes; None where they are those of the processor.
        driver: Version of the driver.
        split: Whether it is split into MIG slices.
    """

    index: str
    uuid: str
    kind: str
    memory: float | None
    driver: str
    split: bool


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU, or a MIG slice of one, that this process may use.

    Args:
        name: As CUDA_VISIBLE_DEVICES takes it.
        kind: What it is sold as; "MIG" for a slice.
        memory: Bytes; None where they are not known.
        uuid: Its name in the world; None where it is not known.
        slice: Whether it is a slice.
    """

    name: str
    kind: str
    memory: float | None
    uuid: str | None
    slice: bool


def listed() -> list[Listed]:
    """The GPUs that nvidia-smi lists, hidden ones included; none where it is missing or fails."""
    fields = "index,uuid,name,memory.total,driver_version,mig.mode.current"
    found = []
    for line in _known(_path(), f"--query-gpu={fields}", "--format=csv,noheader,nounits"):
        index, uuid, kind, memory, driver, split = (part.strip() for part in line.split(","))
        found.append(Listed(index, uuid, kind, _bytes(memory), driver, split == "Enabled"))
    return found


def in_use() -> dict[str, float]:
    """Bytes that are in use at this moment, by whomever, by the uuid of the GPU; without those that do not say."""
    lines = _nvidia_smi("--query-gpu=uuid,memory.used", "--format=csv,noheader,nounits")
    used = {uuid: _bytes(amount.strip()) for uuid, amount in (line.split(",") for line in lines)}
    return {uuid: amount for uuid, amount in used.items() if amount is not None}


def capabilities() -> dict[str, tuple[int, int]]:
    """The compute capability of every kind of GPU that nvidia-smi lists, as far as it says so."""
    lines = _known(_path(), "--query-gpu=name,compute_cap", "--format=csv,noheader")
    parts = (re.fullmatch(r"(.+), (\d+)\.(\d+)", line.strip()) for line in lines)
    return {part[1]: (int(part[2]), int(part[3])) for part in parts if part}


def visible() -> list[Device]:
    """The GPUs that this process may use, in the order in which CUDA numbers them.

    Of a GPU that is split every slice is one, although CUDA gives a process no more than one slice.
    """
    text = os.environ.get("CUDA_VISIBLE_DEVICES")
    wanted = None if text is None else [name.strip() for name in text.split(",")]
    gpus = listed()
    if not gpus:
        shown = any(DEVICES.glob(SHOWN)) or any(DEVICES.glob(SHOWN_BY_WINDOWS))
        return _asked_of_torch(text) if shown else []
    if wanted is not None:
        return list(_chosen(gpus, wanted))
    slices = _slices() if any(gpu.split for gpu in gpus) else {}
    return [device for gpu in gpus for device in slices.get(gpu.uuid, [_whole(gpu, gpu.index)])]


def trainable(found: Sequence[Device]) -> int:
    """How many of these devices processes that train together may use: of slices CUDA gives them no more than one."""
    return sum(not device.slice for device in found) or min(len(found), 1)


def in_words(kinds: Sequence[str]) -> str:
    """GPUs by number and kind, such as "8 x NVIDIA H100"."""
    return ", ".join(f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds))


def _chosen(gpus: Sequence[Listed], wanted: Sequence[str]) -> Iterator[Device]:
    """The devices that CUDA_VISIBLE_DEVICES names; as in CUDA, the first name of nothing ends the list."""
    for name in wanted:
        if name.startswith("MIG-"):
            yield _slice(name)
            continue
        named = [gpu for gpu in gpus if name == gpu.index or (name.startswith("GPU-") and gpu.uuid.startswith(name))]
        if not named:
            return
        yield _slice(name) if named[0].split else _whole(named[0], name)


def _whole(gpu: Listed, name: str) -> Device:
    return Device(name, gpu.kind, gpu.memory, gpu.uuid, slice=False)


def _slice(name: str) -> Device:
    return Device(name, "MIG", None, None, slice=True)


def _slices() -> dict[str, list[Device]]:
    """The slices of every GPU that has some, by its uuid."""
    found: dict[str, list[Device]] = {}
    gpu = ""
    for line in _known(_path(), "-L"):
        name = re.search(r"\(UUID: ([^)]+)\)", line)
        if name is None:
            continue
        if name[1].startswith("MIG-"):
            found.setdefault(gpu, []).append(_slice(name[1]))
        else:
            gpu = name[1]
    return found


def unusable() -> str | None:
    """Why there are no GPUs although a driver shows some, in words; None where it shows none or they are hidden."""
    shown = sorted(DEVICES.glob(SHOWN))
    if not shown or "CUDA_VISIBLE_DEVICES" in os.environ or visible():
        return None
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        says = f"cannot be run ({in_one_line(error, 100)})"
    else:
        says = f"says: {in_one_line(done.stdout + done.stderr, 200)}"
    return f"{shown[0]} is there, but torch finds no GPU, and nvidia-smi {says}"


def _path() -> str:
    """Where nvidia-smi is looked for."""
    return os.environ.get("PATH", "")


@cache
def _known(path: str, *arguments: str) -> list[str]:
    """The lines of nvidia-smi about what does not change; it can take seconds, and a run asks many times."""
    del path
    return _nvidia_smi(*arguments)


def _nvidia_smi(*arguments: str) -> list[str]:
    """The lines that it prints; none where it is missing or fails."""
    try:
        done = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, check=True, timeout=SECONDS)
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.splitlines()


@cache
def _asked_of_torch(visible_devices: str | None) -> list[Device]:
    """The devices of a process with this CUDA_VISIBLE_DEVICES, which takes seconds to find out."""
    done = subprocess.run([sys.executable, "-c", ASKING_TORCH], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return []
    found = json.loads(done.stdout.splitlines()[-1])
    names = [str(number) for number in range(len(found))] if visible_devices is None else visible_devices.split(",")
    return [
        Device(name.strip(), kind, memory, None, slice=name.strip().startswith("MIG-"))
        for name, (kind, memory) in zip(names, found, strict=False)
    ]


def _bytes(mebibytes: str) -> float | None:
    """Bytes of a figure; None for "[N/A]", which stands where the memory is the processor's."""
    return float(mebibytes) * MIB if mebibytes.isdigit() else None
