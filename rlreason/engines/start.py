"""Which engine, and where: vLLM, or transformers where vLLM is not installed; in this process or in others."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from rlreason.config.sections import EngineConfig, ModelConfig
from rlreason.distributed import ranks
from rlreason.engines.engine import Engine
from rlreason.errors import UserError
from rlreason.models.loading import trains_on_gpu
from rlreason.quiet import quiet_libraries


def choose_engine(name: str) -> str:
    """The engine that `name` stands for on this machine.

    Raises:
        UserError: vLLM was asked for and is not installed.
    """
    installed = importlib.util.find_spec("vllm") is not None
    if name == "auto":
        return "vllm" if installed else "transformers"
    if name == "vllm" and not installed:
        raise UserError("engine=vllm: vLLM is not installed; run `make install`, or use engine=transformers")
    return name


def takes_adapters(config: EngineConfig) -> bool:
    """Whether the engine gets the LoRA adapters of a policy in training alone, and not all weights merged."""
    if config.adapters != "auto":
        return config.adapters == "alone"
    if choose_engine(config.name) != "vllm":
        return False
    return trains_on_gpu()


def start_engine(
    config: EngineConfig,
    model_config: ModelConfig,
    max_model_tokens: int,
    seed: int,
    adapter_rank: int = 0,
    report: Callable[[str], None] | None = None,
    cache_tokens: int | None = None,
) -> Engine:
    """An engine for models of `model_config`, idle until its first `load`.

    It lives in this process where a CPU samples, since another one starts later and samples more slowly. It lives in
    processes of its own where there are to be replicas; where this process trains together with others, whose world
    the engine would join; and on GPUs, where the end of a process is the one thing that gives all of the memory back,
    and a fault in a kernel ends the process that it came up in.

    Args:
        config: Which engine, its limits, its replicas and where they run.
        model_config: Precision of the weights.
        max_model_tokens: Longest prompt plus longest completion.
        seed: Seed of the engine itself; every request brings its own.
        adapter_rank: Rank of LoRA adapters that may be loaded on a checkpoint; 0: whole checkpoints alone.
        report: Called with one line about each replica that is lost; None: a logged warning.
        cache_tokens: Tokens whose keys and values vLLM is to reserve on a CPU, in each replica; None: as many as
            `config.max_sequences` of the longest contexts have.

    Raises:
        UserError: What is asked for cannot be had on this machine.
    """
    name = choose_engine(config.name)
    if config.executor == "ray" and importlib.util.find_spec("ray") is None:
        raise UserError("engine.executor=ray: Ray is not installed; run `pip install 'rlreason[ray]'`")
    if config.replicas == 1 and config.devices is None and ranks.size() == 1 and not trains_on_gpu():
        return in_this_process(name, config, model_config, max_model_tokens, seed, adapter_rank, cache_tokens)
    if name == "transformers" and config.replicas > 1:
        raise UserError(
            f"engine.replicas={config.replicas}: transformers draws a whole batch from one random state, so samples "
            "would depend on which replica draws them; use engine=vllm or engine.replicas=1"
        )
    from rlreason.distributed.shares import cores, gpus
    from rlreason.engines.places import places
    from rlreason.engines.replicas import Replicas
    from rlreason.engines.vllm import vocabulary_size

    where = places(config, cores(), gpus() if trains_on_gpu() else [])
    alone = [replace(config, replicas=1, devices=None, memory_share=place.memory_share) for place in where]
    builds = [
        partial(in_this_process, name, one, model_config, max_model_tokens, seed, adapter_rank, cache_tokens)
        for one in alone
    ]
    if name == "vllm":
        return Replicas(builds, where, config.max_sequences, report, fixed=vocabulary_size)
    return Replicas(builds, where, None, report)


def in_this_process(
    name: str,
    config: EngineConfig,
    model_config: ModelConfig,
    max_model_tokens: int,
    seed: int,
    adapter_rank: int,
    cache_tokens: int | None,
) -> Engine:
    """One copy of the engine `name`, in this process; arguments as those of `start_engine`."""
    quiet_libraries()
    if name == "vllm":
        from rlreason.engines.vllm import VLLMEngine

        return VLLMEngine(config, model_config, max_model_tokens, seed, adapter_rank, cache_tokens)
    from rlreason.engines.transformers import TransformersEngine

    return TransformersEngine(config, model_config)
