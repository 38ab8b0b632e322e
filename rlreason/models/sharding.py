"""A model split over the processes that train it, by FSDP2 through accelerate.

What transformers' Trainer takes, the proof that it did what was asked, and the way back to one whole model.

FSDP2 works on CPUs too (gloo), but accelerate offers it to GPUs only: `AcceleratorState.__init__` reads the FSDP plugin
where its processes are of kind MULTI_GPU and the like, and trains with DDP, silently, where they are MULTI_CPU.
`apply_sharding` therefore names the kind anew before the Trainer makes its Accelerator; all that follows asks for FSDP
by then, and moves tensors by the process group's own backend. `assert_sharded` is there so that no DDP run passes for a
sharded one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from rlreason.config.sections import ShardingConfig
from rlreason.distributed import ranks
from rlreason.errors import UserError
from rlreason.models.unread import lacks_weights, read_weights

Value = TypeVar("Value")


def sharding_arguments(config: ShardingConfig) -> dict[str, Any]:
    """Arguments of `transformers.TrainingArguments` that follow from the section `sharding`; none for DDP.

    Call `apply_sharding` on the arguments that are made with them.

    Raises:
        UserError: There is nothing to split over.
    """
    if config.name == "none":
        return {}
    if ranks.size() < 2:
        raise UserError(
            "sharding=fsdp2 splits the model over processes and there is one; set launcher=accelerate nproc=2 or "
            "more, or sharding=none"
        )
    # By default every process keeps all gradients, whole and in float32, until the last forward pass of a step.
    each = {"gradient_accumulation_kwargs": {"sync_each_batch": True}}
    return {"fsdp": True, "fsdp_config": fsdp_config(config), "accelerator_config": each}


def fsdp_config(config: ShardingConfig) -> dict[str, Any]:
    """`TrainingArguments.fsdp_config`: every decoder layer is a unit, as the model's `_no_split_modules` says.

    Activation checkpointing is left to the model (`model.gradient_checkpointing`), and checkpoints hold whole weights,
    so that any number of processes can resume from them.
    """
    return {
        "version": 2,
        "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "reshard_after_forward": True,
        "cpu_offload": config.cpu_offload,
        "cpu_ram_efficient_loading": False,
        "state_dict_type": "FULL_STATE_DICT",
    }


def apply_sharding(arguments: Any, config: ShardingConfig) -> Any:
    """Settle in place what TrainingArguments have no words for; call it before the Trainer is made.

    A process trains on one GPU, however many it sees: for more, transformers would wrap the model in DataParallel,
    which TRL refuses. FSDP2 has no autocast: its policy casts the split weights, here to bfloat16 where the arguments
    ask for it, with the sum of the gradients over processes in float32 (accelerate's own choice sums in bfloat16).
    """
    arguments._n_gpu = min(1, arguments.n_gpu)
    if config.name == "none":
        return arguments
    import torch
    from accelerate.utils import DistributedType
    from torch.distributed.fsdp import MixedPrecisionPolicy

    low = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    arguments.fsdp_plugin_args["mixed_precision_policy"] = low if arguments.bf16 else MixedPrecisionPolicy()
    if arguments.distributed_state.distributed_type == DistributedType.MULTI_CPU:
        arguments.distributed_state.distributed_type = DistributedType.MULTI_GPU
    return arguments


def assert_sharded(model: Any, config: ShardingConfig) -> None:
    """Make sure that `trainer.model_wrapped`, once training has begun, is split as it was asked for.

    Raises:
        RuntimeError: It is not, and would train as if `sharding=none`; or its weights have not been read.
    """
    if config.name == "none":
        return
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor

    found = f"sharding={config.name} was asked for, and the model is a {type(model).__name__}"
    whole = [
        name
        for name, weights in model.named_parameters()
        if not (isinstance(weights, DTensor) and any(place.is_shard() for place in weights.placements))
    ]
    if not isinstance(model, FSDPModule):
        raise RuntimeError(found)
    if lacks_weights(model):
        raise RuntimeError(f"{found} whose weights have not been read")
    if whole:
        raise RuntimeError(f"{found} of which {len(whole)} weights are not split, {whole[0]} among them")


def split(accelerator: Any, module: Any) -> Any:
    """Split a module in place as the `accelerator` of a Trainer splits the model that it trains; that module.

    The Trainer's arguments ask for FSDP2, see `apply_sharding`; the module names the classes of its layers in
    `_no_split_modules`.
    """
    from accelerate.utils.fsdp_utils import fsdp2_prepare_model

    prepared = fsdp2_prepare_model(accelerator, module)
    read_weights(prepared)
    return prepared


def as_forward_pass(module: Any, function: Callable[[], Value]) -> Value:
    """What `function` computes with parts of `module`: FSDP2 gathers weights in forward passes only."""
    from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method

    if not isinstance(module, FSDPModule):
        return function()
    module.compute_parts = function
    register_fsdp_forward_method(module, "compute_parts")
    try:
        result: Value = module.compute_parts()
    finally:
        del module.compute_parts
    return result


def is_sharded(module: Any) -> bool:
    """Whether this process holds a part of each weight of `module` only."""
    from torch.distributed.tensor import DTensor

    return any(isinstance(weights, DTensor) for weights in module.parameters())


def full_weights(module: Any, trained_only: bool = False) -> dict[str, Any]:
    """All weights of a module, by name, in main memory: a split module's on rank 0 alone, where all ranks call it.

    `trained_only` leaves weights of a split module without a gradient out, such as those below LoRA adapters.
    """
    if not is_sharded(module):
        return dict(module.state_dict())
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=trained_only)
    return dict(get_model_state_dict(module, options=options))


def whole(language_model: Any) -> Any:
    """On rank 0 a language model itself, with its LoRA adapters, or a plain copy of a split one; None on the others.

    Every process has to call it. Rank 0 holds all weights of a split model in main memory for it.
    """
    if not is_sharded(language_model):
        return language_model if ranks.rank() == 0 else None
    import torch
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    weights = full_weights(language_model)
    if ranks.rank() > 0:
        return None
    config = language_model.config
    with torch.device("meta"):
        plain = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config)
        plain.generation_config = language_model.generation_config
        if hasattr(language_model, "peft_config"):
            from peft import get_peft_model

            plain = get_peft_model(plain, language_model.peft_config["default"])
    plain.load_state_dict(weights, strict=False, assign=True)
    plain.tie_weights()
    absent = [name for name, value in plain.named_parameters() if value.is_meta]
    if absent:
        raise RuntimeError(f"the gathered weights lack {absent[0]} and {len(absent) - 1} more")
    return plain
