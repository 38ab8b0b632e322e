"""Memory of a training step: against torch's allocator, numbers worked by hand, and published figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests_support import composed

from rlreason.planning.memory import TrainingStep, states, training_peak
from rlreason.planning.shape import ModelShape, model_shape, read_shape

SEVEN, THIRTEEN, QWEN, SMOLLM = (
    model_shape(composed(f"model={name}").model) for name in ("llama7b", "llama13b", "qwen2.5-0.5b", "smollm2-135m")
)
STEP = TrainingStep(sequences=4, length=1024, completion=512, cuda=True)
SHAPES = {
    "narrow": {"hidden": 128, "layers": 4, "heads": 4, "key_value_heads": 4, "inner": 384, "vocabulary": 512},
    "wide": {"hidden": 256, "layers": 3, "heads": 4, "key_value_heads": 2, "inner": 2048, "vocabulary": 1024},
}


@pytest.mark.engine
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ("narrow", {"sequences": 8, "length": 64}),
        ("narrow", {"sequences": 2, "length": 192, "accumulation": 2}),
        ("narrow", {"sequences": 8, "length": 64, "checkpointing": True}),
        ("narrow", {"sequences": 8, "length": 64, "rank": 8}),
        ("narrow", {"sequences": 4, "length": 96, "rank": 16, "checkpointing": True}),
        ("wide", {"sequences": 4, "length": 64, "accumulation": 2, "checkpointing": True}),
        ("wide", {"sequences": 1, "length": 32}),
        ("wide", {"sequences": 2, "length": 128, "rank": 8, "tied": True}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(f"{name}={item}" for name, item in value.items()),
)
def test_the_plan_is_within_ten_percent_of_what_torch_held(
    shape: str, options: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.memory import Setting, measured, planned

    monkeypatch.setenv("HF_DEACTIVATE_ASYNC_LOAD", "1")
    setting = Setting("test", **SHAPES[shape], **options)
    assert sum(planned(setting).values()) == pytest.approx(measured(setting, tmp_path)["allocator"], rel=0.1)


def test_parameters_of_the_known_models() -> None:
    assert SEVEN.parameters == 6_738_415_616
    assert THIRTEEN.parameters == 13_015_864_320
    assert QWEN.parameters == 494_032_768
    assert SMOLLM.parameters == 134_515_008
    # By hand: 40 blocks, rank 16 on all seven maps: 40 * 16 * (4 * (5120 + 5120) + 3 * (5120 + 13824)).
    assert THIRTEEN.adapters(16) == 62_586_880
    # A token of 13B by hand: 40 blocks * 2 * 5120 numbers of 2 bytes.
    assert THIRTEEN.cache_bytes(2) == 819_200


@pytest.mark.parametrize("shape", [SEVEN, THIRTEEN], ids=["7B", "13B"])
def test_weights_agree_with_accelerate_estimate_memory(shape: ModelShape) -> None:
    from accelerate import init_empty_weights
    from accelerate.utils import calculate_maximum_sizes
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        intermediate_size=shape.intermediate_size,
        vocab_size=shape.vocabulary_size,
    )
    with init_empty_weights():
        total, _ = calculate_maximum_sizes(LlamaForCausalLM(config))
    assert states(shape, STEP)["weights"] == pytest.approx(total, rel=1e-6)
    read = read_shape(config.to_dict(), None)
    assert (read.parameters, read.heads, read.tied) == (shape.parameters, shape.heads, False)


def test_splitting_agrees_with_figure_1_of_the_zero_paper() -> None:
    # Rajbhandari et al. 2020: 7.5 billion parameters on 64 GPUs, everything split: 1.9 GB.
    model = replace(SEVEN, counted=7_500_000_000)
    split = replace(STEP, processes=64, sharding="fsdp2")
    assert sum(states(model, split).values()) / 1e9 == pytest.approx(1.9, abs=0.05)


def test_states_by_hand() -> None:
    n = SEVEN.parameters
    assert states(SEVEN, STEP) == {"weights": 4 * n, "gradients": 4 * n, "optimizer": 8 * n}
    # DDP sends gradients in buckets of their own.
    assert states(SEVEN, replace(STEP, processes=2))["gradients"] == 8 * n
    assert states(SEVEN, replace(STEP, processes=8, sharding="fsdp2")) == {
        "weights": n / 2,
        "gradients": n / 2,
        "optimizer": n,
    }
    adapters = SEVEN.adapters(16)
    assert states(SEVEN, replace(STEP, rank=16)) == {
        "weights": 2 * n + 4 * adapters,
        "gradients": 4 * adapters,
        "optimizer": 8 * adapters,
    }


def test_what_makes_a_step_smaller() -> None:
    def total(**changes: object) -> float:
        return sum(training_peak(SEVEN, replace(STEP, **changes)).values())

    whole = total()
    assert total(checkpointing=True) < whole
    assert total(checkpointing=True, rank=16) < total(checkpointing=True) / 3
    assert total(checkpointing=True, processes=8, sharding="fsdp2") < total(checkpointing=True) / 3
    assert total(checkpointing=True, sequences=1) < total(checkpointing=True)
    offloaded = total(checkpointing=True, processes=8, sharding="fsdp2", offload=True)
    assert offloaded < total(checkpointing=True, processes=8, sharding="fsdp2")
