"""Engines generate rollouts from a checkpoint: vLLM, or transformers where vLLM is not installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

from rlreason import distributed
from rlreason.config import EngineConfig, ModelConfig
from rlreason.errors import UserError
from rlreason.types import Rollout


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """One completion to draw.

    Args:
        problem_id: The problem that the prompt asks.
        sample: The number of this completion among those of its problem.
        seed: Seed of its random numbers; ignored by greedy decoding.
        prompt_ids: Token ids of the prompt.
        max_tokens: Tokens after which this completion is cut; None: as the settings say.
    """

    problem_id: str
    sample: int
    seed: int
    prompt_ids: tuple[int, ...]
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """How completions are drawn.

    Args:
        temperature: Divides the logits; 0 is greedy decoding.
        max_tokens: Tokens after which a completion is cut.
        stop: Texts at which a completion ends; they are not part of it.
        stop_token_ids: Tokens after which a completion ends as well; they are part of it.
        banned_token_ids: Tokens that are never drawn.
    """

    temperature: float
    max_tokens: int
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    banned_token_ids: tuple[int, ...] = ()


# Called before each step of an engine with the number of requests under way; gives those to begin beside them, waiting
# for some where none is under way, or None to end at once.
Feed = Callable[[int], Sequence[SampleRequest] | None]


class Engine(Protocol):
    """Samples from one checkpoint at a time."""

    def load(self, checkpoint: Path) -> None:
        """Make `checkpoint` the policy to sample from."""

    def sample(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> Iterator[list[Rollout]]:
        """Draw all requests, yielding rollouts as they finish, in any order."""

    def score(self, token_ids: Sequence[int]) -> tuple[float, ...]:
        """Log-probability of each token but the first given those before it, in nats, at temperature 1."""

    def release(self) -> None:
        """Give memory that training can use back until the next `load`."""

    def close(self) -> None:
        """Give everything back: a sweep runs its jobs in one process."""


@runtime_checkable
class FedEngine(Protocol):
    """An engine whose running batch takes new requests at any step."""

    def sample_fed(self, feed: Feed, settings: SamplingSettings) -> Iterator[list[Rollout]]:
        """Draw what `feed` gives until it gives None, yielding rollouts as they finish, in any order."""


def choose(name: str) -> str:
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
    if choose(config.name) != "vllm":
        return False
    import torch

    return bool(torch.cuda.is_available())


def start(
    config: EngineConfig,
    model_config: ModelConfig,
    max_model_tokens: int,
    seed: int,
    adapter_rank: int = 0,
    report: Callable[[str], None] | None = None,
) -> Engine:
    """An engine for models of `model_config`, idle until its first `load`.

    It lives in this process, unless there are to be replicas, it has GPUs of its own, or this process trains together
    with others, whose world the engine would join.

    Args:
        config: Which engine, its limits, its replicas and where they run.
        model_config: Precision of the weights.
        max_model_tokens: Longest prompt plus longest completion.
        seed: Seed of the engine itself; every request brings its own.
        adapter_rank: Rank of LoRA adapters that may be loaded on a checkpoint; 0: whole checkpoints alone.
        report: Called with one line about each replica that is lost; None: a logged warning.

    Raises:
        UserError: What is asked for cannot be had on this machine.
    """
    name = choose(config.name)
    if config.executor == "ray" and importlib.util.find_spec("ray") is None:
        raise UserError("engine.executor=ray: Ray is not installed; run `pip install 'rlreason[ray]'`")
    if config.replicas == 1 and config.devices is None and distributed.size() == 1:
        return in_this_process(name, config, model_config, max_model_tokens, seed, adapter_rank)
    if name == "transformers" and config.replicas > 1:
        raise UserError(
            f"engine.replicas={config.replicas}: transformers draws a whole batch from one random state, so samples "
            "would depend on which replica draws them; use engine=vllm or engine.replicas=1"
        )
    from rlreason.engines.places import places
    from rlreason.engines.replicas import Replicas
    from rlreason.shares import cores, gpus

    visible = gpus()
    if visible:
        import torch

        visible = visible if torch.cuda.is_available() else []
    where = places(config, cores(), visible)
    alone = [replace(config, replicas=1, devices=None, memory_share=place.memory_share) for place in where]
    builds = [partial(in_this_process, name, one, model_config, max_model_tokens, seed, adapter_rank) for one in alone]
    return Replicas(builds, where, config.max_sequences if name == "vllm" else None, report)


def in_this_process(
    name: str, config: EngineConfig, model_config: ModelConfig, max_model_tokens: int, seed: int, adapter_rank: int
) -> Engine:
    """One copy of the engine `name`, in this process; arguments as those of `start`."""
    if name == "vllm":
        from rlreason.engines.vllm import VLLMEngine

        return VLLMEngine(config, model_config, max_model_tokens, seed, adapter_rank)
    from rlreason.engines.transformers import TransformersEngine

    return TransformersEngine(config, model_config)
