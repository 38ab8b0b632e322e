"""What is refused and what is advised, in which words, and that the advice would fit."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from fake_cuda import FakeGPU, control_groups, nvidia_smi
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
from rlreason.planning.hardware import GIB, Hardware, group_memory, node_memory, slurm_memory, this_machine
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
    ("gpu", "visible", "name"),
    [
        (FakeGPU("NVIDIA GB10", "[N/A]", "[N/A]"), "GPU-0", "NVIDIA GB10"),
        (FakeGPU(slices=("MIG-1", "MIG-2")), "MIG-2", "MIG"),
    ],
    ids=["memory of the processor", "part of a GPU"],
)
def test_a_gpu_whose_memory_is_not_stated_has_unknown_memory(
    gpu: FakeGPU, visible: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi(monkeypatch, tmp_path, gpu)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(hardware, "main_memory", lambda: 100.0 * GIB)
    machine = this_machine()
    assert (machine.gpus, machine.gpu_memory) == (1, None)
    assert machine.words() == f"1 GPU of unknown memory ({name})"
    assert check_fits(composed("model=llama13b", "data=gsm8k")) is None


LORA_7B = ["model=llama7b", "data=gsm8k", "model.lora_rank=16", "engine.max_sequences=64"]


def test_a_gpu_that_other_programs_fill_is_refused_before_anything_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "main_memory", lambda: 1000.0 * GIB)
    config = composed(*LORA_7B)
    nvidia_smi(monkeypatch, tmp_path, FakeGPU(used="500"), FakeGPU(used="76000"))
    assert check_fits(config) is None  # which leaves the second GPU alone
    nvidia_smi(monkeypatch, tmp_path, FakeGPU(used="76000"), FakeGPU(used="500"))
    message = refusal(config)
    assert message.startswith("model=llama7b cannot fit: it needs about ")
    assert "(2 GPUs of 80 GiB (NVIDIA H100 80GB HBM3), of which other programs hold 74)" in message
    wide = replace(config, engine=replace(config.engine, devices=[1], memory_share=0.3))
    nvidia_smi(monkeypatch, tmp_path, FakeGPU(), FakeGPU(used="50000"))
    assert "engine.memory_share=0.3 of a GPU is 9.2 (" in refusal(wide)
    assert check_fits(replace(config, check_memory=False)) is None


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["engine.tensor_parallel_size=4"], "engine.tensor_parallel_size=4 needs 4 GPUs for one copy of the model"),
        (["engine.devices=[2]"], "engine.devices=[2]: 2 GPUs are visible, numbered from 0 to 1"),
        (["engine.tensor_parallel_size=3"], "engine.tensor_parallel_size=3 needs 3 GPUs"),
    ],
)  # fmt: skip
def test_an_engine_that_asks_for_more_gpus_than_there_are_is_refused_before_anything_is_downloaded(
    overrides: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, replace(GPU, gpus=2))
    assert words in refusal(composed(*overrides, "check_memory=false"))


def test_replicas_that_share_a_gpu_each_have_a_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, replace(GPU, gpus=2))
    settings = ["model=llama13b", "data=gsm8k", "model.lora_rank=16"]
    assert check_fits(composed(*settings, "engine.replicas=2")) is None
    crowded = refusal(composed(*settings, "engine.replicas=4"))  # 24 GiB each, and half of a GPU for two
    assert "(engine 48, " in crowded and "engine.memory_share=0.5 of a GPU is 40" in crowded
    assert "engine.memory_share=0.7 would fit" in crowded
    assert check_fits(composed(*settings, "engine.replicas=4", "engine.memory_share=0.7")) is None


def test_processes_that_share_a_core_get_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, replace(GPU, gpus=8, cores=1))
    config = composed("data=gsm8k", "engine.replicas=8")
    assert advice(config) == (
        "8 processes with a GPU each have 1 cores between them and will wait for the CPU; take 64 (Slurm: "
        "--cpus-per-task, in a sweep hydra.launcher.cpus_per_task)"
    )
    on(monkeypatch, replace(GPU, gpus=8, cores=8))
    assert check_fits(config) is None


V1 = "11:memory:/slurm/uid_1/job_2\n10:cpuset,cpu:/elsewhere\n0::/\n"
V2 = "0::/system.slice/slurmstepd.scope/job_2/step_0\n"


@pytest.mark.parametrize(
    ("own", "limits", "allowed"),
    [
        (V2, {"system.slice/slurmstepd.scope/job_2/memory.max": "64", "memory.max": "max"}, 64),
        (V2, {"system.slice/slurmstepd.scope/job_2/step_0/memory.max": "max", "system.slice/memory.max": "48"}, 48),
        (V2, {"memory.max": "32"}, 32),  # a container that sees the names of the machine
        ("0::/../../job_2\n", {"job_2/memory.max": "16"}, 16),
        (V1, {"memory/slurm/uid_1/job_2/memory.limit_in_bytes": "8", "memory/memory.limit_in_bytes": "99"}, 8),
        (V1, {"elsewhere/memory.max": "1", "memory/slurm/memory.limit_in_bytes": "4"}, 4),
        (V1, {}, math.inf),
        (V2, {"system.slice/memory.max": "max"}, math.inf),
        ("", {"memory.max": "2"}, 2),
    ],
)
def test_the_tightest_control_group_around_a_process_limits_its_memory(
    own: str, limits: dict[str, str], allowed: float, tmp_path: Path
) -> None:
    assert group_memory(*control_groups(tmp_path, own, limits)) == allowed


def test_a_machine_without_control_groups_limits_nothing(tmp_path: Path) -> None:
    assert group_memory(tmp_path / "none", tmp_path / "none") == math.inf


@pytest.mark.parametrize(
    ("environment", "gib"),
    [
        ({"SLURM_MEM_PER_NODE": "65536"}, 64),
        ({"SLURM_MEM_PER_CPU": "4096", "SLURM_CPUS_ON_NODE": "8"}, 32),
        ({"SLURM_MEM_PER_GPU": "65536", "SLURM_GPUS_ON_NODE": "2"}, 128),
        ({"SLURM_MEM_PER_NODE": "0"}, math.inf),  # all that the node has
        ({}, math.inf),
    ],
)
def test_slurm_says_how_much_memory_a_job_has(environment: dict[str, str], gib: float) -> None:
    assert slurm_memory(environment) == gib * GIB


def test_an_allocation_that_is_smaller_than_the_plan_is_refused_with_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi(monkeypatch, tmp_path, *[FakeGPU()] * 8)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=2000 * GIB))
    config = composed("experiment=paper-ei-7b", "hardware=gpu80x8")
    monkeypatch.setenv("SLURM_MEM_PER_NODE", str(64 * 1024))
    message = refusal(config)
    assert "GiB of memory for EI training (" in message
    assert "but Slurm granted 64 (8 GPUs of 80 GiB (NVIDIA H100 80GB HBM3));" in message
    needed = int(re.search(r"--mem=(\d+)G \(in a sweep hydra.launcher.mem_gb=\d+\) would fit", message)[1])
    monkeypatch.setenv("SLURM_MEM_PER_NODE", str(needed * 1024))
    assert "memory for" not in (check_fits(config) or "")


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
