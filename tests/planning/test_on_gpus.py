"""What a plan for GPUs counts beside training itself: the model that scores, loading, resumable checkpoints."""

from __future__ import annotations

import pytest
from tests_support import composed

from rlreason.planning.hardware import GIB, Hardware
from rlreason.planning.phases import Phase, phases
from rlreason.planning.shape import model_shape
from rlreason.planning.storage import storage

EIGHT = Hardware(8, 80 * GIB, "NVIDIA H100", 1000 * GIB, 64, fast_bfloat16=True)
PPO = ("algo=ppo", "model=llama7b", "data=gsm8k", "hardware=gpu80x8")


def held(*overrides: str) -> dict[str, Phase]:
    config = composed(*overrides)
    return {phase.name: phase for phase in phases(config, model_shape(config.model), EIGHT)}


def test_a_model_that_scores_counts_beside_what_training_keeps_and_not_beside_the_engine() -> None:
    parameters = model_shape(composed(*PPO).model).parameters
    found = held(*PPO, "reward=orm")
    judging = found["ORM scoring"].device
    assert judging["outcome reward model"] == 2 * parameters
    # Weights and optimizer of the policy, in eight parts, stay where they are; the engine has given its memory back.
    assert (judging["weights"], judging["optimizer"]) == (4 * parameters / 8, 8 * parameters / 8)
    assert not {"engine", "KV cache"} & set(judging)
    # Between batches it lies in main memory.
    assert all(
        phase.host["outcome reward model"] == 2 * parameters for name, phase in found.items() if "training" not in name
    )
    assert "outcome reward model" not in held(*PPO)["sampling"].host


@pytest.mark.parametrize("hardware", [["hardware=gpu80x8"], ["hardware=gpu80x8-2nodes", "launcher.address=one:1"]])
@pytest.mark.parametrize("algorithm", [["algo=ei"], ["algo=ppo", "algo.critic=separate", "algo.kl_coefficient=0.1"]])
def test_main_memory_for_loading_does_not_grow_with_processes(hardware: list[str], algorithm: list[str]) -> None:
    settings = ["model=llama13b", "data=gsm8k", *algorithm]
    checkpoint = 2 * model_shape(composed(*settings).model).parameters  # as published, in float16
    for found in (held(*settings, *hardware), held(*settings, "hardware=gpu80x1")):
        loading = [phase.host["loading"] for phase in found.values() if "loading" in phase.host]
        assert loading
        assert max(loading) <= 1.5 * checkpoint


@pytest.mark.parametrize(
    ("overrides", "bytes_each"),
    [
        (["hardware=gpu80x8"], 16),  # model.safetensors, pytorch_model_fsdp.bin and two moments
        (["hardware=gpu80x1"], 12),
        (["hardware=gpu80x8", "algo=ppo"], 16),
        (["hardware=gpu80x8", "algo=ppo", "algo.critic=separate"], 16 + 12),
    ],
)
def test_a_resumable_checkpoint_of_a_split_model_holds_its_weights_twice(overrides: list[str], bytes_each: int) -> None:
    config = composed("model=llama7b", "data=gsm8k", *overrides)
    shape = model_shape(config.model)
    assert storage(config, shape, [])["resumable, for a while"] == 2 * bytes_each * shape.parameters
