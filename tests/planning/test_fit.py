"""What is refused and what is advised, in which words, and that the advice would fit."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import save_file
from tests_support import composed

from rlreason.algorithms.registry import ALGORITHMS
from rlreason.config.context import longest_context
from rlreason.config.experiment import ExperimentConfig
from rlreason.data.registry import DATASETS
from rlreason.display import Display
from rlreason.errors import UserError
from rlreason.planning import fit, hardware, lengths, updates
from rlreason.planning.fit import check_fits, shortages
from rlreason.planning.hardware import GIB, Hardware, node_memory, this_machine
from rlreason.planning.phases import Phase, phases
from rlreason.planning.shape import model_shape
from rlreason.tasks.evaluate import evaluate
from rlreason.tasks.train import train

GPU = Hardware(1, 80 * GIB, "NVIDIA A100-SXM4-80GB", 1000 * GIB, 16, fast_bfloat16=True)


def on(monkeypatch: pytest.MonkeyPatch, machine: Hardware) -> None:
    monkeypatch.setattr(fit, "this_machine", lambda: machine)


def refusal(config: ExperimentConfig) -> str:
    with pytest.raises(UserError) as caught:
        check_fits(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def advice(config: ExperimentConfig) -> str:
    line = check_fits(config)
    assert line is not None and "\n" not in line
    return line


def test_a_model_that_is_likely_not_to_fit_gets_a_line_with_a_change_that_does(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, GPU)
    line = advice(composed("model=llama13b", "data=gsm8k"))
    assert line.startswith(
        "model=llama13b is likely not to fit: it needs about 223 GiB of GPU memory for EI training (optimizer 97, "
    )
    assert "but each GPU has 80 (1 GPU of 80 GiB (NVIDIA A100-SXM4-80GB))" in line
    assert line.endswith("model.lora_rank=16 would fit")
    assert check_fits(composed("model=llama13b", "data=gsm8k", "model.lora_rank=16")) is None
    assert check_fits(composed("model=llama13b", "data=gsm8k", "check_memory=false")) is None
    assert check_fits(composed("model=llama13b", "data=gsm8k", "task=evaluate")) is None


def test_weights_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, replace(GPU, gpu_memory=40 * GIB))
    message = refusal(composed("model=llama13b", "data=gsm8k"))
    assert message.startswith("model=llama13b cannot fit: it needs about 223 GiB of GPU memory for EI training (")
    assert "), 48 for the weights alone, but each GPU has 40 (" in message
    assert message.endswith("model.lora_rank=16 would fit; check_memory=false tries it all the same")
    assert check_fits(composed("model=llama13b", "data=gsm8k", "check_memory=false")) is None


@pytest.mark.parametrize(
    ("overrides", "gpus", "change"),
    [
        (["model=llama7b", "data=gsm8k"], 8, "sharding=fsdp2 launcher=accelerate nproc=8"),
        (["model=qwen2.5-0.5b", "data=gsm8k", "model.micro_batch_size=64"], 1, "model.gradient_checkpointing=true"),
        (["model=llama7b", "data=gsm8k", "algo=ppo", "model.lora_rank=8", "engine.memory_share=0.9"], 1,
         "engine.memory_share=0.7"),
    ],
)  # fmt: skip
def test_the_nearest_change(overrides: list[str], gpus: int, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = replace(GPU, gpus=gpus)
    on(monkeypatch, machine)
    assert f"{change} would fit" in advice(composed(*overrides))
    overrides = [item for item in overrides if item.split("=")[0] not in change]
    changed = composed(*overrides, *change.split())
    assert not shortages(changed, model_shape(changed.model), machine)


def test_an_engine_whose_share_is_below_its_weights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, GPU)
    settings = ["model=llama7b", "data=gsm8k", "model.lora_rank=8", "engine.memory_share=0.1"]
    message = refusal(composed(*settings))
    assert "engine.memory_share=0.1 of a GPU is 8.0 (" in message
    assert "engine.memory_share=0.7 would fit" in message
    assert check_fits(composed(*settings, "engine=transformers", "engine.max_sequences=16")) is None


def test_nothing_is_suggested_that_does_not_fit_either(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, replace(GPU, gpu_memory=12 * GIB))
    assert "a smaller model or a larger machine is needed" in refusal(composed("model=llama13b", "data=gsm8k"))


def test_a_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, Hardware(0, 0.0, "", 23 * GIB, 2, fast_bfloat16=True))
    message = refusal(composed("model=llama13b", "data=gsm8k"))
    assert "GiB of memory for EI training" in message
    assert "(no GPU and 23 GiB of RAM, 2 cores)" in message
    assert check_fits(composed()) is None
    assert check_fits(composed("experiment=smoke-smollm2")) is None


def held(machine: Hardware, *overrides: str) -> dict[str, Phase]:
    config = composed(*QWEN, "engine=vllm", *overrides)
    return {phase.name: phase for phase in phases(config, model_shape(config.model), machine)}


QWEN = ["model=qwen2.5-0.5b", "model.gradient_checkpointing=true", "data=gsm8k"]
CPU = Hardware(0, 0.0, "", 24 * GIB, 2, fast_bfloat16=True)


def test_keys_and_values_on_a_cpu_are_for_what_is_asked_together() -> None:
    each = 2 * 24 * 2 * 64 * 2  # keys and values of 24 layers, 2 heads of 64, in bfloat16
    few = held(CPU, "task=evaluate", "eval.k=0", "data.test_size=10")["sampling"]
    longest = few.cached_tokens / 10
    assert longest < 1536 + 400  # as long as the longest question, not as the longest that would be allowed
    assert few.host["KV cache"] == 10 * longest * each
    assert held(CPU, "task=evaluate", "eval.k=4", "data.test_size=10")["sampling"].cached_tokens == 40 * longest
    assert held(CPU, "algo=ppo", "algo.questions=2", "algo.samples=4", "algo.minibatch_size=8", "eval.k=0",
                "data.test_size=1", "data.validation_size=1")["sampling"].cached_tokens == 8 * longest  # fmt: skip
    assert held(CPU)["sampling"].cached_tokens == 512 * longest
    assert held(CPU, "engine.replicas=2", "eval.k=0", "task=evaluate", "data.test_size=10")[
        "sampling"
    ].cached_tokens == pytest.approx(5 * longest)
    wide = held(CPU, "task=evaluate", "eval.k=0", "data.test_size=10", "model.dtype=float32")["sampling"]
    assert wide.host["KV cache"] == 2 * few.host["KV cache"]


def test_keys_and_values_leave_training_its_memory_as_long_as_there_is_room_for_one_context() -> None:
    plenty = held(CPU)
    needed = plenty["EI training"].host_bytes
    for lacking in (0.5, 1.0, 2.0):
        short = held(replace(CPU, memory=needed - lacking * GIB))
        assert short["EI training"].host_bytes == pytest.approx(needed - lacking * GIB)
        assert short["sampling"].host["KV cache"] == short["EI training"].host["KV cache"]
    least = held(replace(CPU, memory=4 * GIB))
    config = composed("data=gsm8k")
    assert least["sampling"].cached_tokens == longest_context(config)


def test_what_certainly_does_not_fit_without_a_gpu_is_refused_with_the_change_that_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on(monkeypatch, replace(CPU, memory=10 * GIB))
    message = refusal(composed(*QWEN))
    assert message.startswith("model=qwen2.5-0.5b cannot fit: it needs about ")
    assert "weights alone" not in message
    assert message.endswith("model.lora_rank=16 would fit; check_memory=false tries it all the same")
    assert check_fits(composed(*QWEN, "model.lora_rank=16")) is None
    on(monkeypatch, CPU)
    for algorithm in ("ei", "rcrl"):
        assert check_fits(composed(*QWEN, f"algo={algorithm}")) is None
    for algorithm in ("ei", "sft", "ppo", "grpo", "orm", "rcrl"):
        assert check_fits(composed(*QWEN, f"algo={algorithm}", "model.lora_rank=16")) is None


def test_memory_of_the_node_that_a_process_is_bound_to(tmp_path: Path) -> None:
    for node, (cpus, kib) in enumerate((("0-3,8", 1000), ("4-7", 500))):
        folder = tmp_path / f"node{node}"
        folder.mkdir()
        (folder / "cpulist").write_text(f"{cpus}\n")
        (folder / "meminfo").write_text(f"Node {node} MemTotal:       {kib} kB\nNode {node} MemFree:  1 kB\n")
    assert [node_memory([core], tmp_path) for core in (0, 8, 4, 7)] == [1024_000, 1024_000, 512_000, 512_000]
    assert node_memory([9], tmp_path) == node_memory([0], tmp_path / "none") == math.inf


@pytest.mark.parametrize(("task", "gib"), [(train, 2.2), (evaluate, 0.8)], ids=["train", "evaluate"])
def test_a_run_shows_the_advice_and_goes_on(
    task: Callable[..., object], gib: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, Hardware(0, 0.0, "", gib * GIB, 2, fast_bfloat16=True))
    console = Console(width=300, file=StringIO())
    config = composed("data=gsm8k", f"data.path={tmp_path / 'nothing'}", f"task={task.__name__}")
    with pytest.raises(UserError, match="nothing"):  # the next step: reading the data
        task(config, {}, tmp_path, Display(console))
    assert console.file.getvalue().startswith("model=tiny is likely not to fit: it needs about ")


def test_what_is_not_known_is_no_reason_to_refuse_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    config = composed("model=llama13b", "data=gsm8k")
    on(monkeypatch, replace(GPU, gpu_memory=None))
    assert check_fits(config) is None
    on(monkeypatch, GPU)
    with monkeypatch.context() as patched:
        patched.setattr(updates, "ALGORITHMS", {**ALGORITHMS, "ei": replace(ALGORITHMS["ei"], plan=None)})
        assert check_fits(config) is None
    unknown = replace(config.model, path="someone/unknown", parameters=None, shape=None)
    assert check_fits(replace(config, model=unknown)) is None
    # Activations and logits are not known; nobody can say whether a change makes room for them too.
    monkeypatch.setattr(lengths, "DATASETS", {**DATASETS, "gsm8k": replace(DATASETS["gsm8k"], facts=None)})
    line = advice(config)
    assert "at least 218 GiB of GPU memory for EI training (optimizer 97, weights 48, gradients 48, " in line
    assert line.endswith("model.lora_rank=16 would fit as far as is known")


@pytest.mark.parametrize(
    ("listed", "visible", "name"),
    [
        ("0, GPU-1, NVIDIA GB10, [N/A]", "GPU-1", "NVIDIA GB10"),
        ("0, GPU-1, NVIDIA A100-SXM4-80GB, 81920", "MIG-2", "MIG"),
    ],
    ids=["memory of the processor", "part of a GPU"],
)
def test_a_gpu_whose_memory_is_not_stated_has_unknown_memory(
    listed: str, visible: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '{listed}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(hardware, "main_memory", lambda: 100.0 * GIB)
    machine = this_machine()
    assert (machine.gpus, machine.gpu_memory) == (1, None)
    assert machine.words() == f"1 GPU of unknown memory ({name})"
    assert check_fits(composed("model=llama13b", "data=gsm8k")) is None


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


def test_a_folder_is_believed_before_the_configuration(tmp_path: Path) -> None:
    save_file({"a": np.zeros((3, 4), np.float16), "b": np.zeros(5, np.float32)}, tmp_path / "model-1.safetensors")
    save_file({"c": np.zeros((), np.float32)}, tmp_path / "model-2.safetensors")
    model = composed("model=llama13b").model
    assert model_shape(replace(model, path=str(tmp_path))).parameters == 3 * 4 + 5 + 1
    assert model_shape(model).parameters == 13_015_864_320
    assert model_shape(replace(model, shape=None)).parameters == 13_000_000_000
    assert model_shape(replace(model, shape=None, parameters=None)) is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", b"cut short"),
        ("config.json", b"{"),
        ("config.json", b"[]"),
        ("config.json", b'{"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": [2, 4],'
                        b' "intermediate_size": [64, 128], "vocab_size": 99}'),
    ],
)  # fmt: skip
def test_of_files_that_cannot_be_read_nothing_is_known(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    config = composed("model=local", f"model.path={tmp_path}")
    assert model_shape(config.model) is None
    assert check_fits(config) is None
