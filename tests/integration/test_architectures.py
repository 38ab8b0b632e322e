"""Every architecture that presets have goes through every kind of training, as a small random model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_models import ARCHITECTURES, RESERVE, coin_questions, small_model
from tests_support import BATCHES, JUDGE, UPDATE

pytestmark = pytest.mark.engine

COMMON = [
    "tracker=none",
    "data=files",
    "data.path=data",
    "data.max_prompt_tokens=64",
    "data.max_completion_tokens=24",
    "eval.k=2",
    "eval.k_between=1",
    "eval.resamples=100",
    "model=local",
    "model.kind=embedded",  # it knows the form of prompt=plain
    "model.dtype=float32",
    "model.gradient_checkpointing=false",
    "model.learning_rate=1e-3",
    "model.rl_learning_rate=1e-4",
    "model.orm_learning_rate=1e-3",
    "model.path=model",
]
PPO = ["algo=ppo", *BATCHES, "algo.kl_coefficient=0.1", "model.lora_rank=2"]


def result(folder: Path, name: str) -> dict:
    return json.loads((folder / "runs" / name / "result.json").read_text())


@pytest.fixture
def learn(rlreason, tmp_path):
    """Runs one command after the other on a model of an architecture that has learned the form of an answer."""

    def run(architecture: str, **commands: list[str]) -> Path:
        small_model(tmp_path / "model", architecture, steps=60)
        coin_questions(tmp_path / "data")
        for name, command in commands.items():
            engine = [] if "engine=vllm" in command else ["engine=transformers"]
            rlreason(tmp_path, *COMMON, *engine, *command, f"name={name}").check()
        return tmp_path

    return run


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("count", [2, RESERVE + 2], ids=["in the reserve", "beyond it"])
def test_added_tokens_change_nothing_that_was_there(architecture, count, tmp_path):
    import torch

    from rlreason.models.loading import add_tokens, load_model, load_tokenizer

    old = small_model(tmp_path / "old", architecture, steps=0)
    new = add_tokens(old, [f"<|{number}|>" for number in range(count)], tmp_path / "new")
    ids = torch.tensor([load_tokenizer(new)("Question: Mia has 17 coins.\nAnswer:\n")["input_ids"]])
    before, after = (load_model(folder, "float32") for folder in (old, new))
    with torch.no_grad():
        assert torch.equal(before(ids).logits[..., :-RESERVE], after(ids).logits[..., : before.vocab_size - RESERVE])
    assert after.vocab_size == max(before.vocab_size, len(load_tokenizer(new)))


def test_a_gemma_is_trained(learn):
    folder = learn("gemma3_text", ppo=PPO)
    assert "all 3 batches are done" in result(folder, "ppo")["verdict"]


@pytest.mark.faults
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_architecture_goes_through_everything(architecture, learn):
    folder = learn(
        architecture,
        sft=["algo=sft", "algo.epochs=1", "algo.batch_size=4", "algo.micro_batch_size=4"],
        ei=["algo=ei", *UPDATE, "algo.rounds=1", "algo.threshold=0", "model.lora_rank=2"],
        vllm=["algo=ei", *UPDATE, "algo.rounds=1", "algo.threshold=0", "engine=vllm", "engine.max_sequences=16"],
        ppo=[*PPO, "reward=dense"],
        critic=["algo=ppo", *BATCHES, "algo.critic=separate"],
        grpo=["algo=grpo", *BATCHES],
        orm=["algo=orm", *JUDGE],
        rcrl=["algo=rcrl", *UPDATE, "algo.labels=outcome"],
        merged=["task=export", "task.run=runs/rcrl", "task.to=merged"],
        adapter=["task=export", "task.run=runs/ei", "task.to=adapter", "task.adapter=true"],
    )
    for name in ("ppo", "critic", "grpo"):
        assert "all 3 batches are done" in result(folder, name)["verdict"]
    assert (folder / "merged/model.safetensors").exists() and (folder / "adapter/adapter_config.json").exists()
