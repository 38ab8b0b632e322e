"""The shape of a language model, and how many parameters that makes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from rlreason.config.sections import ModelConfig
from rlreason.models import resolve

# Where nothing is known but a parameter count: Llama 2's width per layer and its blocks of 12 width^2 parameters.
WIDTH_PER_LAYER = 128
SQUARES_PER_BLOCK = 12


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A decoder as Llama is built: attention with a query, key, value and output map, a gated MLP, two norms a layer.

    Args:
        hidden_size: Width of the residual stream.
        layers: Blocks.
        heads: Attention heads.
        key_value_heads: Heads of keys and values, shared by several query heads where fewer.
        intermediate_size: Width of the MLP.
        vocabulary_size: Rows of the embedding.
        tied: Whether the output layer is the embedding.
        head_size: Width of a head; 0: hidden_size / heads.
        biased: Whether the query, key and value maps have biases, as in Qwen2.
        counted: Parameters counted in the weights themselves; None: by the arithmetic here.
        guessed: Whether only the parameter count is known, and the rest follows Llama 2's proportions.
    """

    hidden_size: int
    layers: int
    heads: int
    key_value_heads: int
    intermediate_size: int
    vocabulary_size: int
    tied: bool
    head_size: int = 0
    biased: bool = False
    counted: int | None = None
    guessed: bool = False

    @property
    def query_width(self) -> int:
        """Numbers in the queries of one token."""
        return self.heads * (self.head_size or self.hidden_size // self.heads)

    @property
    def key_width(self) -> int:
        """Numbers in the keys of one token; as many in its values."""
        return self.key_value_heads * (self.head_size or self.hidden_size // self.heads)

    @property
    def layer_maps(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of the linear maps of one layer."""
        hidden, inner = self.hidden_size, self.intermediate_size
        queries, keys = self.query_width, self.key_width
        attention = ((hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden))
        return (*attention, (hidden, inner), (hidden, inner), (inner, hidden))

    @property
    def layer_weights(self) -> int:
        """Parameters of the linear maps of one layer, without biases."""
        return sum(map(prod, self.layer_maps))

    @property
    def embedding(self) -> int:
        """Parameters of the embedding; as many in an output layer of its own."""
        return self.vocabulary_size * self.hidden_size

    @property
    def parameters(self) -> int:
        """All parameters, a tied matrix once."""
        if self.counted is not None:
            return self.counted
        biases = (self.query_width + 2 * self.key_width) * self.biased
        layer = self.layer_weights + biases + 2 * self.hidden_size
        return self.layers * layer + self.hidden_size + self.embedding * (1 if self.tied else 2)

    def adapters(self, rank: int) -> int:
        """Parameters of LoRA adapters of `rank` on all linear maps but the output layer, as peft's all-linear puts."""
        return rank * self.layers * sum(inputs + outputs for inputs, outputs in self.layer_maps)

    def cache_bytes(self, size: int) -> int:
        """Bytes of keys and values that one token of one sequence takes, at `size` bytes a number."""
        return 2 * self.layers * self.key_width * size


def engine_number_bytes(dtype: str) -> int:
    """Bytes of a number in the engine, of weights and of keys and values, with `model.dtype`."""
    return 4 if dtype == "float32" else 2


def sync_number_bytes(dtype: str) -> int:
    """Bytes of a weight on its way from the trainer to an engine with `model.dtype`."""
    return 4 if dtype == "auto" else engine_number_bytes(dtype)


def model_shape(config: ModelConfig) -> ModelShape | None:
    """The shape of a model, without reading weights or the network; None where nothing is known.

    A local folder's (or embedded model's) own `config.json` and weights are believed first, then `model.shape`, then
    `model.parameters`. Files that cannot be read say nothing here; a run refuses them when it reads them.
    """
    folder = local_folder(config)
    counted = _counted(sorted(folder.glob("model*.safetensors")))
    found = read_shape(_described(folder / "config.json"), counted)
    if found is not None:
        return found
    if counted is not None:
        return guessed_shape(counted)
    if config.shape is not None:
        return read_shape(config.shape, None)
    return None if config.parameters is None else guessed_shape(config.parameters)


def local_folder(config: ModelConfig) -> Path:
    """The folder that a path stands for; one that does not exist for a Hub name."""
    return resolve.local_folder(config.path) or Path(config.path)


def read_shape(values: Mapping[str, Any], counted: int | None) -> ModelShape | None:
    """The shape in a `config.json`; None where that describes something else than a decoder with equal layers."""
    text = values.get("text_config", values)
    try:
        sizes = {
            "hidden_size": text["hidden_size"],
            "layers": text["num_hidden_layers"],
            "heads": text["num_attention_heads"],
            "key_value_heads": text.get("num_key_value_heads") or text["num_attention_heads"],
            "intermediate_size": text["intermediate_size"],
            "vocabulary_size": text["vocab_size"],
        }
    except KeyError:
        return None
    head_size = text.get("head_dim") or 0
    if not all(isinstance(size, int) and size > 0 for size in sizes.values()) or not isinstance(head_size, int):
        return None
    return ModelShape(
        **sizes,
        tied=bool(values.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
        head_size=head_size,
        biased=bool(text.get("attention_bias", values.get("model_type") == "qwen2")),
        counted=counted,
    )


def guessed_shape(parameters: float) -> ModelShape:
    """A decoder of so many parameters with the proportions of Llama 2 (width / layers = 128) and its vocabulary."""
    width = float((WIDTH_PER_LAYER * parameters / SQUARES_PER_BLOCK) ** (1 / 3))
    heads = max(1, round(width / 128))
    hidden = max(heads, round(width / heads) * heads)
    return ModelShape(
        hidden_size=hidden,
        layers=max(1, round(width / WIDTH_PER_LAYER)),
        heads=heads,
        key_value_heads=heads,
        intermediate_size=round(8 * hidden / 3),
        vocabulary_size=min(32000, max(256, int(parameters / hidden / 4))),
        tied=False,
        counted=int(parameters),
        guessed=True,
    )


def _described(file: Path) -> Mapping[str, Any]:
    """What a `config.json` says; nothing where it is missing or broken."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _counted(files: Sequence[Path]) -> int | None:
    """Parameters in the headers of weights; None without any, and where one cannot be read."""
    from safetensors import SafetensorError, safe_open

    found = 0
    try:
        for file in files:
            with safe_open(file, framework="numpy") as weights:
                found += sum(prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    return found or None
