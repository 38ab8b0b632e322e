"""Published peaks of NVIDIA's GPUs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GPUKind:
    """Published peaks of a GPU: dense bfloat16 (float16) operations per second, bytes per second, GiB of memory."""

    name: str
    operations: float
    bandwidth: float
    memory: float


# From NVIDIA's data sheets; dense, which is half of the figure where a sheet states the one with sparsity alone.
GPUS = {
    "h200": GPUKind("H200 SXM", 989.5e12, 4.8e12, 141),
    "h100pcie": GPUKind("H100 PCIe", 756.5e12, 2.0e12, 80),
    "h100": GPUKind("H100 SXM", 989.5e12, 3.35e12, 80),
    "a100sxm440gb": GPUKind("A100 40GB SXM", 312e12, 1.555e12, 40),
    "a100": GPUKind("A100 80GB SXM", 312e12, 2.039e12, 80),
    "l40s": GPUKind("L40S", 362e12, 0.864e12, 48),
    "a10g": GPUKind("A10G", 70e12, 0.6e12, 24),
    "4090": GPUKind("RTX 4090", 165e12, 1.008e12, 24),
}


def gpu_kind(name: str) -> GPUKind | None:
    """The published peaks of a GPU by any of its names; None for one that the table lacks."""
    plain = name.lower().replace(" ", "").replace("-", "")
    return next((kind for key, kind in GPUS.items() if key in plain), None)
