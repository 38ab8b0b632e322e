"""Stand-ins for a machine with NVIDIA GPUs: nvidia-smi, what torch says of CUDA, control groups."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

NEWEST_DRIVER = "580.95.05"
ASKED = "index,uuid,name,memory.total,driver_version,mig.mode.current"  # by rlreason/distributed/devices.py


@dataclass(frozen=True)
class FakeGPU:
    """One of the fake machine; memory in MiB as nvidia-smi prints it, slices by their uuids."""

    kind: str = "NVIDIA H100 80GB HBM3"
    memory: str = "81559"
    used: str = "0"
    capability: str = "9.0"
    slices: tuple[str, ...] = ()


def nvidia_smi(monkeypatch, folder: Path, *gpus: FakeGPU, driver: str = NEWEST_DRIVER) -> None:
    """Put an nvidia-smi on PATH that lists these GPUs; without any, one that fails as it does without a driver."""
    rows = [
        f"{index}, GPU-{index}a, {gpu.kind}, {gpu.memory}, {driver}, {'Enabled' if gpu.slices else 'Disabled'}"
        for index, gpu in enumerate(gpus)
    ]
    listed = []
    for index, gpu in enumerate(gpus):
        listed.append(f"GPU {index}: {gpu.kind} (UUID: GPU-{index}a)")
        listed += [f"  MIG 1g.10gb Device {n}: (UUID: {uuid})" for n, uuid in enumerate(gpu.slices)]
    answers = {
        f"--query-gpu={ASKED}": rows,
        "--query-gpu=name,compute_cap": [f"{gpu.kind}, {gpu.capability}" for gpu in gpus],
        "--query-gpu=uuid,memory.used": [f"GPU-{index}a, {gpu.used}" for index, gpu in enumerate(gpus)],
        "--query-gpu=driver_version": [driver for _ in gpus],
        "-L": listed,
    }
    cases = "\n".join(
        f"{asked})\ncat <<'END'\n{chr(10).join(lines)}\nEND\nexit;;" for asked, lines in answers.items() if lines
    )
    failure = "echo NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.; exit 9"
    program = folder / "nvidia-smi"
    program.write_text(f'#!/bin/sh\ncase "$1" in\n{cases}\nesac\n{failure}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def torch_cuda(
    monkeypatch,
    devices: int,
    cuda: str | None = "13.0",
    warning: str = "",
    compiled: tuple[str, ...] = ("sm_75", "sm_90"),
) -> None:
    """Let torch say that it was built for a version of CUDA (None: without), and sees so many devices."""
    import torch

    def available() -> bool:
        if warning:
            warnings.warn(warning, UserWarning, stacklevel=2)
        return devices > 0

    monkeypatch.setattr(torch, "__version__", "2.13.0+cpu" if cuda is None else "2.13.0+cu130")
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", available)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(compiled))


def control_groups(folder: Path, own: str, limits: dict[str, str]) -> tuple[Path, Path]:
    """The kernel's list of the groups of a process, and a folder where groups are mounted with limits by their file."""
    (folder / "own").write_text(own)
    for name, limit in limits.items():
        file = folder / "mounted" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{limit}\n")
    return folder / "own", folder / "mounted"
