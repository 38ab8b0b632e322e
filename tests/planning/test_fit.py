"""What is refused, in which words, and that the advice would fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests_support import composed

from rlreason.config.experiment import ExperimentConfig
from rlreason.errors import UserError
from rlreason.planning import fit, shape
from rlreason.planning.fit import check_fits, shortages
from rlreason.planning.hardware import GIB, Hardware
from rlreason.planning.shape import model_shape

GPU = Hardware(1, 80 * GIB, "NVIDIA A100-SXM4-80GB", 1000 * GIB, 16, fast_bfloat16=True, stated=False)


def on(monkeypatch: pytest.MonkeyPatch, machine: Hardware) -> None:
    monkeypatch.setattr(fit, "this_machine", lambda: machine)


def refusal(config: ExperimentConfig) -> str:
    with pytest.raises(UserError) as caught:
        check_fits(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_model_that_does_not_fit_is_refused_with_a_change_that_does(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, GPU)
    message = refusal(composed("model=llama13b", "data=gsm8k"))
    assert message.startswith("model=llama13b needs about 223 GiB of GPU memory for EI training (optimizer 97, ")
    assert "each GPU has 80 (1 GPU of 80 GiB (NVIDIA A100-SXM4-80GB))" in message
    assert message.endswith("model.lora_rank=16 would fit; check_memory=false tries it all the same")
    check_fits(composed("model=llama13b", "data=gsm8k", "model.lora_rank=16"))
    check_fits(composed("model=llama13b", "data=gsm8k", "check_memory=false"))
    check_fits(composed("model=llama13b", "data=gsm8k", "task=evaluate"))


@pytest.mark.parametrize(
    ("overrides", "gpus", "change"),
    [
        (["model=llama7b", "data=gsm8k"], 8, "sharding=fsdp2 launcher=accelerate nproc=8"),
        (["model=qwen2.5-0.5b", "data=gsm8k", "model.micro_batch_size=64"], 1, "model.gradient_checkpointing=true"),
        (["model=llama7b", "data=gsm8k", "model.lora_rank=8", "engine.memory_share=0.1"], 1, "engine.memory_share=0.7"),
        (["model=llama7b", "data=gsm8k", "algo=ppo", "model.lora_rank=8", "engine.memory_share=0.9"], 1,
         "engine.memory_share=0.7"),
    ],
)  # fmt: skip
def test_the_nearest_change(overrides: list[str], gpus: int, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = replace(GPU, gpus=gpus)
    on(monkeypatch, machine)
    assert f"{change} would fit" in refusal(composed(*overrides))
    overrides = [item for item in overrides if item.split("=")[0] not in change]
    changed = composed(*overrides, *change.split())
    assert not shortages(changed, model_shape(changed.model), machine)


def test_nothing_is_suggested_that_does_not_fit_either(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, replace(GPU, gpu_memory=12 * GIB))
    assert "a smaller model or a larger machine is needed" in refusal(composed("model=llama13b", "data=gsm8k"))


def test_a_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, Hardware(0, 0.0, "", 23 * GIB, 2, fast_bfloat16=True, stated=False))
    message = refusal(composed("model=llama13b", "data=gsm8k"))
    assert "GiB of memory for EI training" in message
    assert "(no GPU and 23 GiB of RAM, 2 cores)" in message
    check_fits(composed())
    check_fits(composed("experiment=smoke-smollm2"))


def test_processes_must_divide_the_batch_before_memory_is_looked_at() -> None:
    message = refusal(composed("nproc=3", "launcher=accelerate", "algo.micro_batch_size=8"))
    assert message == (
        "3 processes do not divide algo.batch_size=64; use algo.batch_size=63 or 66, or 2 or 4 processes"
    )


def test_attention_heads_must_be_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, replace(GPU, gpus=64))
    message = refusal(composed("model=llama7b", "data=gsm8k", "engine.tensor_parallel_size=64"))
    assert message == (
        "engine.tensor_parallel_size=64 does not divide the 32 attention heads of model=llama7b; "
        "choose from: 1, 2, 4, 8, 16, 32"
    )


def test_a_folder_is_believed_before_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"a": np.zeros((3, 4), np.float16), "b": np.zeros(5, np.float32)}, tmp_path / "model-1.safetensors")
    save_file({"c": np.zeros((), np.float32)}, tmp_path / "model-2.safetensors")
    model = composed("model=llama13b").model
    assert model_shape(replace(model, path=str(tmp_path))).parameters == 3 * 4 + 5 + 1
    assert model_shape(replace(model, path="someone/unknown")).parameters == 13_000_000_000
    assert model_shape(replace(model, path="someone/unknown", parameters=None)) is None
    monkeypatch.setattr(shape, "EMBEDDED_FOLDER", tmp_path / "nothing")
    file = tmp_path / "model-1.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(UserError, match="broken or cut short"):
        model_shape(replace(model, path=str(tmp_path)))
