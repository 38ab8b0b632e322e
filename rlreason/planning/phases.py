"""Memory of every phase of an experiment: sampling, and each kind of training; per GPU and in main memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from rlreason.config.algorithms import OnPolicyConfig, PPOConfig, SFTConfig
from rlreason.config.base import SupervisedConfig
from rlreason.config.experiment import ExperimentConfig
from rlreason.config.sections import SFTInitConfig
from rlreason.distributed.shares import micro_batch
from rlreason.planning.batches import processes, trains_outcome_model, uses_outcome_model
from rlreason.planning.hardware import GIB, Hardware
from rlreason.planning.lengths import lengths
from rlreason.planning.memory import Kinds, TrainingStep, generation_bytes, states, training_peak
from rlreason.planning.shape import ModelShape

# rlreason.orm.model: padded tokens that are scored at a time.
SCORED_TOKENS = 16_384
# Resident memory of a process that has imported torch, transformers, trl and vLLM and holds no model (docs/log.md).
LIBRARIES = 0.88 * GIB


@dataclass(frozen=True, slots=True)
class Phase:
    """What one phase holds at its heaviest moment.

    Args:
        name: Of the phase.
        device: Bytes by kind on the fullest GPU; empty without GPUs.
        host: Bytes by kind in main memory of a node.
        engine_limit: Bytes of a GPU that the engine may take; None in phases without it.
        cached_tokens: Tokens whose keys and values the engine holds at once; None in phases without the engine.
    """

    name: str
    device: Kinds
    host: Kinds
    engine_limit: float | None = None
    cached_tokens: float | None = None

    @property
    def device_bytes(self) -> float:
        """On the fullest GPU."""
        return sum(self.device.values())

    @property
    def host_bytes(self) -> float:
        """In main memory of a node."""
        return sum(self.host.values())


def phases(config: ExperimentConfig, shape: ModelShape, machine: Hardware) -> list[Phase]:
    """The phases of training (or evaluating) an experiment, in the order in which they come.

    Args:
        config: The experiment.
        shape: Of its language model.
        machine: Where it runs.
    """
    if config.task.name == "evaluate":
        return [sampling(config, shape, machine, {})]
    resident = on_policy_resident(config, shape, machine) if isinstance(config.algo, OnPolicyConfig) else {}
    found = []
    for name, steps in training_steps(config, shape, machine):
        kinds: Kinds = {}
        for role, step in steps:
            peak = training_peak(shape, step)
            for kind, amount in peak.items() if not role else ((role, sum(peak.values())),):
                kinds[kind] = kinds.get(kind, 0.0) + amount
        if name == "on-policy training":
            kinds |= {kind: amount for kind, amount in resident.items() if kind == "reference model"}
        found.append(_placed(name, kinds, config, shape, machine, steps))
    if uses_outcome_model(config) or config.eval.orm is not None:
        kinds = scoring(config, shape, machine)
        found.append(_placed("ORM scoring", {**resident, **kinds}, config, shape, machine, []))
    return [sampling(config, shape, machine, resident), *found]


def training_steps(
    config: ExperimentConfig, shape: ModelShape, machine: Hardware
) -> Iterator[tuple[str, list[tuple[str, TrainingStep]]]]:
    """The kinds of training of an experiment: a name, and the models that a step trains together with their roles."""
    size = lengths(config)
    completion = max(size.longest_completion, size.reference)
    if isinstance(config.init, SFTInitConfig):
        yield "SFT (init)", [("", _step(config, machine, config.init, size.reference))]
    if trains_outcome_model(config):
        loss = "outcome" if config.orm.likelihood else "value"
        step = replace(_step(config, machine, config.orm, size.longest_completion), loss=loss)
        yield "ORM training", [("", step)]
    algo = config.algo
    if isinstance(algo, OnPolicyConfig):
        step = _step(config, machine, algo, size.longest_completion)
        models = [("", step)]
        if isinstance(algo, PPOConfig) and algo.critic == "separate":
            rank = 0 if algo.critic_start == "orm" else step.rank
            models.append(("critic", replace(step, loss="value", rank=rank)))
        yield "on-policy training", models
    elif isinstance(algo, SupervisedConfig):
        if config.algo.name == "rcrl":
            tokens = size.longest_completion + round(2 * size.steps)
        else:
            tokens = size.reference if isinstance(algo, SFTConfig) else completion
        yield f"{config.algo.name.upper()} training", [("", _step(config, machine, algo, tokens))]


def _step(
    config: ExperimentConfig, machine: Hardware, algo: SupervisedConfig | OnPolicyConfig, completion: int
) -> TrainingStep:
    on_policy = isinstance(algo, OnPolicyConfig)
    batch = algo.minibatch_size if isinstance(algo, OnPolicyConfig) else algo.batch_size
    count = processes(config)
    sequences = micro_batch(batch, algo.micro_batch_size, count)
    return TrainingStep(
        sequences=sequences,
        length=lengths(config).longest_prompt + completion,
        completion=completion,
        accumulation=max(1, batch // (sequences * count)),
        rank=config.model.lora_rank,
        checkpointing=config.model.gradient_checkpointing,
        loss="on-policy" if on_policy else "chunked",
        mixed=machine.fast_bfloat16,
        cuda=machine.gpus > 0,
        processes=count,
        sharding=config.sharding.name,
        offload=config.sharding.cpu_offload,
    )


def engine_bytes(config: ExperimentConfig) -> int:
    """Bytes of a number in the engine."""
    return 4 if config.model.dtype == "float32" else 2


def on_policy_resident(config: ExperimentConfig, shape: ModelShape, machine: Hardware) -> Kinds:
    """What on-policy training keeps on its device while the engine samples: weights, optimizer, critic, reference."""
    algo = config.algo
    assert isinstance(algo, OnPolicyConfig)
    step = _step(config, machine, algo, lengths(config).longest_completion)
    held = states(shape, step)
    kinds = {"weights": held["weights"], "optimizer": held["optimizer"]}
    if isinstance(algo, PPOConfig) and algo.critic == "separate":
        rank = 0 if algo.critic_start == "orm" else step.rank
        critic = states(shape, replace(step, rank=rank))
        kinds["critic"] = critic["weights"] + critic["optimizer"]
    if step.offload:
        kinds = {}
    if algo.kl_coefficient > 0 and config.model.lora_rank == 0:
        split = step.processes if step.sharding == "fsdp2" and isinstance(algo, PPOConfig) else 1
        kinds["reference model"] = engine_bytes(config) * shape.parameters / split  # GRPO's is gathered in one piece
    return kinds


def sampling(config: ExperimentConfig, shape: ModelShape, machine: Hardware, resident: Kinds) -> Phase:
    """The engine at work; `resident` is what training keeps beside it."""
    size, engine = engine_bytes(config), config.engine
    weights = generation_bytes(shape, size) / engine.tensor_parallel_size
    each = shape.cache_bytes(size) / engine.tensor_parallel_size
    context = longest_context(config)
    wanted = engine.max_sequences * context * each
    if machine.gpus == 0:
        cache = cpu_cache(config, wanted * 4 / size, machine) if engine.name != "transformers" else wanted
        host = {**resident, "engine": weights * engine.replicas, "KV cache": cache * engine.replicas}
        return Phase("sampling", {}, {"libraries": LIBRARIES, **host}, None, cache / shape.cache_bytes(4))
    limit = engine.memory_share * machine.gpu_memory
    cache = wanted if engine.name == "transformers" else max(limit - weights, each * context)
    beside = resident if engine.devices is None else {}
    device = {**beside, "engine": weights, "KV cache": cache}
    return Phase("sampling", device, {"libraries": LIBRARIES}, limit, cache / each)


def cpu_cache(config: ExperimentConfig, wanted: float, machine: Hardware) -> float:
    """Bytes that vLLM reserves for keys and values on a CPU, in whole GiB and never given back; see engines.vllm."""
    allowed = config.engine.memory_share * (machine.memory or math.inf)
    return GIB * max(1, math.ceil(min(wanted, allowed) / GIB))


def longest_context(config: ExperimentConfig) -> int:
    """Tokens of the longest prompt with the longest completion that the engine writes."""
    return lengths(config).longest_prompt + size_of_completion(config)


def size_of_completion(config: ExperimentConfig) -> int:
    """Tokens of the longest completion that the engine writes."""
    longest = config.data.max_completion_tokens
    return longest + round(2 * lengths(config).steps) if config.algo.name == "rcrl" else longest


def scoring(config: ExperimentConfig, shape: ModelShape, machine: Hardware) -> Kinds:
    """The outcome reward model while it scores: float32 weights, all hidden states, and logits where it reads them."""
    context = lengths(config).longest_prompt + config.data.max_completion_tokens
    tokens = max(SCORED_TOKENS // context, 1) * context
    hidden = shape.layers * shape.hidden_size * 4
    vocabulary = ((2 if machine.fast_bfloat16 else 4) + 8) * shape.vocabulary_size * config.orm.likelihood
    return {
        "weights": 4.0 * shape.parameters,
        "activations": float(tokens * hidden),
        "logits": float(tokens * vocabulary),
    }


def _placed(
    name: str,
    kinds: Kinds,
    config: ExperimentConfig,
    shape: ModelShape,
    machine: Hardware,
    steps: list[tuple[str, TrainingStep]],
) -> Phase:
    """A phase's memory on a GPU and in main memory, with what waits there meanwhile."""
    engine = generation_bytes(shape, engine_bytes(config)) * config.engine.replicas
    if machine.gpus == 0:
        host = {kind: amount * config.nproc for kind, amount in kinds.items()}
        host = {"libraries": LIBRARIES * config.nproc, **host}
        if config.engine.name != "transformers":
            wanted = config.engine.max_sequences * longest_context(config) * shape.cache_bytes(4)
            host |= {"engine": engine, "KV cache": cpu_cache(config, wanted, machine) * config.engine.replicas}
        return Phase(name, {}, host)
    loading = sum(4.0 if step.rank == 0 else 2.0 for _, step in steps) * shape.parameters * config.nproc
    host = {
        "libraries": LIBRARIES * config.nproc,
        "loading": loading,
        "engine": 0.0 if config.engine.devices else engine,
    }
    if config.sharding.cpu_offload:
        host["offloaded"] = sum(sum(states(shape, step).values()) for _, step in steps) * config.nproc
    return Phase(name, kinds, host)
