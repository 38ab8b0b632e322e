"""Whether a checkpoint is what it says: a causal language model, with the weights that its configuration describes.

transformers gives a weight that it does not find random numbers and a warning, and an engine fails on it in the middle
of its start, so both are looked at before any work.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlreason.errors import UserError

# Where the configuration of a multimodal checkpoint keeps those of its parts.
PARTS = ("text_config", "vision_config", "audio_config", "llm_config", "language_config", "thinker_config")


def check_language_model(values: Mapping[str, Any], name: str) -> None:
    """Refuse the `config.json` of a checkpoint that the user calls `name` unless it is a causal language model's.

    Raises:
        UserError: It is of another kind, or needs code of its own.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if nested := [part for part in PARTS if part in values]:
        raise UserError(
            f"model.path={name} is a multimodal checkpoint, whose language model is one part of it ({nested[0]}); "
            "these are not supported: choose a model of text alone (such as google/gemma-3-1b-it in the place of a "
            "larger Gemma 3), or save its language model as a checkpoint of its own"
        )
    language_model = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(values["model_type"])
    if "auto_map" in values and language_model is None:
        raise UserError(
            f"model.path={name} needs Python code of its own (auto_map), which is never run here; "
            "choose a model that transformers itself supports"
        )
    own = values.get("architectures") or [language_model or values["model_type"]]
    if language_model not in own:
        wanted = language_model or "for instance a LlamaForCausalLM"
        raise UserError(
            f"model.path={name} holds a {own[0]}, not a language model that writes text from left to right; "
            f"choose one that does ({wanted})"
        )


def configuration(folder: Path) -> Any:
    """The configuration of a checkpoint for transformers, without padding that lies outside its embeddings."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    padding = getattr(config, "pad_token_id", None)
    if padding is not None and not 0 <= padding < config.vocab_size:
        config.pad_token_id = None
    return config


def check_weights(folder: Path) -> None:
    """Refuse weights that are not those of the configuration beside them.

    Only names and shapes are read. Single names may differ, as transformers renames some when it loads; a shape may
    not, unless the weights are quantised.

    Raises:
        UserError: No weight has a name that the configuration asks for, or one has another shape, or a file is broken.
    """
    import torch
    from transformers import AutoModelForCausalLM

    config = configuration(folder)
    if getattr(config, "quantization_config", None) is not None:
        return
    with torch.device("meta"):
        described = AutoModelForCausalLM.from_config(config).state_dict()
    found = shapes(folder)
    known = found.keys() & described.keys()
    if not known:
        raise UserError(
            f"the weights in {folder} are not those of a {config.architectures[0]}, as config.json says: "
            f"{min(found, default='none')} is among them, {min(described)} is not; put the files of one model together"
        )
    for name in sorted(known):
        if found[name] != tuple(described[name].shape):
            raise UserError(
                f"the weights in {folder} are not those that config.json describes: {name} has the shape "
                f"{found[name]} instead of {tuple(described[name].shape)}; put the files of one model together"
            )


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor in the safetensors files of a checkpoint, by name.

    Raises:
        UserError: A file cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    found: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("model*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                found |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise UserError(f"{path} is broken ({error}); copy or download the model again") from error
    return found
