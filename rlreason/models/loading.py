"""Checkpoints in and out: Hugging Face folders with safetensors weights and a tokeniser, never remote code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlreason.config import ModelConfig


def bfloat16_is_fast() -> bool:
    """Whether this machine multiplies bfloat16 in hardware (CUDA since Ampere, CPUs with AVX-512 BF16 or AMX)."""
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def load_tokenizer(folder: Path) -> Any:
    """The tokeniser of a checkpoint folder, with a padding token."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_for_training(folder: Path, config: ModelConfig) -> Any:
    """The language model of a checkpoint folder, its weights in float32 unless only LoRA adapters are trained."""
    import torch
    from transformers import AutoModelForCausalLM

    dtype = torch.float32 if config.lora_rank == 0 or not bfloat16_is_fast() else torch.bfloat16
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True, trust_remote_code=False)


def load_for_generation(folder: Path, config: ModelConfig) -> Any:
    """The language model of a checkpoint folder in the precision that the engine asks for."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=config.dtype, use_safetensors=True, trust_remote_code=False
    )


def save_checkpoint(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write weights (safetensors, LoRA merged) and tokeniser to `folder`."""
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def free_memory() -> None:
    """Give the memory of models that nothing refers to any more back to the GPU."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
