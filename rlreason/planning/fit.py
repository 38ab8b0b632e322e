"""What does not fit into a machine, and the nearest change of the configuration that does."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from rlreason.config.experiment import ExperimentConfig
from rlreason.distributed.shares import check_heads, gpus
from rlreason.engines.places import places
from rlreason.errors import UserError
from rlreason.planning.batches import batch_arithmetic, processes
from rlreason.planning.hardware import GIB, SLURM, Hardware, memory_bounds, this_machine, used_now
from rlreason.planning.memory import Kinds
from rlreason.planning.phases import JUDGE, Phase, phases
from rlreason.planning.shape import ModelShape, model_shape
from rlreason.planning.updates import updates

SUGGESTED_RANK = 16
WEIGHTS = ("weights", "engine", JUDGE)  # of a model in training, of the engine, and of the model that scores
# Of the main memory that is there, what a plan must come to before a run is refused: plans have been within a fifth of
# what runs took (docs/log.md), and a machine that runs out of memory kills the run after hours.
CERTAIN_SHARE = 1.25
CORES_OF_A_GPU = 8  # for its trainer, its engine, and what that compiles; as many as most clouds give


@dataclass(frozen=True, slots=True)
class Shortage:
    """A phase that does not fit.

    Args:
        phase: Which.
        where: "GPU memory" or "memory".
        needed: Bytes, on the fullest GPU or of a node.
        there: Bytes.
    """

    phase: Phase
    where: str
    needed: float
    there: float

    @property
    def weights(self) -> float:
        """Bytes of the largest model among what is needed; its weights are counted, all else is estimated."""
        models = WEIGHTS if self.there != self.phase.engine_limit else ("engine",)
        return max(self._kinds.get(kind, 0.0) for kind in models)

    @property
    def certain(self) -> bool:
        """Whether those weights alone do not fit where they are used, or all of it far from fits into main memory."""
        if self.where == "memory" and self.phase.whole and self.needed > CERTAIN_SHARE * self.there:
            return True
        used_here = self.where == "GPU memory" or not self.phase.device
        return used_here and self.weights > self.there

    @property
    def _kinds(self) -> Kinds:
        return self.phase.device if self.where == "GPU memory" else self.phase.host

    def words(self) -> str:
        """What is needed of what, in order of size."""
        parts = sorted(((amount, kind) for kind, amount in self._kinds.items() if amount >= GIB / 20), reverse=True)
        listed = ", ".join(f"{kind} {_gib(amount)}" for amount, kind in parts)
        bound = "about" if self.phase.whole else "at least"
        return f"{bound} {_gib(self.needed)} GiB of {self.where} for {self.phase.name}" + (
            f" ({listed})" if listed else ""
        )


def shortages(config: ExperimentConfig, shape: ModelShape | None, machine: Hardware) -> list[Shortage]:
    """The phases that do not fit, as far as they are known, the one that lacks most first."""
    found = []
    for phase in phases(config, shape, machine):
        if machine.gpu_room is not None and phase.device_bytes > machine.gpu_room:
            found.append(Shortage(phase, "GPU memory", phase.device_bytes, machine.gpu_room))
        elif phase.engine_limit is not None:
            needed = phase.device["engine"] + phase.device["KV cache"]
            if needed > phase.engine_limit * 1.001:
                found.append(Shortage(phase, "GPU memory", needed, phase.engine_limit))
        if machine.memory is not None and phase.host_bytes > machine.memory:
            found.append(Shortage(phase, "memory", phase.host_bytes, machine.memory))
    return sorted(found, key=lambda shortage: shortage.there / shortage.needed)


def check_fits(config: ExperimentConfig) -> str | None:
    """Refuse an experiment that this machine certainly cannot hold, before anything is downloaded.

    Args:
        config: The experiment. What is not known about it is no reason to refuse it; with `check_memory=false` memory
            is not looked at.

    Returns:
        One line of advice where memory is likely to be too small, or cores are too few, else None.

    Raises:
        UserError: Processes do not divide a batch, the engine asks for GPUs that are not there, heads cannot be split
            as asked, or a model certainly does not fit; the message says how much is needed, how much is there, and
            the nearest change that fits.
    """
    if config.task.name != "evaluate":
        batch_arithmetic(config)
    machine, shape = this_machine(), model_shape(config.model)
    numbers = range(max(machine.gpus, len(gpus())))
    where = places(config.engine, (), [str(number) for number in numbers])
    if shape is not None:
        check_splits(config, shape)
    if shape is None or not config.check_memory:
        return few_cores(config, machine)
    if machine.gpus:
        used = {int(name) for place in where for name in place.gpus or ()} | set(range(config.nproc))
        machine = replace(machine, gpu_used=used_now(used))
    found = shortages(config, shape, machine)
    certain = [shortage for shortage in found if shortage.certain]
    if certain:
        line = advice(config, shape, machine, certain[0])
        raise UserError(f"{line}; check_memory=false tries it all the same")
    return advice(config, shape, machine, found[0]) if found else few_cores(config, machine)


def few_cores(config: ExperimentConfig, machine: Hardware) -> str | None:
    """One line where processes with a GPU each have less than a core each; else None."""
    together = max(config.nproc, config.engine.replicas)
    if machine.gpus == 0 or machine.cores >= together:
        return None
    return (
        f"{together} processes with a GPU each have {machine.cores} cores between them and will wait for the CPU; take "
        f"{CORES_OF_A_GPU * together} (Slurm: --cpus-per-task, in a sweep hydra.launcher.cpus_per_task)"
    )


def advice(config: ExperimentConfig, shape: ModelShape, machine: Hardware, shortage: Shortage) -> str:
    """One line: what is needed, what is there, what to change."""
    if shortage.there == shortage.phase.engine_limit:
        place = f"engine.memory_share={config.engine.memory_share} of a GPU is"
    elif shortage.where == "GPU memory":
        place = "each GPU has"
    else:
        bounds = memory_bounds()
        place = next((words for words, amount in bounds.items() if amount == shortage.there), "there are")
    enough = math.ceil(shortage.needed / GIB)
    allocation = f"--mem={enough}G (in a sweep hydra.launcher.mem_gb={enough})" if place == SLURM else None
    remedy = " or ".join(filter(None, (nearest_change(config, shape, machine), allocation)))
    whole = all(phase.whole for phase in phases(config, shape, machine))
    alone = shortage.certain and shortage.weights > shortage.there
    return (
        f"model={config.model.name} {'cannot fit' if shortage.certain else 'is likely not to fit'}: it needs "
        f"{shortage.words()}{f', {_gib(shortage.weights)} for the weights alone' if alone else ''}, but "
        f"{place} {_gib(shortage.there)} ({machine.words()}); "
        + (
            f"{remedy} would fit{'' if whole else ' as far as is known'}"
            if remedy
            else "a smaller model or a larger machine is needed"
        )
    )


def check_splits(config: ExperimentConfig, shape: ModelShape) -> None:
    """Raise a UserError when the engine cannot split the attention heads over so many GPUs."""
    if not shape.guessed:
        check_heads(shape.heads, shape.key_value_heads, config.engine.tensor_parallel_size, config.model.name)


def check_devices(config: ExperimentConfig, machine: Hardware) -> None:
    """Raise a UserError when training or sampling asks for more GPUs than there are."""
    if machine.gpus == 0:
        return
    wanted = {
        "nproc x launcher.nodes": processes(config),
        "engine.replicas x engine.tensor_parallel_size": config.engine.replicas * config.engine.tensor_parallel_size,
    }
    for what, count in wanted.items():
        if count > machine.gpus:
            raise UserError(f"{what} = {count} needs as many GPUs, but there are {machine.gpus}; lower it")


def nearest_change(config: ExperimentConfig, shape: ModelShape, machine: Hardware) -> str | None:
    """The smallest change of the command line after which everything fits, in its own words; None without one.

    Tried are one change, then two, three and four together, those first that cost least.
    """
    single = list(_changes(config, machine))
    for count in range(1, 5):
        for chosen in combinations(single, count):
            settings = {key: value for _, change in chosen for key, value in change.items()}
            if len(settings) < sum(len(change) for _, change in chosen):
                continue
            try:
                changed = _changed(config, settings)
                batch_arithmetic(changed)
                check_splits(changed, shape)
            except UserError:
                continue
            if not shortages(changed, shape, machine):
                return " ".join(words for words, _ in chosen)
    return None


def _changes(config: ExperimentConfig, machine: Hardware) -> Iterator[tuple[str, dict[str, Any]]]:
    """Single changes: in the words of the command line, and the settings that they change."""
    engine, model = config.engine, config.model
    per_node = max(1, machine.gpus // config.launcher.nodes)
    if not model.gradient_checkpointing:
        yield "model.gradient_checkpointing=true", {"model.gradient_checkpointing": True}
    own = [update.settings.micro_batch_size for update in updates(config) if update.section == "algo"]
    micro = own[0] if own else model.micro_batch_size
    for size in sorted({max(1, micro // 4), 1} - {micro}, reverse=True):
        section = "model" if micro == model.micro_batch_size else "algo"
        yield f"{section}.micro_batch_size={size}", {"model.micro_batch_size": size}
    for share in (0.7, 0.9, 0.3):
        if machine.gpus and share != engine.memory_share:
            yield f"engine.memory_share={share}", {"engine.memory_share": share}
    for split in (2, 4, 8):
        if engine.tensor_parallel_size < split <= machine.gpus:
            yield f"engine.tensor_parallel_size={split}", {"engine.tensor_parallel_size": split}
    if not machine.gpus and engine.name == "transformers" and engine.max_sequences > 16:
        yield "engine.max_sequences=16", {"engine.max_sequences": 16}
    if per_node > 1 and config.sharding.name == "none":
        for count in sorted({config.nproc, per_node} - {1}):
            words = f"sharding=fsdp2{'' if count == config.nproc else f' launcher=accelerate nproc={count}'}"
            yield words, {"sharding.name": "fsdp2", "nproc": count}
    elif per_node > config.nproc:
        yield f"nproc={per_node}", {"nproc": per_node}
    if config.sharding.name != "none" and not config.sharding.cpu_offload:
        yield "sharding.cpu_offload=true", {"sharding.cpu_offload": True}
    if model.lora_rank == 0:
        yield f"model.lora_rank={SUGGESTED_RANK}", {"model.lora_rank": SUGGESTED_RANK}
    if model.dtype == "float32":
        yield "model.dtype=auto", {"model.dtype": "auto"}


def _changed(config: ExperimentConfig, settings: Mapping[str, Any]) -> ExperimentConfig:
    """The experiment with other settings; a micro-batch of the model is the largest of every update too."""
    for key, value in settings.items():
        section, _, field = key.rpartition(".")
        config = replace(
            config, **{section: replace(getattr(config, section), **{field: value})} if section else {field: value}
        )
        if field == "micro_batch_size":
            smaller = {
                update.section: replace(update.settings, micro_batch_size=min(value, update.settings.micro_batch_size))
                for update in updates(config)
            }
            config = replace(config, **smaller)
    return config


def _gib(amount: float) -> str:
    gib = amount / GIB
    return f"{gib:.0f}" if gib >= 10 else f"{gib:.1f}"
