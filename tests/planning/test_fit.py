"""The memory arithmetic against numbers worked by hand, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from rlreason.config import ModelConfig
from rlreason.errors import UserError
from rlreason.models import memory
from rlreason.models.memory import GIB, Machine, check_fits, needed, parameter_count

LLAMA_13B = ModelConfig(
    name="llama13b",
    path="meta-llama/Llama-2-13b-hf",
    revision=None,
    parameters=13.0e9,
    dtype="auto",
    learning_rate=2e-5,
    orm_learning_rate=1e-5,
    rl_learning_rate=1e-6,
    micro_batch_size=4,
    gradient_checkpointing=True,
    lora_rank=0,
    lora_alpha=32.0,
)
WITH_LORA = replace(LLAMA_13B, lora_rank=16)


def test_full_training_takes_16_bytes_a_parameter() -> None:
    assert needed(LLAMA_13B, True, 13.0e9).bytes == 208e9


def test_adapters_of_a_real_llama() -> None:
    # Llama-2-13B by hand: 40 blocks of width 5120 and inner width 13824, rank 16 on all seven linear maps:
    # 40 * 16 * (4 * (5120 + 5120) + 3 * (5120 + 13824)) = 62,586,880.
    assert memory._adapter_parameters(13.0e9, 16) == pytest.approx(62_586_880, rel=0.05)
    # 26.0e9 for the weights and 16 * 62.6e6 = 1.0e9 for the adapters.
    assert needed(WITH_LORA, True, 13.0e9).bytes == pytest.approx(27.0e9, rel=0.01)
    assert needed(WITH_LORA, True, 13.0e9, fast_bfloat16=False).bytes == pytest.approx(53.0e9, rel=0.01)


def test_generation_takes_the_weights_and_a_small_cache() -> None:
    # A token of Llama-2-13B by hand: 40 blocks * 2 * 5120 numbers of 2 bytes = 819,200 bytes; 4096 of them.
    assert needed(LLAMA_13B, False, 13.0e9).bytes == pytest.approx(26e9 + 4096 * 819_200, rel=0.01)
    single = replace(LLAMA_13B, dtype="float32")
    assert needed(single, False, 13.0e9).bytes == pytest.approx(2 * needed(LLAMA_13B, False, 13.0e9).bytes)


def test_parameters_are_counted_in_the_folder_before_the_configuration_is_believed(tmp_path: Path) -> None:
    save_file({"a": np.zeros((3, 4), np.float16), "b": np.zeros(5, np.float32)}, tmp_path / "model-1.safetensors")
    save_file({"c": np.zeros((), np.float32)}, tmp_path / "model-2.safetensors")
    assert parameter_count(replace(LLAMA_13B, path=str(tmp_path))) == 3 * 4 + 5 + 1
    assert parameter_count(LLAMA_13B) == 13.0e9
    assert parameter_count(replace(LLAMA_13B, parameters=None)) is None


def test_embedded_models_are_counted_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "EMBEDDED_FOLDER", tmp_path)
    (tmp_path / "tiny").mkdir()
    save_file({"a": np.zeros((3, 4), np.float32)}, tmp_path / "tiny" / "model.safetensors")
    assert parameter_count(replace(LLAMA_13B, path="embedded:tiny")) == 12


def test_cut_weights_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"a": np.zeros(1000, np.float32)}, file)
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(UserError, match="broken or cut short"):
        parameter_count(replace(LLAMA_13B, path=str(tmp_path)))


def on_machine(monkeypatch: pytest.MonkeyPatch, gib: float) -> None:
    machine = Machine(gib * GIB, f"{gib} GiB on 1 GPU", "GPU memory", fast_bfloat16=True)
    monkeypatch.setattr(memory, "_machine", lambda parameters, devices: machine)


def refusal(config: ModelConfig, training: bool) -> str:
    with pytest.raises(UserError) as caught:
        check_fits(config, training)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_refusal_names_what_would_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    on_machine(monkeypatch, 80)
    assert refusal(LLAMA_13B, True) == (
        "model=llama13b needs about 194 GiB of GPU memory to train all weights (weights, gradients and Adam states in "
        "float32: 16 bytes a parameter) but this machine has 80 GiB on 1 GPU; try model.lora_rank=16 (needs about "
        "25 GiB), a smaller model or a larger machine"
    )
    check_fits(WITH_LORA, True)
    check_fits(LLAMA_13B, False)
    check_fits(replace(LLAMA_13B, parameters=None), True)


def test_nothing_is_suggested_that_does_not_fit_either(monkeypatch: pytest.MonkeyPatch) -> None:
    on_machine(monkeypatch, 24)
    assert "lora" not in refusal(LLAMA_13B, True)
    assert refusal(WITH_LORA, True).endswith("try a smaller model or a larger machine")
    assert "to generate" in refusal(LLAMA_13B, False)
    on_machine(monkeypatch, 40)
    assert "model.dtype=auto" in refusal(replace(LLAMA_13B, dtype="float32"), False)


def test_a_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(memory, "_main_memory", lambda: 23.0 * GIB)
    assert "194 GiB of memory" in refusal(LLAMA_13B, True)
    assert "no GPU and 23 GiB of RAM" in refusal(LLAMA_13B, True)


def test_gpus_that_share_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from rlreason.models import loading

    class Properties:
        total_memory = 80 * GIB

    monkeypatch.setattr(loading, "bfloat16_is_fast", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties())
    assert "80 GiB on 1 GPU;" in refusal(LLAMA_13B, True)
    check_fits(LLAMA_13B, True, devices=4)
    # Devices that are not there do not help.
    with pytest.raises(UserError, match="320 GiB on 4 GPUs"):
        check_fits(replace(LLAMA_13B, parameters=70e9), True, devices=16)


def test_small_models_are_compared_with_main_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    # By hand, training: 16 * 0.92e6 = 14.7 MB. Generating: 1.8 MB and a cache of about 6 MB.
    monkeypatch.setattr(memory, "_main_memory", lambda: 10e6)
    tiny = replace(LLAMA_13B, parameters=0.92e6)
    assert "to train all weights" in refusal(tiny, True)
    check_fits(tiny, False)
