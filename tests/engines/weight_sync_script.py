"""The checks of test_weight_sync.py, in one process, because an engine takes seconds to start."""

import shutil
import sys
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlreason.config.sections import EngineConfig, ModelConfig
from rlreason.engines import shared_memory
from rlreason.engines.engine import SampleRequest, SamplingSettings
from rlreason.engines.start import start_engine
from rlreason.errors import UserError
from rlreason.lab.weight_check import WeightCheck
from rlreason.models.loading import save_for_engine, save_snapshot
from rlreason.models.probe import probe_of
from rlreason.types import Problem

embedded, folder, engine_name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
tokenizer = AutoTokenizer.from_pretrained(embedded)
LIMIT, CONTEXT = 0.05, 200
ENGINE = EngineConfig(
    name=engine_name,
    max_sequences=64,
    memory_share=0.5,
    tensor_parallel_size=1,
    enforce_eager=True,
    replicas=1,
    devices=None,
    executor="auto",
    probe_limit=LIMIT,
    adapters="auto",
)
MODEL = ModelConfig(
    name="tiny",
    path="x",
    revision=None,
    kind=None,
    thinking=None,
    parameters=None,
    shape=None,
    licence=None,
    dtype="float32",
    learning_rate=1e-3,
    orm_learning_rate=1e-4,
    rl_learning_rate=1e-6,
    micro_batch_size=1,
    gradient_checkpointing=False,
    lora_rank=0,
    lora_alpha=1.0,
)
LONG = "Tom buys 3 more. Ana gives Tom 2 apples. " * 4
PROMPTS = [tuple(tokenizer(f"Question: Tom has {n} apples. {LONG}\nAnswer:\n")["input_ids"]) for n in range(4)]
REQUESTS = [
    SampleRequest(Problem(str(n), "?", "0"), s, 7 * s + n, ids) for n, ids in enumerate(PROMPTS) for s in range(3)
]


class Notes(dict):
    """Stands for a run and its display."""

    def note(self, **facts):
        self.update(facts)

    def line(self, text):
        raise AssertionError(text)

    def status(self, text):
        return nullcontext()


def changed(seed, scale=1.0):
    """The embedded model with other weights."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(embedded, dtype=torch.float32)
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(1 + 0.1 * scale * seed).add_(0.02 * scale * torch.randn_like(weights))
    return model


def adapted(seed):
    """The embedded model with adapters that change what it says."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(embedded, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=3, lora_alpha=12, target_modules="all-linear", task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                weights.normal_(0, 0.3)
    return model


def saved(model, name, below=None):
    save_for_engine(model, tokenizer, folder / name, below, "float32")
    return folder / name


def damaged(checkpoint, factor):
    """A copy of a checkpoint in which one tensor of a layer in the middle has changed since it was saved."""
    copy = checkpoint.with_name(f"{checkpoint.name}-times-{factor}")
    shutil.copytree(checkpoint, copy)
    (file,) = copy.glob("*.safetensors")
    tensors = load_file(file)
    name = next(name for name in sorted(tensors) if "layers.2.mlp.down_proj" in name)
    tensors[name] = tensors[name] * factor
    save_file(tensors, file, metadata={"format": "pt"})
    return copy


def loaded(engine, check, policy):
    """The probe's gap after a load."""
    notes = Notes()
    engine.load(policy)
    check(engine, policy, notes, notes)
    return notes["probe_gap"]


def refused(engine, check, policy, words):
    with pytest.raises(UserError) as error:
        loaded(engine, check, policy)
    assert words in str(error.value) and policy.name in str(error.value), error.value


def assert_sampled_from(engine, reference):
    rollouts = [r for batch in engine.sample(REQUESTS, SamplingSettings(0.7, 40)) for r in batch]
    assert len(rollouts) == len(REQUESTS)
    for rollout in rollouts:
        ids = torch.tensor([[*rollout.prompt_ids, *rollout.completion_ids]])
        with torch.no_grad():
            logprobs = (reference(ids).logits[0] / 0.7).log_softmax(-1)
        for offset, (token, ours) in enumerate(zip(rollout.completion_ids, rollout.sampler_logprobs, strict=True)):
            theirs = logprobs[len(rollout.prompt_ids) - 1 + offset, token].item()
            assert abs(theirs - ours) < 1e-3, (offset, theirs, ours)
    return rollouts


def check_whole_checkpoints():
    engine, check = start_engine(ENGINE, MODEL, CONTEXT, 0), WeightCheck(LIMIT, CONTEXT - 1)
    pretrained = AutoModelForCausalLM.from_pretrained(embedded, dtype=torch.float32)
    first, second = changed(1), changed(2)
    folders = [saved(first, "first"), saved(second, "second")]
    for policy, reference in [(embedded, pretrained), *zip(folders, (first, second), strict=True)]:
        assert loaded(engine, check, policy) < 1e-4
        assert_sampled_from(engine, reference)
    assert probe_of(folders[0]).logprobs != probe_of(folders[1]).logprobs

    refused(engine, check, damaged(folders[0], 3.0), "stale or broken weights")
    refused(engine, check, damaged(folders[0], float("nan")), "stale or broken weights")
    assert loaded(engine, check, folders[1]) < 1e-4
    with silent_engine(engine):
        refused(engine, check, saved(changed(2, 1.01), "moved-a-little"), "stale weights")
        refused(engine, check, folders[0], "stale or broken weights")

    assert loaded(engine, check, embedded) < 1e-4
    rollouts = assert_sampled_from(engine, pretrained)
    favourite = rollouts[0].completion_ids[0]
    settings = SamplingSettings(0.7, 40, banned_token_ids=(favourite,))
    banned = [r for batch in engine.sample(REQUESTS, settings) for r in batch]
    assert any(favourite in r.completion_ids for r in rollouts)
    assert not any(favourite in r.completion_ids for r in banned)
    return engine


def check_adapters():
    engine, check = start_engine(ENGINE, MODEL, CONTEXT, 0, adapter_rank=3), WeightCheck(LIMIT, CONTEXT - 1)
    first, second = adapted(1), adapted(2)
    folders = [saved(first, "adapters-1", embedded), saved(second, "adapters-2", embedded)]
    assert not list(folders[0].glob("model*.safetensors")), "adapters alone"
    merged = folder / "merged"
    save_snapshot(first, tokenizer, merged)
    assert loaded(engine, check, embedded) < 1e-4
    for policy, reference in [(folders[0], first), (folders[1], second), (merged, first), (folders[1], second)]:
        assert loaded(engine, check, policy) < 1e-4
        assert_sampled_from(engine, reference)

    refused(engine, check, damaged(folders[0], 30.0), "stale or broken weights")
    assert loaded(engine, check, folders[1]) < 1e-4
    with silent_engine(engine):
        refused(engine, check, folders[0], "stale or broken weights")
    assert loaded(engine, check, folders[1]) < 1e-4


def silent_engine(engine):
    """Loads do nothing, and nothing says so."""
    return mock.patch.object(engine, "load", return_value=None)


def main():
    shared_memory.MEMORY = folder / "memory"  # other runs of this machine come and go, and are killed, in its own
    shared_memory.MEMORY.mkdir(parents=True)
    check_whole_checkpoints().close()  # two would share the memory
    check_adapters()
    assert not list(shared_memory.MEMORY.iterdir()), "weights of nobody in shared memory"
    print("all checks passed")


main()
