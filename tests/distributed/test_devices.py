"""Which GPUs a process may use: hidden ones, slices, and machines without nvidia-smi."""

import os

import pytest
from fake_cuda import FakeGPU, nvidia_smi
from tests_support import composed

from rlreason.distributed import devices, launch, shares
from rlreason.distributed.devices import MIB, in_use, listed, trainable, visible
from rlreason.engines.places import places
from rlreason.errors import UserError

SLICES = ("MIG-aa", "MIG-bb")


def names():
    return [device.name for device in visible()]


@pytest.mark.parametrize(
    ("hidden_by", "seen"),
    [
        (None, ["0", "1", "2"]),
        ("2,0", ["2", "0"]),
        ("GPU-1a,GPU-0", ["GPU-1a", "GPU-0"]),
        (" 1 , 2", ["1", "2"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),  # as Slurm says it
        ("0,7,1", ["0"]),  # CUDA stops at the first that is not there
        ("MIG-zz", ["MIG-zz"]),
    ],
)
def test_a_process_sees_what_cuda_visible_devices_leaves(hidden_by, seen, tmp_path, monkeypatch):
    nvidia_smi(monkeypatch, tmp_path, FakeGPU(), FakeGPU(), FakeGPU())
    if hidden_by is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden_by)
    assert names() == shares.gpus() == seen


def test_what_is_listed_has_memory_driver_and_kind(tmp_path, monkeypatch):
    nvidia_smi(monkeypatch, tmp_path, FakeGPU(used="512"), FakeGPU("NVIDIA GB10", "[N/A]", "[N/A]"), driver="575.1")
    assert [(gpu.kind, gpu.memory, gpu.driver) for gpu in listed()] == [
        ("NVIDIA H100 80GB HBM3", 81559 * MIB, "575.1"),
        ("NVIDIA GB10", None, "575.1"),
    ]
    assert in_use() == {"GPU-0a": 512 * MIB}


def test_slices_are_places_for_replicas_and_one_gpu_for_training(tmp_path, monkeypatch):
    nvidia_smi(monkeypatch, tmp_path, FakeGPU(slices=SLICES), FakeGPU(slices=("MIG-cc",)))
    assert names() == ["MIG-aa", "MIG-bb", "MIG-cc"]
    assert trainable(visible()) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # the first slice of it
    assert [(device.kind, device.memory) for device in visible()] == [("MIG", None)]


def test_a_gpu_that_is_split_stands_beside_one_that_is_not(tmp_path, monkeypatch):
    nvidia_smi(monkeypatch, tmp_path, FakeGPU(), FakeGPU(slices=SLICES))
    assert names() == ["0", "MIG-aa", "MIG-bb"]
    assert trainable(visible()) == 1


def test_without_a_driver_there_are_no_gpus(tmp_path, monkeypatch):
    nvidia_smi(monkeypatch, tmp_path)
    monkeypatch.setattr(devices, "DEVICES", tmp_path)
    assert names() == [] and trainable(visible()) == 0


@pytest.mark.parametrize(("hidden_by", "seen"), [("5,6", ["5", "6"]), ("MIG-s", ["MIG-s"])])
def test_without_nvidia_smi_torch_is_asked_where_the_driver_shows_devices(hidden_by, seen, tmp_path, monkeypatch):
    (tmp_path / "nvidia0").touch()
    (tmp_path / "torch.py").write_text(
        "import os\nfrom types import SimpleNamespace\n"
        "kind = SimpleNamespace(name='NVIDIA L4', total_memory=24 * 2**30)\n"
        "count = len(os.environ['CUDA_VISIBLE_DEVICES'].split(','))\n"
        "cuda = SimpleNamespace(device_count=lambda: count, get_device_properties=lambda number: kind)\n"
    )
    monkeypatch.setattr(devices, "DEVICES", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden_by)
    assert names() == seen
    assert {(device.kind, device.memory) for device in visible()} == {("NVIDIA L4", 24 * 2**30)}


@pytest.mark.parametrize(
    ("environment", "overrides", "processes"),
    [
        ({}, ["launcher=accelerate", "nproc=4"], 4),
        ({}, ["launcher=accelerate", "nproc=4", "launcher.nodes=2", "launcher.address=a:1"], 4),
        ({"RANK": "0", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "8"}, [], 8),  # by torchrun
    ],
)
def test_more_processes_than_gpus_are_refused_with_both_numbers(
    environment, overrides, processes, tmp_path, monkeypatch
):
    nvidia_smi(monkeypatch, tmp_path, FakeGPU(), FakeGPU("NVIDIA H200"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    config = composed(*overrides)
    with pytest.raises(UserError) as caught:
        launch.check(config)
    assert str(caught.value) == (
        f"{processes} training processes on this machine need a GPU each, and it has 2 for them "
        "(1 x NVIDIA H100 80GB HBM3, 1 x NVIDIA H200); use nproc=2 or less, or CUDA_VISIBLE_DEVICES= to train on the "
        "CPU"
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    launch.check(config)


def test_a_slice_trains_one_process(tmp_path, monkeypatch):
    nvidia_smi(monkeypatch, tmp_path, FakeGPU(slices=SLICES))
    with pytest.raises(UserError, match=r"it has 1 for them \(2 x MIG\)"):
        launch.check(composed("launcher=accelerate", "nproc=2"))


def test_engines_beside_trainers_share_the_cores_of_all_trainers(monkeypatch):
    held = [set(range(64))]
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: held[-1])
    monkeypatch.setattr(os, "sched_setaffinity", lambda process, cores: held.append(set(cores)))
    for name in shares.THREADS:
        monkeypatch.setenv(name, "")
    engine = composed("engine.replicas=8").engine
    monkeypatch.setattr(shares, "_before", [])
    shares.train_beside_others(0, 8)
    assert held[-1] == set(range(8)) and os.environ["OMP_NUM_THREADS"] == "8"
    gpus = [str(number) for number in range(8)]
    found = places(engine, shares.cores(), gpus)
    assert [place.cores for place in found] == [tuple(range(8 * n, 8 * n + 8)) for n in range(8)]
