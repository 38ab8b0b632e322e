"""The machine that a plan is for: as stated, or this one, read without importing torch."""

from __future__ import annotations

import math
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rlreason.config.experiment import ExperimentConfig
from rlreason.distributed.shares import cores
from rlreason.planning.gpus import gpu_kind

GIB = 2**30
NODES = Path("/sys/devices/system/node")
# Kinds before Ampere multiply float16 in hardware, not bfloat16.
WITHOUT_BFLOAT16 = ("V100", "T4", "P100", "P40", "P4", "K80", "RTX 20", "GTX", "TITAN", "Quadro RTX")


@dataclass(frozen=True, slots=True)
class Hardware:
    """GPUs, or a CPU alone.

    Args:
        gpus: GPUs on all nodes; 0: a CPU trains and samples.
        gpu_memory: Bytes of each; 0 without GPUs, None where it is not known.
        gpu_name: Their kind, as nvidia-smi or the user names it; "" where unknown.
        memory: Bytes of main memory that a process may use; None where the machine is not this one. Without a GPU they
            are those of one NUMA node, to which vLLM binds its process.
        cores: Cores of the CPU.
        fast_bfloat16: Whether bfloat16 is multiplied in hardware.
    """

    gpus: int
    gpu_memory: float | None
    gpu_name: str
    memory: float | None
    cores: int
    fast_bfloat16: bool

    def words(self) -> str:
        """The hardware, to be read after "for"."""
        if self.gpus:
            kind = f" ({self.gpu_name})" if self.gpu_name else ""
            size = f"{self.gpu_memory / GIB:.0f} GiB" if self.gpu_memory else "unknown memory"
            return f"{self.gpus} GPU{'s' if self.gpus > 1 else ''} of {size}{kind}"
        memory = f" and {self.memory / GIB:.0f} GiB of RAM" if self.memory else ""
        return f"no GPU{memory}, {self.cores} core{'s' if self.cores > 1 else ''}"


def hardware(config: ExperimentConfig) -> Hardware:
    """The hardware that the configuration states, and this machine's for what it does not."""
    here = this_machine()
    if config.gpus is None and config.gpu_memory is None and config.gpu_name is None:
        return here
    if config.gpus == 0:
        return replace(here, gpus=0, gpu_memory=0.0, gpu_name="", fast_bfloat16=here.fast_bfloat16 or here.gpus > 0)
    name = config.gpu_name or ("" if config.gpu_memory else here.gpu_name)
    kind = gpu_kind(name)
    memory = here.gpu_memory or None
    if config.gpu_memory is not None:
        memory = config.gpu_memory * GIB
    elif kind is not None and (config.gpu_name or memory is None):
        memory = kind.memory * GIB
    return Hardware(config.gpus or max(1, here.gpus), memory, name, None, here.cores, _fast(name))


def this_machine() -> Hardware:
    """The GPUs that this process may use, or its CPU."""
    found = _visible_gpus()
    count, memory = len(cores()) or os.cpu_count() or 1, main_memory()
    if not found:
        return Hardware(0, 0.0, "", min(memory, node_memory(cores())), count, _cpu_has_bfloat16())
    names, memories = zip(*found, strict=True)
    smallest = None if None in memories else min(memories)
    return Hardware(len(names), smallest, names[0], memory, count, all(map(_fast, names)))


def main_memory() -> float:
    """RAM that this process may use, in bytes: a container's limit where it has one."""
    import psutil

    total = int(psutil.virtual_memory().total)
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text(encoding="ascii").strip() if limit.is_file() else "max"
    return float(min(total, int(text)) if text.isdigit() else total)


def node_memory(cores: Sequence[int], nodes: Path = NODES) -> float:
    """Bytes of RAM of the NUMA node of the first of `cores`; without bound where the kernel names no nodes."""
    for node in sorted(nodes.glob("node[0-9]*")) if cores else ():
        try:
            listed = (node / "cpulist").read_text(encoding="ascii").strip()
            found = re.search(r"MemTotal: +(\d+) kB", (node / "meminfo").read_text(encoding="ascii"))
        except OSError:
            continue
        ranges = [part.split("-") for part in listed.split(",") if part]
        if found and any(int(ends[0]) <= cores[0] <= int(ends[-1]) for ends in ranges):
            return 1024.0 * int(found.group(1))
    return math.inf


def _visible_gpus() -> list[tuple[str, float | None]]:
    """Name of each GPU, and its memory in bytes where that is stated."""
    query = ["nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    wanted = None if visible is None else [name.strip() for name in visible.split(",") if name.strip()]
    found: list[tuple[str, float | None]] = []
    for line in listed.splitlines():
        index, identity, name, memory = (part.strip() for part in line.split(",", 3))
        if wanted is None or index in wanted or any(identity.startswith(name) for name in wanted):
            # "[N/A]" where the memory is the CPU's.
            found.append((name, float(memory) * 2**20 if memory.isdigit() else None))
    # A part of a GPU is not listed.
    return found + [("MIG", None) for name in wanted or () if name.startswith("MIG-")]


def _fast(name: str) -> bool:
    return not any(old in name for old in WITHOUT_BFLOAT16)


def _cpu_has_bfloat16() -> bool:
    """What `loading.bfloat16_is_fast` asks of torch, read from the processor's flags."""
    information = Path("/proc/cpuinfo")
    if platform.machine() not in ("x86_64", "AMD64") or not information.is_file():
        return False
    text = information.read_text(encoding="utf-8", errors="replace")
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return "avx512_bf16" in flags or "amx_tile" in flags
