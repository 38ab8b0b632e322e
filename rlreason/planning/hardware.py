"""The machine that a plan is for: as stated, or this one, read without importing torch."""

from __future__ import annotations

import math
import os
import platform
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rlreason.config.experiment import ExperimentConfig
from rlreason.distributed import devices
from rlreason.distributed.shares import cores
from rlreason.planning.gpus import gpu_kind

GIB = 2**30
NODES = Path("/sys/devices/system/node")
GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
SLURM = "Slurm granted"
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
        gpu_used: Bytes that other programs hold of the fullest GPU; 0 in plans.
    """

    gpus: int
    gpu_memory: float | None
    gpu_name: str
    memory: float | None
    cores: int
    fast_bfloat16: bool
    gpu_used: float = 0.0

    @property
    def gpu_room(self) -> float | None:
        """Bytes of each GPU that are left; None where they are not known."""
        return None if self.gpu_memory is None else self.gpu_memory - self.gpu_used

    def words(self) -> str:
        """The hardware, to be read after "for"."""
        if self.gpus:
            kind = f" ({self.gpu_name})" if self.gpu_name else ""
            size = f"{self.gpu_memory / GIB:.0f} GiB" if self.gpu_memory else "unknown memory"
            used = f", of which other programs hold {self.gpu_used / GIB:.0f}" if self.gpu_used >= GIB else ""
            return f"{self.gpus} GPU{'s' if self.gpus > 1 else ''} of {size}{kind}{used}"
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
    found = devices.visible()
    count, memory = len(cores()) or os.cpu_count() or 1, main_memory()
    if not found:
        return Hardware(0, 0.0, "", min(memory, node_memory(cores())), count, _cpu_has_bfloat16())
    known = [device.memory for device in found if device.memory is not None]
    smallest = min(known) if len(known) == len(found) else None
    fast = all(_fast(device.kind) for device in found)
    return Hardware(devices.trainable(found), smallest, found[0].kind, memory, count, fast)


def used_now(numbers: Collection[int]) -> float:
    """Bytes that are in use on the fullest of the GPUs with these numbers, as far as that is known.

    Before a run has put anything there, they are those of other programs.
    """
    used = devices.in_use()
    names = {device.uuid for number, device in enumerate(devices.visible()) if number in numbers}
    return max((amount for name, amount in used.items() if name in names), default=0.0)


def main_memory() -> float:
    """RAM that this process may use, in bytes: what Slurm or a container grants where that is less than the machine."""
    return min(memory_bounds().values())


def memory_bounds() -> dict[str, float]:
    """Bytes of RAM that this process may use, by what says so, in the words of a message."""
    import psutil

    return {
        SLURM: slurm_memory(os.environ),
        "the control group (cgroup) of this process allows": group_memory(),
        "this machine has": float(psutil.virtual_memory().total),
    }


def group_memory(own: Path = OWN_GROUPS, mounted: Path = GROUPS) -> float:
    """Bytes that the control groups of this process allow: the tightest of its own and those around it.

    Args:
        own: The kernel's list of them.
        mounted: Where they are mounted. In a container the list may name folders that are not there; those that are
            count.

    Returns:
        Infinity where nothing is limited.
    """
    limits = []
    for limit in dict.fromkeys(_limits(own, mounted)):
        try:
            text = limit.read_text(encoding="ascii").strip()
        except OSError:
            continue
        limits += [float(text)] if text.isdigit() else []
    return min(limits, default=math.inf)


def slurm_memory(environment: Mapping[str, str]) -> float:
    """Bytes that Slurm granted to a job on this machine; infinity outside of one, or where it granted all.

    Args:
        environment: Of a process of the job: memory in MiB for a node, a core or a GPU, whichever was asked for.
    """

    def number(name: str) -> float:
        text = environment.get(name, "")
        return float(text) if text.isdigit() else 0.0

    granted = (
        number("SLURM_MEM_PER_NODE"),
        number("SLURM_MEM_PER_CPU") * number("SLURM_CPUS_ON_NODE"),
        number("SLURM_MEM_PER_GPU") * number("SLURM_GPUS_ON_NODE"),
    )
    return min((one * devices.MIB for one in granted if one), default=math.inf)


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


def _limits(own: Path, mounted: Path) -> Iterator[Path]:
    """The files that may limit the memory of this process, of both versions of control groups."""
    yield mounted / "memory.max"  # of the whole container
    yield mounted / "memory" / "memory.limit_in_bytes"
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, name = (mounted / "memory", "memory.limit_in_bytes") if controllers else (mounted, "memory.max")
        parts = [part for part in path.split("/") if part not in ("", "..")]
        yield from (root.joinpath(*parts[:depth], name) for depth in range(len(parts), 0, -1))


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
