"""What test_sharding.py has one process do, and two."""

import gc
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from safetensors.torch import load_file
from tests_support import composed
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments, set_seed
from trl import SFTConfig, SFTTrainer

from rlreason.config.sections import ShardingConfig
from rlreason.models.critic import SeparateCritic
from rlreason.models.loading import load_for_training, load_tokenizer, save_checkpoint, save_snapshot
from rlreason.models.resolve import resolve
from rlreason.models.scalar_head import ScalarHeadModel
from rlreason.models.sharding import apply_sharding, assert_sharded, full_weights, sharding_arguments
from rlreason.models.unread import read_weights, read_when_split

STEPS, BATCH = 4, 4
CONFIG = composed().model
START = resolve(CONFIG).folder


def sequences() -> Dataset:
    """Random tokens of equal length, so that the mean over a batch is the mean over its halves."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(10, 400, (STEPS * BATCH, 24), generator=generator).tolist()
    return Dataset.from_dict({"input_ids": ids, "labels": ids, "length": [24] * len(ids)})


def arguments(kind: type, output: Path, sharding: ShardingConfig, **more: Any) -> Any:
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    common = {
        "output_dir": str(output),
        "per_device_train_batch_size": BATCH // 2 // processes,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "max_steps": STEPS,
        "max_grad_norm": 1.0,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 0,
        "data_seed": 0,
    }
    return apply_sharding(kind(**{**common, **sharding_arguments(sharding), **more}), sharding)


def described(trainer: Any, sharding: ShardingConfig) -> dict[str, Any]:
    """What the trained model is made of, and how training went."""
    model = trainer.model_wrapped
    assert_sharded(model, sharding)
    units = [type(module).__name__ for module in model.modules() if isinstance(module, FSDPModule)]
    return {
        "fsdp": isinstance(model, FSDPModule),
        "units": units,
        "weights": sum(weights.numel() for weights in model.parameters()),
        "held": sum(
            (weights.to_local() if isinstance(weights, DTensor) else weights).numel() for weights in model.parameters()
        ),
        "split": all(isinstance(weights, DTensor) for weights in model.parameters()),
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "norms": [entry["grad_norm"] for entry in trainer.state.log_history if "loss" in entry],
    }


def policy(folder: Path, sharding: ShardingConfig, resume: bool) -> dict[str, Any]:
    set_seed(0)
    extra = {"completion_only_loss": False, "dataset_kwargs": {"skip_prepare_dataset": True}, "max_length": None}
    saving = {"save_strategy": "steps", "save_steps": STEPS // 2}
    trainer = SFTTrainer(
        model=load_for_training(START, CONFIG, sharding),
        args=arguments(SFTConfig, folder / "policy-scratch", sharding, **extra, **saving),
        train_dataset=sequences(),
        processing_class=load_tokenizer(START),
    )
    checkpoint = str(folder / f"policy-scratch/checkpoint-{STEPS // 2}") if resume else None
    with read_when_split(trainer.accelerator):
        trainer.train(resume_from_checkpoint=checkpoint)
    save_checkpoint(trainer.model, load_tokenizer(START), folder / ("resumed" if resume else "policy"))
    return described(trainer, sharding)


def low_rank(folder: Path, sharding: ShardingConfig) -> dict[str, Any]:
    """LoRA, activations recomputed, weights gathered in bfloat16."""
    set_seed(0)
    extra = {"completion_only_loss": False, "dataset_kwargs": {"skip_prepare_dataset": True}, "max_length": None}
    trainer = SFTTrainer(
        model=load_for_training(START, CONFIG, sharding),
        args=arguments(SFTConfig, folder / "lora", sharding, **extra, bf16=True, gradient_checkpointing=True),
        train_dataset=sequences(),
        processing_class=load_tokenizer(START),
        peft_config=LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    with read_when_split(trainer.accelerator):
        trainer.train()
    save_snapshot(trainer.model, load_tokenizer(START), folder / "snapshot")
    save_checkpoint(trainer.model, load_tokenizer(START), folder / "merged")
    return described(trainer, sharding)


class Judging(Trainer):
    """Every sequence is called right; the loss is that of all tokens."""

    groups: Any = None
    split_gradients: list[bool]

    def create_optimizer(self, *_: Any) -> Any:
        self.optimizer = torch.optim.AdamW(self.groups)
        return self.optimizer

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        ids = inputs["input_ids"]
        gradients = [weights.grad for weights in model.parameters() if weights.grad is not None]
        if gradients:  # in the second of the two forward passes of a step
            self.split_gradients.append(all(isinstance(gradient, DTensor) for gradient in gradients))
        if isinstance(self.accelerator.unwrap_model(model), SeparateCritic):
            states = torch.zeros(len(ids), 13, 1)
            logits = model(states, ids, torch.ones_like(ids))
        else:
            logits = model(ids, torch.full((len(ids),), 4)).logits
        return nn.functional.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))


def judge(folder: Path, sharding: ShardingConfig, critic: bool) -> dict[str, Any]:
    """An outcome reward model, with a learning rate of its own for the head; or a critic, in bfloat16."""
    set_seed(0)
    model = ScalarHeadModel(load_for_training(START, CONFIG, sharding), likelihood=not critic)
    trained = SeparateCritic(model, probability=False) if critic else model
    groups = [
        {"params": list(model.language_model.parameters()), "lr": 1e-3},
        {"params": list(model.head.parameters()), "lr": 1e-2},
    ]
    trainer = Judging(
        model=trained,
        args=arguments(
            TrainingArguments, folder / f"judge-{critic}", sharding, remove_unused_columns=False, bf16=critic
        ),
        train_dataset=sequences().remove_columns(["length"]),
        data_collator=lambda rows: {
            name: torch.tensor([row[name] for row in rows]) for name in ("input_ids", "labels")
        },
    )
    trainer.groups, trainer.split_gradients = groups, []
    with read_when_split(trainer.accelerator):
        trainer.train()
    model.save(folder / ("critic" if critic else "judge"))
    found = described(trainer, sharding)
    weights = full_weights(model)
    norm = sum(float(value.double().square().sum()) for value in weights.values())
    return {**found, "norm": norm, "split gradients": trainer.split_gradients}


def anonymous_memory() -> int:
    """Bytes of this process that are not of a file."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"RssAnon:\s+(\d+) kB", status)[1])


def reading(folder: Path, sharding: ShardingConfig) -> dict[str, Any]:
    """A model of 84 MB in float32, made before it is read, and read."""
    start, rank = folder / "wide", int(os.environ.get("RANK", "0"))
    config = LlamaConfig(
        vocab_size=8000,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=4,
        num_attention_heads=8,
        tie_word_embeddings=True,
    )
    if rank == 0:
        LlamaForCausalLM(config).bfloat16().save_pretrained(start)
    if sharding.name != "none":
        torch.distributed.barrier()
    opened: list[str] = []
    gc.collect()
    before = anonymous_memory()
    with pytest.MonkeyPatch.context() as patch:
        load = AutoModelForCausalLM.from_pretrained
        patch.setattr(
            AutoModelForCausalLM,
            "from_pretrained",
            lambda *given, **more: [opened.append("x"), load(*given, **more)][1],
        )
        model = load_for_training(start, CONFIG, sharding)
        made = anonymous_memory() - before
        read_weights(model)
    stored = load_file(start / "model.safetensors")
    weights = dict(model.named_parameters())
    return {
        "opened": len(opened),
        "made": made,
        "weights": 4 * sum(value.numel() for value in weights.values()),
        "as stored": stored.keys() == weights.keys()
        and all(torch.equal(weights[name], value.float()) for name, value in stored.items()),
        "tied": model.get_output_embeddings().weight is model.get_input_embeddings().weight,
    }


def one_of_several(folder: str, sharding: str) -> None:
    """What each process does: every kind of training, and what it found in a file."""
    torch.set_num_threads(1)
    target, how = Path(folder), ShardingConfig(name=sharding, cpu_offload=False)
    found = {
        "policy": policy(target, how, resume=False),
        "resumed": policy(target, how, resume=True),
        "judge": judge(target, how, critic=False),
        "critic": judge(target, how, critic=True),
        "lora": low_rank(target, how),
        "reading": reading(target, how),
    }
    (target / f"found-{os.environ.get('RANK', '0')}.json").write_text(json.dumps(found))
