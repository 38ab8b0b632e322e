"""From a checkpoint to a Hugging Face folder for others: merged weights or a LoRA adapter, proven by reloading it.

Everything happens on the CPU: it needs no free GPU, and the same weights give the same numbers.
"""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from rlreason.errors import UserError
from rlreason.models.architecture import shapes
from rlreason.models.loading import ADAPTER, load_model
from rlreason.models.return_condition import FILE as RETURN_CONDITION

BYTES = {"float32": 4, "bfloat16": 2}
# Logits may differ by this share of the largest: what summing in another order can do, far below any real mistake.
ROUNDING = {"torch.float32": 1e-5, "torch.float16": 1e-3, "torch.bfloat16": 8e-3}
LONGEST_TEXT = 512  # tokens of a text on which logits are compared


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the logits of a written folder are from those of the checkpoint that it was made from."""

    texts: int  # how many were compared, at every token
    dtype: str  # precision of the written weights
    difference: float  # largest absolute difference from the checkpoint, held in that precision
    from_checkpoint: float  # from the checkpoint as it is; above `difference` where the precision was lowered
    allowed: float  # the largest `difference` that rounding explains


def weight_bytes(checkpoint: Path, precision: str) -> int:
    """Size of the exported weights of a checkpoint in bytes, in a precision ("auto", "float32" or "bfloat16")."""
    if precision == "auto":
        return sum(file.stat().st_size for file in checkpoint.glob("*.safetensors"))
    return BYTES[precision] * sum(map(prod, shapes(checkpoint).values()))


def write_merged(checkpoint: Path, folder: Path, precision: str, texts: Sequence[Sequence[int]]) -> Agreement:
    """Write a checkpoint as a folder that `AutoModelForCausalLM` and `AutoTokenizer` load, and load it.

    Args:
        checkpoint: Folder of a checkpoint, LoRA merged.
        folder: New folder.
        precision: "auto" (the checkpoint's), "float32" or "bfloat16".
        texts: Token ids of texts on which the logits are compared.

    Returns:
        How well the reloaded folder agrees with the checkpoint.
    """
    original = _logits(_loaded(checkpoint), texts)
    model = _loaded(checkpoint, precision)
    cast = _logits(model, texts)
    model.save_pretrained(folder)
    del model
    _write_tokenizer(checkpoint, folder)
    reloaded = _loaded(folder)
    return _agreement(_logits(reloaded, texts), cast, original, str(reloaded.dtype))


def write_adapter(
    checkpoint: Path, base: Path, name: str, revision: str | None, folder: Path, texts: Sequence[Sequence[int]]
) -> Agreement:
    """Write the LoRA adapter of a checkpoint as a folder that PEFT and vLLM load, and load it onto the base.

    Args:
        checkpoint: Folder of a checkpoint that has its adapter beside it.
        base: Folder of the model that the adapter was trained on.
        name: What others call that model.
        revision: Its commit on the Hub; None for a model from elsewhere.
        folder: New folder.
        texts: Token ids of texts on which the logits are compared.

    Returns:
        How well the base with the reloaded adapter agrees with the checkpoint.

    Raises:
        UserError: The checkpoint has no adapter, or one for other weights than those of `base`.
    """
    from peft import PeftModel

    file = checkpoint / ADAPTER / "adapter_config.json"
    if not file.is_file():
        raise UserError(
            f"{checkpoint} has no adapter: adapters are kept by training with model.lora_rank above 0; "
            "leave task.adapter out to export the whole model"
        )
    settings: dict[str, Any] = json.loads(file.read_text())
    start = Path(settings["base_model_name_or_path"])
    # A folder of the same name elsewhere is the base as well: caches and installations move.
    if start.resolve() != base.resolve() and (start.exists() or start.name != base.name):
        raise UserError(
            f"the adapter of {checkpoint.name} was trained on another checkpoint of the run ({start.name}), not on "
            f"{name}, and is of no use without it; leave task.adapter out to export the merged weights"
        )
    merged = _loaded(checkpoint)
    original, dtype = _logits(merged, texts), merged.dtype
    del merged
    shutil.copytree(checkpoint / ADAPTER, folder)
    settings |= {"base_model_name_or_path": name, "revision": revision}
    (folder / "adapter_config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    _write_tokenizer(checkpoint, folder)
    model = PeftModel.from_pretrained(_loaded(base, dtype), folder).merge_and_unload()
    return _agreement(_logits(model, texts), original, original, str(dtype))


def _loaded(folder: Path, dtype: Any = "auto") -> Any:
    gc.collect()  # what was deleted before it would take as much memory again
    return load_model(folder, dtype).eval()


def _logits(model: Any, texts: Sequence[Sequence[int]]) -> list[Any]:
    """Logits of every next token; for each text a float32 tensor of shape `(tokens, vocabulary)`."""
    import torch

    with torch.no_grad():
        return [model(torch.tensor([list(text[:LONGEST_TEXT])])).logits[0].float() for text in texts]


def _write_tokenizer(checkpoint: Path, folder: Path) -> None:
    """The tokeniser with its chat template, and how a return-conditioned policy is to be asked."""
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False).save_pretrained(folder)
    if (checkpoint / RETURN_CONDITION).exists():
        shutil.copy(checkpoint / RETURN_CONDITION, folder)


def _agreement(written: list[Any], expected: list[Any], original: list[Any], dtype: str) -> Agreement:
    largest = max(float(values.abs().max()) for values in expected)
    return Agreement(
        len(expected),
        dtype.removeprefix("torch."),
        _largest_difference(written, expected),
        _largest_difference(written, original),
        ROUNDING.get(dtype, 0.0) * largest,
    )


def _largest_difference(ours: list[Any], theirs: list[Any]) -> float:
    """NaN anywhere gives NaN, which no limit allows."""
    import torch

    return float(torch.stack([(a - b).abs().max() for a, b in zip(ours, theirs, strict=True)]).max())
