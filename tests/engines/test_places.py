"""Where replicas run: shares of cores, GPUs and memory, and nothing of the launch of a distributed training."""

import pytest

from rlreason.config.sections import EngineConfig
from rlreason.engines.places import Place, environment, places
from rlreason.errors import UserError

SETTINGS = {
    "name": "vllm",
    "max_sequences": 64,
    "memory_share": 0.6,
    "tensor_parallel_size": 1,
    "enforce_eager": True,
    "replicas": 2,
    "devices": None,
    "executor": "auto",
    "probe_limit": 0.1,
    "adapters": "auto",
}
GPUS = ["0", "1", "2", "3"]


def engine(**changes):
    return EngineConfig(**SETTINGS | changes)


def test_on_a_cpu_cores_and_memory_are_divided():
    assert places(engine(), [0, 1, 2, 3], []) == [Place((0, 1), None, 0.3), Place((2, 3), None, 0.3)]
    assert [place.cores for place in places(engine(replicas=3), [4, 5], [])] == [(4,), (5,), (4,)]


@pytest.mark.parametrize(
    ("changes", "gpus", "shares"),
    [
        ({}, [("0",), ("1",)], [0.6, 0.6]),
        ({"tensor_parallel_size": 2}, [("0", "1"), ("2", "3")], [0.6, 0.6]),
        ({"replicas": 6}, [("0",), ("1",), ("2",), ("3",), ("0",), ("1",)], [0.3, 0.3, 0.6, 0.6, 0.3, 0.3]),
        ({"tensor_parallel_size": 4}, [("0", "1", "2", "3")] * 2, [0.3, 0.3]),
        ({"devices": [3, 1]}, [("3",), ("1",)], [0.6, 0.6]),
        ({"devices": [3, 1, 0, 2], "tensor_parallel_size": 2}, [("3", "1"), ("0", "2")], [0.6, 0.6]),
        ({"replicas": 1, "devices": [2]}, [("2",)], [0.6]),
    ],
)
def test_gpus_are_taken_in_turn_or_as_named_and_memory_is_divided_where_they_are_shared(changes, gpus, shares):
    found = places(engine(**changes), [0, 1], GPUS)
    assert [place.gpus for place in found] == gpus
    assert [place.memory_share for place in found] == pytest.approx(shares)
    assert all(place.cores in ((0,), (1,), (0, 1)) for place in found)


def test_devices_count_in_the_gpus_that_are_visible():
    found = places(engine(devices=[1, 0]), [], ["GPU-aa", "GPU-bb"])
    assert [place.gpus for place in found] == [("GPU-bb",), ("GPU-aa",)]


def test_ray_hands_out_gpus_itself():
    found = places(engine(executor="ray", tensor_parallel_size=8), [0, 1], GPUS)
    assert found == [Place((0,), None, 0.6), Place((1,), None, 0.6)]


@pytest.mark.parametrize(
    ("changes", "gpus", "words"),
    [
        ({"devices": [0, 1]}, [], "no GPU is visible"),
        ({"devices": [0, 4]}, GPUS, "numbered from 0 to 3"),
        ({"tensor_parallel_size": 8}, GPUS, "engine.executor=ray"),
    ],
)
def test_gpus_that_are_not_there_are_refused(changes, gpus, words):
    with pytest.raises(UserError, match=words):
        places(engine(**changes), [0], gpus)


def test_ray_and_named_devices_exclude_each_other():
    with pytest.raises(UserError, match="Ray hands out"):
        engine(devices=[0, 1], executor="ray")


def test_a_replica_knows_nothing_of_the_launch_of_the_training():
    launch = dict.fromkeys(
        ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "GROUP_RANK", "TORCHELASTIC_RUN_ID"), "1"
    )
    inherited = launch | {"HOME": "/home/me", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "0,1"}
    on_gpu = environment(inherited, Place((), ("1",), 0.5))
    assert on_gpu == {"HOME": "/home/me", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "1"}
    on_cpu = environment(inherited, Place((2, 3, 4), None, 0.5))
    assert on_cpu["OMP_NUM_THREADS"] == on_cpu["MKL_NUM_THREADS"] == "3"
    assert on_cpu["CUDA_VISIBLE_DEVICES"] == "0,1" and "WORLD_SIZE" not in on_cpu
