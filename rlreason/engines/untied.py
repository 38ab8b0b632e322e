"""A view of a checkpoint in which the output layer has weights of its own, for engines that swap weights in place.

Models that share their input embedding with the output layer store it once. vLLM's in-place reload then replaces the
embedding and keeps the old output layer (measured with 0.32 on a CPU, whose kernels pack it apart): rollouts come
from a mixture of two policies, and nothing says so. Storing the matrix twice, under both names, lets every reload
replace both.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from rlreason.errors import UserError

INDEX = "model.safetensors.index.json"
OUTPUT_LAYER = "lm_head.weight"
ADDED = "output-layer.safetensors"


def matrix_bytes(checkpoint: Path) -> int:
    """Size of one matrix of the vocabulary in 4-byte floats: the most that a view adds to its checkpoint."""
    from transformers import AutoConfig

    shape = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False).get_text_config()
    return int(4 * shape.vocab_size * shape.hidden_size)


def shape_name(checkpoint: Path) -> str:
    """A name that checkpoints with the same configuration share."""
    return sha256((checkpoint / "config.json").read_bytes()).hexdigest()[:16]


def untied_view(checkpoint: Path, folder: Path) -> Path:
    """A new `folder` that loads like `checkpoint` with an output layer of its own, and links to its files.

    Where nothing is shared, it is `checkpoint` itself.

    Raises:
        UserError: The shared matrix has a name that is not known here, or another output layer is stored as well.
    """
    from transformers import AutoConfig

    if not AutoConfig.from_pretrained(checkpoint, trust_remote_code=False).tie_word_embeddings:
        return checkpoint
    from safetensors.torch import save_file

    embedding, output = _matrices(checkpoint)
    if embedding is None:
        raise UserError(f"{checkpoint} shares its embedding under a name that is not known; use engine=transformers")
    if output is not None and not output.equal(embedding):
        raise UserError(
            f"{checkpoint} shares its embedding, as config.json says, and stores another {OUTPUT_LAYER}; put "
            "tie_word_embeddings: false into config.json if the model was trained so, or leave that weight out"
        )
    folder.mkdir(parents=True)
    for path in checkpoint.resolve().iterdir():
        if path.name not in (INDEX, "config.json"):
            (folder / path.name).symlink_to(path)
    if output is None:
        save_file({OUTPUT_LAYER: embedding.contiguous()}, folder / ADDED, metadata={"format": "pt"})
    settings = json.loads((checkpoint / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "tie_word_embeddings": False}))
    if (checkpoint / INDEX).exists():
        index = json.loads((checkpoint / INDEX).read_text())
        index["weight_map"].setdefault(OUTPUT_LAYER, ADDED)
        (folder / INDEX).write_text(json.dumps(index))
    return folder


def _matrices(checkpoint: Path) -> tuple[Any, Any]:
    """The embedding and the output layer that a checkpoint stores; None for one that it does not."""
    from safetensors import safe_open

    embedding = output = None
    for path in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                if name.endswith("embed_tokens.weight"):
                    embedding = tensors.get_tensor(name)
                elif name == OUTPUT_LAYER:
                    output = tensors.get_tensor(name)
    return embedding, output
