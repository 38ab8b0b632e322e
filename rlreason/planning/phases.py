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
from rlreason.planning.memory import (
    Kinds,
    TrainingStep,
    generation_bytes,
    logits_at_once,
    states,
    training_peak,
)
from rlreason.planning.shape import ModelShape, engine_number_bytes
from rlreason.planning.updates import algorithm_facts, updates
from rlreason.planning.workload import most_together

# Resident memory of a process that has imported torch, transformers, trl and vLLM and holds no model (docs/log.md).
LIBRARIES = 0.88 * GIB
TOKENISER = 700  # bytes for each entry of a vocabulary: 0.1 GiB for 151,936; ours and vLLM's (docs/log.md)
PUBLISHED = 2.0  # bytes of a weight in a checkpoint from elsewhere, which is mapped while it is read
JUDGE = "outcome reward model"  # its weights while it scores, beside those that training keeps
# Bytes for each logit of a step that samples: logits, log-probs, probabilities and random numbers in float32.
SAMPLED_LOGITS = 16


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
    found, resident = beside_sampling(config, shape, machine)
    drawing = sampling(config, shape, machine, resident)
    if on_a_cpu(config, machine):
        cache = cpu_cache(config, shape, machine, [drawing, *found], known_sizes(config))
        for phase in (drawing, *found):
            phase.host["KV cache"] = cache * config.engine.replicas
        drawing = replace(drawing, cached_tokens=cache / shape.cache_bytes(engine_bytes(config)))
    known = config.task.name == "evaluate" or algorithm_facts(config) is not None
    if not known:
        found.insert(len(updates(config)), Phase(f"algo={config.algo.name}", {}, {}, whole=False))
    return [drawing if known else replace(drawing, whole=False), *found]


def beside_sampling(config: ExperimentConfig, shape: ModelShape, machine: Hardware) -> tuple[list[Phase], Kinds]:
    """The phases that do not sample, without the engine's keys and values, and what training keeps while it samples."""
    if config.task.name == "evaluate":
        return [], {}
    sizes = known_sizes(config)
    resident: Kinds = {}
    found = []
    training = updates(config)
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
    if judges(config):
        kinds = scoring(config, shape, machine)
        found.append(_placed("ORM scoring", {**resident, **kinds}, config, shape, machine, []))
    return found, resident


def judges(config: ExperimentConfig) -> bool:
    """Whether an outcome reward model scores solutions."""
    return needs_outcome_model(config) or config.eval.orm is not None


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
    split = processes(config) if config.sharding.name == "fsdp2" else 1
    return {"reference model": engine_bytes(config) * shape.parameters / split}


def engine_bytes(config: ExperimentConfig) -> int:
    """Bytes of a number in the engine."""
    return engine_number_bytes(config.model.dtype)


def libraries(shape: ModelShape) -> float:
    """Bytes of a process that holds no model: libraries, and two tokenisers of its vocabulary."""
    return LIBRARIES + 2 * TOKENISER * shape.vocabulary_size


def held_by_engine(config: ExperimentConfig, shape: ModelShape, machine: Hardware) -> float:
    """Bytes of weights in each engine; on a CPU vLLM packs the output layer for its kernels and keeps it besides."""
    size = engine_bytes(config)
    return generation_bytes(shape, size) + size * shape.embedding * on_a_cpu(config, machine)


def on_a_cpu(config: ExperimentConfig, machine: Hardware) -> bool:
    """Whether vLLM reserves keys and values in main memory, and never gives them back."""
    return machine.gpus == 0 and config.engine.name != "transformers"


def sampling(config: ExperimentConfig, shape: ModelShape, machine: Hardware, resident: Kinds) -> Phase:
    """The engine at work; `resident` is what training keeps beside it."""
    size, engine, empty = engine_bytes(config), config.engine, {"libraries": libraries(shape)}
    weights = held_by_engine(config, shape, machine) / engine.tensor_parallel_size
    each = shape.cache_bytes(size) / engine.tensor_parallel_size
    context = longest_context(config)
    wanted = engine.max_sequences * context * each
    if machine.gpus == 0:
        host = {**resident, "engine": weights * engine.replicas, "KV cache": wanted * engine.replicas}
        if on_a_cpu(config, machine):
            sequences = sequences_together(config, known_sizes(config))
            host["logits"] = float(SAMPLED_LOGITS * sequences * shape.vocabulary_size * engine.replicas)
        return Phase("sampling", {}, empty | host, None, wanted / each)
    if judges(config):
        empty[JUDGE] = judge_weights(shape, machine)
    sharing = replicas_on_a_gpu(config, machine)
    device = {**(resident if engine.devices is None else {}), "engine": weights * sharing}
    if engine.name == "transformers":
        return Phase("sampling", {**device, "KV cache": wanted}, empty, None, wanted / each)
    if machine.gpu_room is None:
        return Phase("sampling", device, empty, whole=False)
    limit = engine.memory_share * machine.gpu_room
    cache = max(limit / sharing - weights, each * context)
    return Phase("sampling", {**device, "KV cache": cache * sharing}, empty, limit, cache / each)


def replicas_on_a_gpu(config: ExperimentConfig, machine: Hardware) -> int:
    """How many replicas of the engine the fullest GPU has; Ray finds one for each, on this machine or another."""
    engine = config.engine
    if engine.executor == "ray":
        return 1
    return max(1, math.ceil(engine.replicas * engine.tensor_parallel_size / machine.gpus))


def cpu_cache(
    config: ExperimentConfig,
    shape: ModelShape,
    machine: Hardware,
    held: Sequence[Phase],
    sizes: Sizes | None,
) -> float:
    """Bytes that each replica reserves for keys and values on a CPU.

    As many as the work needs, if `engine.memory_share` of what libraries and weights leave is as much, and if the
    heaviest phase leaves it beside the engine; at least one context.

    Args:
        config: The experiment.
        shape: Its model's.
        machine: Where it runs.
        held: Phases; their keys and values do not count.
        sizes: Of the questions; None: not known.
    """
    replicas, each = config.engine.replicas, shape.cache_bytes(engine_bytes(config))
    room = math.inf
    if machine.memory is not None:
        alone = libraries(shape) + held_by_engine(config, shape, machine) * replicas
        heaviest = max(phase.host_bytes - phase.host.get("KV cache", 0.0) for phase in held)
        room = min(config.engine.memory_share * (machine.memory - alone), machine.memory - heaviest) / replicas
    return max(min(tokens_together(config, sizes) * each, room), each * longest_context(config))


def tokens_together(config: ExperimentConfig, sizes: Sizes | None) -> int:
    """Tokens that a replica has to hold for the requests that are under way together, if nothing is shared."""
    context = longest_context(config)
    if sizes is not None:
        context = min(context, sizes.longest_prompt + context - config.data.max_prompt_tokens)
    return sequences_together(config, sizes) * context


def sequences_together(config: ExperimentConfig, sizes: Sizes | None) -> int:
    """Requests that a replica has under way at one time: no more than a stage has."""
    most, together = config.engine.max_sequences, None if sizes is None else most_together(config, sizes)
    return most if together is None else min(most, math.ceil(together / config.engine.replicas))


def engine_tokens(config: ExperimentConfig, shape: ModelShape, machine: Hardware, sizes: Sizes) -> int:
    """Tokens whose keys and values a replica of vLLM is to reserve on a CPU for questions of `sizes`."""
    held, resident = beside_sampling(config, shape, machine)
    cache = cpu_cache(config, shape, machine, [sampling(config, shape, machine, resident), *held], sizes)
    return int(cache / shape.cache_bytes(engine_bytes(config)))


def scoring(config: ExperimentConfig, shape: ModelShape, machine: Hardware) -> Kinds:
    """The outcome reward model while it scores: its weights, one layer, and logits where it reads them."""
    context = config.data.max_prompt_tokens + config.data.max_completion_tokens  # judged without tags
    tokens = max(TOKENS_PER_BATCH // context, 1) * context
    size = 2 if machine.fast_bfloat16 else 4
    inside_a_layer = 8 * shape.hidden_size + size * (2 * shape.hidden_size + 4 * shape.intermediate_size)
    found = logits_at_once(tokens, shape.vocabulary_size) * config.orm.likelihood
    return {
        JUDGE: judge_weights(shape, machine),
        "bfloat16 copies": 2.0 * shape.parameters * (machine.fast_bfloat16 and not machine.gpus),
        "activations": float(tokens * inside_a_layer),
        "logits": float((size + 8) * found),
    }


def judge_weights(shape: ModelShape, machine: Hardware) -> float:
    """Bytes of the outcome reward model's weights: float32, or bfloat16 for a GPU that computes in it."""
    return (2.0 if machine.gpus and machine.fast_bfloat16 else 4.0) * shape.parameters


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
    engine = held_by_engine(config, shape, machine) * config.engine.replicas
    host = {"libraries": libraries(shape) * config.nproc}
    if machine.gpus == 0:
        host |= {kind: amount * config.nproc for kind, amount in kinds.items()}
        if on_a_cpu(config, machine):
            host["engine"] = engine
        return Phase(name, {}, host, whole=whole)
    if steps:  # one model after the other, from a file that all processes of a node share
        host["loading"] = PUBLISHED * shape.parameters
    if config.sharding.name != "none":  # process 0 gathers the moments of a model for a resumable checkpoint
        host["saving"] = max((states(shape, replace(step, processes=1))["optimizer"] for step in steps), default=0.0)
    host["engine"] = 0.0 if config.engine.devices else engine
    if judges(config):
        host[JUDGE] = judge_weights(shape, machine)  # once it has been read it stays
    if config.sharding.cpu_offload:
        host["offloaded"] = sum(sum(states(shape, step).values()) for step in steps) * config.nproc
    return Phase(name, kinds, host, whole=whole)
