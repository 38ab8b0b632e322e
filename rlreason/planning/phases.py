"""Memory of every phase of an experiment: sampling, and each kind of training; per GPU and in main memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rlreason.config.context import longest_context
from rlreason.config.experiment import ExperimentConfig
from rlreason.config.needs import needs_outcome_model
from rlreason.orm.model import TOKENS_PER_BATCH
from rlreason.planning.batches import divided, processes
from rlreason.planning.facts import Sizes, Update
from rlreason.planning.hardware import GIB, Hardware
from rlreason.planning.lengths import known_sizes
from rlreason.planning.memory import Kinds, TrainingStep, generation_bytes, states, training_peak
from rlreason.planning.shape import ModelShape
from rlreason.planning.updates import algorithm_facts, updates

# Resident memory of a process that has imported torch, transformers, trl and vLLM and holds no model (docs/log.md).
LIBRARIES = 0.88 * GIB


@dataclass(frozen=True, slots=True)
class Phase:
    """What one phase holds at its heaviest moment.

    Args:
        name: Its name.
        device: Bytes by kind on the fullest GPU; empty without GPUs.
        host: Bytes by kind in main memory of a node.
        engine_limit: Bytes of a GPU that the engine may take; None in phases without it.
        cached_tokens: Tokens whose keys and values the engine holds at once; None in phases without the engine.
        whole: Whether that is all; otherwise it is the part that is known, such as the weights.
    """

    name: str
    device: Kinds
    host: Kinds
    engine_limit: float | None = None
    cached_tokens: float | None = None
    whole: bool = True

    @property
    def device_bytes(self) -> float:
        """On the fullest GPU."""
        return sum(self.device.values())

    @property
    def host_bytes(self) -> float:
        """In main memory of a node."""
        return sum(self.host.values())


def phases(config: ExperimentConfig, shape: ModelShape | None, machine: Hardware) -> list[Phase]:
    """The phases of training (or evaluating) an experiment, in the order in which they come.

    Args:
        config: The experiment. Where its algorithm is not known, nothing is known of its training; where its data are
            not known, all but activations and logits.
        shape: Its language model's; None: nothing is known of any phase.
        machine: Where it runs.
    """
    training = [] if config.task.name == "evaluate" else updates(config)
    if shape is None:
        return [Phase(name, {}, {}, whole=False) for name in ("sampling", *(update.phase for update in training))]
    if config.task.name == "evaluate":
        return [sampling(config, shape, machine, {})]
    sizes = known_sizes(config)
    resident: Kinds = {}
    found = []
    for update in training:
        kinds: Kinds = {}
        models = training_steps(config, machine, update, sizes)
        for role, step in models.items():
            peak = training_peak(shape, step)
            kinds |= {role: sum(peak.values())} if role else peak
        if update.rollouts:
            reference = reference_model(config, shape, update)
            resident = {**trained_models(shape, models), **reference}
            kinds |= reference
        found.append(_placed(update.phase, kinds, config, shape, machine, list(models.values()), sizes is not None))
    known = algorithm_facts(config) is not None
    if not known:
        found.append(Phase(f"algo={config.algo.name}", {}, {}, whole=False))
    if needs_outcome_model(config) or config.eval.orm is not None:
        kinds = scoring(config, shape, machine)
        found.append(_placed("ORM scoring", {**resident, **kinds}, config, shape, machine, []))
    drawing = sampling(config, shape, machine, resident)
    return [drawing if known else replace(drawing, whole=False), *found]


def training_steps(
    config: ExperimentConfig, machine: Hardware, update: Update, sizes: Sizes | None
) -> dict[str, TrainingStep]:
    """The models that one step of an update trains together, by their roles: "" is the model itself.

    Args:
        config: The experiment.
        machine: Where it runs.
        update: Which.
        sizes: Of its data; None: a step that reads no tokens, which is the part of its memory that is known.
    """
    batch = divided(update, processes(config))
    completion = 0 if sizes is None else update.completion(sizes)
    step = TrainingStep(
        sequences=batch.micro_batch,
        length=0 if sizes is None else sizes.longest_prompt + completion,
        completion=completion,
        accumulation=batch.accumulation,
        rank=config.model.lora_rank,
        checkpointing=config.model.gradient_checkpointing,
        loss=update.loss,
        mixed=machine.fast_bfloat16,
        cuda=machine.gpus > 0,
        processes=batch.processes,
        sharding=config.sharding.name,
        offload=config.sharding.cpu_offload,
    )
    if not update.critic:
        return {"": step}
    return {"": step, "critic": replace(step, loss="value", rank=0 if update.critic == "whole" else step.rank)}


def trained_models(shape: ModelShape, models: Mapping[str, TrainingStep]) -> Kinds:
    """What on-policy training keeps on its device while the engine samples: weights and optimizer of all models."""
    found: Kinds = {}
    for role, step in models.items():
        if not step.offload:
            held = states(shape, step)
            del held["gradients"]
            found |= {role: sum(held.values())} if role else held
    return found


def reference_model(config: ExperimentConfig, shape: ModelShape, update: Update) -> Kinds:
    """The model of the initial policy that a KL needs; adapters are switched off instead."""
    if not update.reference or config.model.lora_rank:
        return {}
    split = processes(config) if config.sharding.name == "fsdp2" and update.reference == "split" else 1
    return {"reference model": engine_bytes(config) * shape.parameters / split}


def engine_bytes(config: ExperimentConfig) -> int:
    """Bytes of a number in the engine."""
    return 4 if config.model.dtype == "float32" else 2


def sampling(config: ExperimentConfig, shape: ModelShape, machine: Hardware, resident: Kinds) -> Phase:
    """The engine at work; `resident` is what training keeps beside it."""
    size, engine, libraries = engine_bytes(config), config.engine, {"libraries": LIBRARIES}
    weights = generation_bytes(shape, size) / engine.tensor_parallel_size
    each = shape.cache_bytes(size) / engine.tensor_parallel_size
    context = longest_context(config)
    wanted = engine.max_sequences * context * each
    if machine.gpus == 0:
        cache = wanted if engine.name == "transformers" else cpu_cache(config, shape, machine)
        host = {**resident, "engine": weights * engine.replicas, "KV cache": cache * engine.replicas}
        return Phase("sampling", {}, libraries | host, None, cache / shape.cache_bytes(4))
    device = {**(resident if engine.devices is None else {}), "engine": weights}
    if engine.name == "transformers":
        return Phase("sampling", {**device, "KV cache": wanted}, libraries, None, wanted / each)
    if machine.gpu_memory is None:
        return Phase("sampling", device, libraries, whole=False)
    limit = engine.memory_share * machine.gpu_memory
    cache = max(limit - weights, each * context)
    return Phase("sampling", {**device, "KV cache": cache}, libraries, limit, cache / each)


def cpu_cache(config: ExperimentConfig, shape: ModelShape, machine: Hardware) -> float:
    """Bytes that vLLM reserves for keys and values on a CPU, in whole GiB and never given back; see engines.vllm."""
    context = longest_context(config)
    wanted = config.engine.max_sequences * context * shape.cache_bytes(4)
    allowed = config.engine.memory_share * (machine.memory or math.inf)
    return GIB * max(1, math.ceil(min(wanted, allowed) / GIB))


def scoring(config: ExperimentConfig, shape: ModelShape, machine: Hardware) -> Kinds:
    """The outcome reward model while it scores: float32 weights, all hidden states, and logits where it reads them."""
    context = config.data.max_prompt_tokens + config.data.max_completion_tokens  # judged without tags
    tokens = max(TOKENS_PER_BATCH // context, 1) * context
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
    steps: Sequence[TrainingStep],
    whole: bool = True,
) -> Phase:
    """A phase's memory on a GPU and in main memory, with what waits there meanwhile."""
    engine = generation_bytes(shape, engine_bytes(config)) * config.engine.replicas
    host = {"libraries": LIBRARIES * config.nproc}
    if machine.gpus == 0:
        host |= {kind: amount * config.nproc for kind, amount in kinds.items()}
        if config.engine.name != "transformers":
            host |= {"engine": engine, "KV cache": cpu_cache(config, shape, machine) * config.engine.replicas}
        return Phase(name, {}, host, whole=whole)
    host["loading"] = sum(4.0 if step.rank == 0 else 2.0 for step in steps) * shape.parameters * config.nproc
    host["engine"] = 0.0 if config.engine.devices else engine
    if config.sharding.cpu_offload:
        host["offloaded"] = sum(sum(states(shape, step).values()) for step in steps) * config.nproc
    return Phase(name, kinds, host, whole=whole)
