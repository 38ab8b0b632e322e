"""A model split over the processes that train it: FSDP2 through accelerate, ZeRO-2 and ZeRO-3 through DeepSpeed.

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

Value = TypeVar("Value")

ZERO_STAGES = {"zero2": 2, "zero3": 3}
# Elements of one collective: 1 GB of bfloat16. DeepSpeed's own default, written out because transformers' "auto" needs
# a hidden size, which a model with a scalar head does not name.
BUCKET_SIZE = 500_000_000


def sharding_arguments(config: ShardingConfig) -> dict[str, Any]:
    """Arguments of `transformers.TrainingArguments` that follow from the section `sharding`; none for DDP.

    Call `apply_sharding` on the arguments that are made with them.

    Raises:
        UserError: There is nothing to split over, DeepSpeed is not installed, or there is no GPU for it.
    """
    if config.name == "none":
        return {}
    if config.name == "fsdp2":
        if ranks.size() < 2:
            raise UserError(
                "sharding=fsdp2 splits the model over processes and there is one; set launcher=accelerate nproc=2 or "
                "more, or sharding=none"
            )
        # By default every process keeps all gradients, whole and in float32, until the last forward pass of a step.
        each = {"gradient_accumulation_kwargs": {"sync_each_batch": True}}
        return {"fsdp": True, "fsdp_config": fsdp_config(config), "accelerator_config": each}
    require_deepspeed(config)
    return {"deepspeed": deepspeed_config(config)}


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


def deepspeed_config(config: ShardingConfig) -> dict[str, Any]:
    """DeepSpeed's configuration; transformers fills in "auto" from its own arguments.

    ZeRO-3 gathers the weights when they are saved, in bfloat16 where that is what is trained in.
    """
    stage = ZERO_STAGES[config.name]
    zero: dict[str, Any] = {
        "stage": stage,
        "overlap_comm": True,
        "contiguous_gradients": True,
        "reduce_bucket_size": BUCKET_SIZE,
    }
    if stage == 2:
        zero |= {"reduce_scatter": True, "allgather_partitions": True, "allgather_bucket_size": BUCKET_SIZE}
    else:
        zero |= {
            "stage3_prefetch_bucket_size": BUCKET_SIZE // 10,
            "stage3_param_persistence_threshold": 100_000,
            "stage3_gather_16bit_weights_on_model_save": True,
        }
    if config.cpu_offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
        if stage == 3:
            zero["offload_param"] = {"device": "cpu", "pin_memory": True}
    return {
        "zero_optimization": zero,
        "bf16": {"enabled": "auto"},
        "gradient_clipping": "auto",
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
    }


def require_deepspeed(config: ShardingConfig) -> None:
    """Refuse ZeRO where it cannot work.

    Raises:
        UserError: DeepSpeed is not installed, or this machine has no GPU (transformers leaves DeepSpeed out on a CPU).
    """
    from importlib.util import find_spec

    if find_spec("deepspeed") is None:
        raise UserError(
            f"sharding={config.name} needs DeepSpeed, which is not installed: pip install 'rlreason[deepspeed]', or "
            "sharding=fsdp2, which needs nothing more"
        )
    import torch

    if not torch.cuda.is_available():
        raise UserError(f"sharding={config.name} needs a GPU; on a CPU sharding=fsdp2 works")


def apply_sharding(arguments: Any, config: ShardingConfig) -> Any:
    """Settle what TrainingArguments have no words for; call it before the Trainer is made.

    FSDP2 has no autocast: its policy casts the split weights, here to bfloat16 where the arguments ask for it, with the
    sum of the gradients over processes in float32 (accelerate's own choice sums in bfloat16).

    Args:
        arguments: `transformers.TrainingArguments` made with `sharding_arguments`; changed in place.
        config: How the model is split.

    Returns:
        `arguments`.
    """
    if config.name != "fsdp2":
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
    """Make sure that a model is split as it was asked for.

    Args:
        model: As the trainer wrapped it, `trainer.model_wrapped`, once training has begun.
        config: How it was to be split.

    Raises:
        RuntimeError: It is not, and would train as if `sharding=none`.
    """
    if config.name == "none":
        return
    found = f"sharding={config.name} was asked for, and the model is a {type(model).__name__}"
    if config.name == "fsdp2":
        from torch.distributed.fsdp import FSDPModule
        from torch.distributed.tensor import DTensor

        whole = [
            name
            for name, weights in model.named_parameters()
            if not (isinstance(weights, DTensor) and any(place.is_shard() for place in weights.placements))
        ]
        if not isinstance(model, FSDPModule):
            raise RuntimeError(found)
        if whole:
            raise RuntimeError(f"{found} of which {len(whole)} weights are not split, {whole[0]} among them")
        return
    stage = model.zero_optimization_stage() if hasattr(model, "zero_optimization_stage") else 0
    if stage != ZERO_STAGES[config.name]:
        raise RuntimeError(f"{found} at ZeRO stage {stage}")


def split(accelerator: Any, module: Any) -> Any:
    """Split a module as accelerate splits the model that a Trainer trains, in place.

    Args:
        accelerator: Of a Trainer whose arguments ask for FSDP2, see `apply_sharding`.
        module: With the classes of its layers in `_no_split_modules`.

    Returns:
        `module`.
    """
    from accelerate.utils.fsdp_utils import fsdp2_prepare_model

    return fsdp2_prepare_model(accelerator, module)


def as_forward_pass(module: Any, function: Callable[[], Value]) -> Value:
    """What `function` returns, which computes with parts of `module`: FSDP2 gathers weights in forward passes only.

    Args:
        module: A model, split or not.
        function: Returns tensors, or a tuple of them.
    """
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
    """Whether this process holds a part of each weight of `module` only, by FSDP2 or ZeRO-3."""
    from torch.distributed.tensor import DTensor

    return _by_zero(module) or any(isinstance(weights, DTensor) for weights in module.parameters())


def _by_zero(module: Any) -> bool:
    return any(hasattr(weights, "ds_id") for weights in module.parameters())  # as DeepSpeed itself tells


def full_weights(module: Any, trained_only: bool = False) -> dict[str, Any]:
    """All weights of a module that may be split, by name, in main memory.

    Every process has to call it.

    Args:
        module: A model, or a part of one.
        trained_only: Leave out weights without a gradient, such as those below LoRA adapters.

    Returns:
        The weights on process 0, nothing on the others. Of a module that is not split: its own, everywhere.
    """
    if not is_sharded(module):
        return dict(module.state_dict())
    if _by_zero(module):
        return _gathered(module, trained_only)
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=trained_only)
    return dict(get_model_state_dict(module, options=options))


def _gathered(module: Any, trained_only: bool) -> dict[str, Any]:
    """The weights that ZeRO-3 split, one after the other, so that a GPU holds one of them whole at a time."""
    import deepspeed

    found = {}
    for name, weights in module.named_parameters():
        if trained_only and not weights.requires_grad:
            continue
        with deepspeed.zero.GatheredParameters([weights]):
            if ranks.rank() == 0:
                found[name] = weights.detach().cpu().clone()
    return found


def whole(language_model: Any) -> Any:
    """A language model of transformers, or one with LoRA adapters, in one piece.

    Every process has to call it. Process 0 holds all weights in main memory for it.

    Returns:
        On process 0 the model itself where it is not split, else a plain copy; None on the others.
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
        plain = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config)  # `from_config` would split it for ZeRO-3 again
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
