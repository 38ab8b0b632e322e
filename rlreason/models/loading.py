"""Checkpoints in and out: Hugging Face folders with safetensors weights and a tokeniser, never remote code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from rlreason.config.sections import ModelConfig, ShardingConfig
from rlreason.distributed import ranks
from rlreason.errors import UserError
from rlreason.models.architecture import configuration
from rlreason.models.probe import Probe, probe
from rlreason.models.tokens import described, end_ids, is_embedded, proposals
from rlreason.models.unread import unread_model
from rlreason.run.checkpoints import refuse_broken
from rlreason.run.files import put_in_place

ADAPTER = "adapter"  # folder of the LoRA adapters inside a checkpoint, whose own weights have them merged


def bfloat16_is_fast() -> bool:
    """Whether this machine multiplies bfloat16 in hardware (CUDA since Ampere, CPUs with AVX-512 BF16 or AMX)."""
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def trains_on_gpu() -> bool:
    """Whether the models of this process compute on a GPU."""
    import torch

    return bool(torch.cuda.is_available())


def check_precision(dtype: str) -> None:
    """Refuse bfloat16 weights in the engine on a GPU that has no arithmetic for them (training then uses float32).

    Raises:
        UserError: It has not.
    """
    if dtype != "bfloat16":
        return
    import torch

    if torch.cuda.is_available() and not bfloat16_is_fast():
        major, minor = torch.cuda.get_device_capability()
        raise UserError(
            f"model.dtype=bfloat16 needs a GPU of compute capability 8.0, and {torch.cuda.get_device_name()} has "
            f"{major}.{minor}; use model.dtype=float16 or float32"
        )


def load_tokenizer(folder: Path) -> Any:
    """The tokeniser of a checkpoint folder, with an end-of-text and a padding token that the model has embeddings for.

    Raises:
        UserError: Nothing names a token that ends a text.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    tokenizer.clean_up_tokenization_spaces = False  # it takes spaces away that a model has written
    settings, ends = described(folder), end_ids(folder, tokenizer)
    if not ends:
        raise UserError(
            f"the model in {folder} has no end-of-text token, so its texts would never end: generation_config.json, "
            "config.json and the tokeniser name none that it has an embedding for; put eos_token_id into "
            "generation_config.json"
        )
    if not is_embedded(tokenizer.eos_token_id, settings):
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ends[0])
    if not is_embedded(tokenizer.pad_token_id, settings):
        tokenizer.pad_token = tokenizer.eos_token  # padding is never read
    return tokenizer


def load_model(folder: Path, dtype: Any, device: int | None = None) -> Any:
    """The language model of a checkpoint folder in a precision, which is "auto" for that of its files.

    Casting it afterwards would also round what is not stored, such as rotary angles. With the number of
    a GPU as `device` it is brought there weight by weight; without, it is in main memory, where weights in the
    precision of their file stay in the file.
    """
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        folder,
        config=configuration(folder),
        generation_config=_makers_proposals(folder),
        dtype=dtype,
        device_map=device,
        use_safetensors=True,
        trust_remote_code=False,
    )


def _makers_proposals(folder: Path) -> Any:
    """What a model's maker proposes for sampling, mended where transformers would refuse to read or to write it.

    A temperature or the like means that sampling was meant, though many files do not say so. What cannot be mended so
    is left out but for the tokens.
    """
    from transformers import GenerationConfig

    values = dict(proposals(folder))
    if not is_embedded(values.get("pad_token_id"), described(folder)):
        values.pop("pad_token_id", None)
    tokens = {name: value for name, value in values.items() if name.endswith("_token_id") and "forced" not in name}
    for attempt in (values, {**values, "do_sample": True}):
        try:
            mended = GenerationConfig(**attempt)
            mended.validate(strict=True)
        except (ValueError, TypeError):
            continue
        return mended
    return GenerationConfig(**tokens)


def load_for_training(folder: Path, config: ModelConfig, sharding: ShardingConfig) -> Any:
    """The language model of a checkpoint folder, its weights in float32 unless only LoRA adapters are trained."""
    precision = "float32" if config.lora_rank == 0 or not bfloat16_is_fast() else "bfloat16"
    return load_beside_training(folder, precision, sharding)


def load_beside_training(folder: Path, dtype: str, sharding: ShardingConfig) -> Any:
    """The language model of a checkpoint folder where a Trainer has it, in a precision as for `load_model`.

    Main memory holds no copy of it: it is read onto the GPU, or, where it is to be split over processes, once it is
    split, see `unread_model`.
    """
    import torch

    if sharding.name == "none":
        return load_model(folder, dtype, torch.cuda.current_device() if trains_on_gpu() else None)
    model = unread_model(folder, dtype, partial(load_model, folder, "auto"))
    model.generation_config = _makers_proposals(folder)
    return model


def save_checkpoint(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write weights (safetensors, LoRA merged), tokeniser, and what the model thinks of the probe to `folder`.

    LoRA adapters are kept in `folder`/adapter as well. Of several processes, which all have to call it, rank 0 writes.
    """
    from rlreason.models.sharding import whole

    scored = probe(model, tokenizer)  # of the model as it is trained: a copy made whole can be saved, not asked
    plain = whole(model)
    if plain is not None:
        _write(plain, tokenizer, scored, folder)


def _write(model: Any, tokenizer: Any, scored: Probe, folder: Path, dtype: str = "auto") -> None:
    if hasattr(model, "merge_and_unload"):
        model.save_pretrained(folder / ADAPTER, save_embedding_layers=False)
        (folder / ADAPTER / "README.md").unlink(missing_ok=True)  # a card that PEFT makes up
        model = model.merge_and_unload()
    model.save_pretrained(folder, state_dict=None if dtype == "auto" else _rounded(model, dtype))
    tokenizer.save_pretrained(folder)
    scored.save(folder)


def _rounded(model: Any, dtype: str) -> dict[str, Any]:
    """The weights of a model in main memory, in a precision that is no wider than theirs; what is tied stays tied."""
    import torch

    wanted = getattr(torch, dtype)
    rounded: dict[tuple[int, Any], Any] = {}
    weights = model.state_dict()
    for value in weights.values():
        narrower = value.is_floating_point() and wanted.itemsize < value.dtype.itemsize
        rounded.setdefault((value.data_ptr(), value.shape), value.to(wanted if narrower else value.dtype).cpu())
    return {name: rounded[value.data_ptr(), value.shape] for name, value in weights.items()}


def save_for_engine(model: Any, tokenizer: Any, folder: Path, below: Path | None, dtype: str) -> None:
    """Like `save_snapshot`, but where the engine has the weights below the adapters of a model, these alone.

    What is written is read by the engine at once, and of no use afterwards, so that nobody waits for the disk. `below`
    is the checkpoint that the adapters were put on; None: save all weights, in the engine's precision `dtype`, to which
    it would round them itself; "auto": in their own. Of several processes, which all have to call it, rank 0 writes.
    """
    if below is None or not hasattr(model, "peft_config"):
        partial = _partial_snapshot(model, tokenizer, folder, dtype)
        if partial is not None:
            partial.rename(folder)
        return
    from rlreason.models.sharding import full_weights

    scored = probe(model, tokenizer)
    weights = full_weights(model, trained_only=True)
    if ranks.rank() > 0:
        return
    adapter = model.active_adapter
    model.peft_config[adapter].base_model_name_or_path = str(below.resolve())
    model.save_pretrained(folder, selected_adapters=[adapter], save_embedding_layers=False, state_dict=weights)
    scored.save(folder)


def base_of(checkpoint: Path) -> Path:
    """The checkpoint that holds the weights: the one under the adapters of `checkpoint`, or itself if it is whole."""
    path = checkpoint / "adapter_config.json"
    return Path(json.loads(path.read_text())["base_model_name_or_path"]) if path.exists() else checkpoint


def save_snapshot(model: Any, tokenizer: Any, folder: Path) -> None:
    """Like `save_checkpoint` for a model that goes on training, whole or not at all."""
    partial = _partial_snapshot(model, tokenizer, folder)
    if partial is not None:
        put_in_place(partial, folder)


def _partial_snapshot(model: Any, tokenizer: Any, folder: Path, dtype: str = "auto") -> Path | None:
    """Write a snapshot beside `folder`, whose place is free then; None in the processes that do not write."""
    import copy

    from rlreason.models.sharding import whole

    scored = probe(model, tokenizer)
    plain = whole(model)
    if plain is None:
        return None
    merges = plain is model and hasattr(model, "merge_and_unload")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    _write(copy.deepcopy(plain) if merges else plain, tokenizer, scored, partial, dtype)
    shutil.rmtree(folder, ignore_errors=True)
    return partial


def add_tokens(checkpoint: Path, tokens: Sequence[str], folder: Path) -> Path:
    """A copy of a checkpoint with `tokens` added to its vocabulary, their embeddings drawn as those of the others are.

    Drawn from a normal distribution with the mean and the standard deviation of the old rows, dimension by dimension;
    tokens that begin alike (at the mean) are not told apart after a short training (docs/log.md). A `folder` that is
    already there is returned as it is.

    Raises:
        UserError: The tokeniser does not keep one of the tokens whole.
    """
    if folder.exists():
        try:
            refuse_broken(folder)
            return folder
        except (OSError, ValueError):
            shutil.rmtree(folder)
    import torch

    tokenizer = load_tokenizer(checkpoint)
    old = len(tokenizer)
    tokenizer.add_tokens(list(tokens))
    new = []
    for token in tokens:
        ids = tokenizer(token, add_special_tokens=False)["input_ids"]
        if len(ids) != 1 or tokenizer.decode(ids) != token:
            raise UserError(
                f"the tokeniser splits {token!r} into {len(ids)} tokens even when it is added; change the tag"
            )
        new += ids
    model = load_model(checkpoint, "auto")
    there = model.get_input_embeddings().weight.shape[0]  # of which some makers keep a reserve
    model.resize_token_embeddings(max(there, *(token + 1 for token in new)), mean_resizing=False)
    for layer in {id(layer): layer for layer in (model.get_input_embeddings(), model.get_output_embeddings())}.values():
        rows = layer.weight.data[: min(old, there)].float()
        noise = torch.randn(len(tokens), rows.shape[1], generator=torch.Generator().manual_seed(0))
        layer.weight.data[new] = (rows.mean(0) + rows.std(0) * noise).to(layer.weight.dtype)
    partial = folder.with_name(f".{folder.name}.partial")
    save_checkpoint(model, tokenizer, partial)
    put_in_place(partial, folder)
    return folder


def fingerprint(tokenizer: Any) -> str:
    """A hash of the vocabulary; equal for tokenisers that give every token the same id."""
    import hashlib

    vocabulary = sorted(tokenizer.get_vocab().items())
    return hashlib.sha256(repr(vocabulary).encode()).hexdigest()[:16]


def free_memory_everywhere() -> None:
    """`free_memory` in every process, which all have to call it, before an engine wakes on the GPUs of any of them.

    The engines of several processes lie in processes of their own, which cannot empty the allocators of these. Without
    a GPU there is nothing to give back that would be worth a third of a second.
    """
    if trains_on_gpu():
        free_memory()
    ranks.wait()


@contextmanager
def on_gpu(model: Any) -> Iterator[Any]:
    """A model of main memory on the GPU for the block; its weights stay in main memory too, so none is copied back."""
    kept = [(weights, weights.data) for weights in model.parameters()]
    try:
        yield model.to("cuda")
    finally:
        for weights, data in kept:
            weights.data = data


def free_memory() -> None:
    """Give the memory of models that nothing refers to any more back to the GPU."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
