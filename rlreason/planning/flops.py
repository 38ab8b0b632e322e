"""Model FLOPs utilisation (MFU): the arithmetic that training needs, over what the devices could do at best.

After Chowdhery et al. 2022 (PaLM, arXiv 2204.02311, appendix B): recomputed activations do not count as needed.
"""

from __future__ import annotations

from typing import Any

from rlreason.planning.gpus import gpu_kind


def training_flops_per_token(parameters: int, layers: int, width: int, length: int, lora: bool) -> float:
    """FLOPs of the forward and the backward pass over one token.

    A weight takes 2 in the forward pass, 2 for the gradient of its input and 2 for its own, which frozen weights under
    LoRA do without (the adapters are left out). Attention takes 12 per layer, unit of width and token of the sequence,
    under LoRA too: both of its factors are activations.

    Args:
        parameters: The model's parameters, embeddings included.
        layers: Decoder layers.
        width: Heads x size of a head.
        length: Tokens of a sequence.
        lora: Whether only adapters are trained.
    """
    return (4 if lora else 6) * parameters + 12 * layers * width * length


def peak(device: str) -> tuple[float, str] | None:
    """Dense bfloat16 FLOP/s of a GPU and the source of the figure; None for one that the table lacks."""
    kind = gpu_kind(device)
    return None if kind is None else (kind.operations, f"NVIDIA data sheet, {kind.name}, dense bfloat16")


def utilisation(tokens_per_second: float, flops_per_token: float, devices: list[str]) -> dict[str, Any]:
    """MFU and what it was reckoned from.

    Args:
        tokens_per_second: Over all devices together.
        flops_per_token: See `training_flops_per_token`.
        devices: Name of each GPU that trains; empty on a CPU.

    Returns:
        `mfu` (None where a peak is unknown), `flops_per_token` and `peak` with its source.
    """
    known = [peak(device) for device in devices]
    total = sum(item[0] for item in known if item is not None)
    complete = bool(known) and None not in known
    return {
        "mfu": tokens_per_second * flops_per_token / total if complete else None,
        "flops_per_token": flops_per_token,
        "peak": known[0][1] if complete and known[0] else None,
    }
