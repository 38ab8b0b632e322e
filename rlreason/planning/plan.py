"""The whole plan of an experiment, as numbers: what `task=plan` shows and what a run is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rlreason.config.base import require
from rlreason.config.experiment import ExperimentConfig
from rlreason.engines.start import choose_engine
from rlreason.planning.batches import BatchArithmetic, batch_arithmetic, processes
from rlreason.planning.facts import Work, total
from rlreason.planning.fit import Shortage, check_devices, check_splits, nearest_change, shortages
from rlreason.planning.gpus import gpu_kind
from rlreason.planning.hardware import Hardware, hardware
from rlreason.planning.lengths import known_sizes
from rlreason.planning.phases import Phase, phases, sampling
from rlreason.planning.rates import (
    ASSUMED_PREFILL,
    FinishedRun,
    Rate,
    assumed_sampling,
    assumed_training,
    finished_runs,
    rate,
)
from rlreason.planning.shape import ModelShape, model_shape
from rlreason.planning.storage import storage
from rlreason.planning.updates import algorithm_facts
from rlreason.planning.workload import workload

UNKNOWN = "unknown, see below"


@dataclass(frozen=True, slots=True)
class Time:
    """How long one phase takes: hours (None where nothing is known) and where the figure comes from."""

    work: Work
    hours: float | None
    source: str


@dataclass(frozen=True)
class Plan:
    """What an experiment will take.

    Args:
        shape: The model's; None where that is not known.
        machine: The one that is planned for.
        batches: How each batch is spread over processes.
        phases: Memory.
        disk: Bytes by purpose; None where that is not known.
        times: Work and hours.
        short: What does not fit.
        change: The nearest change that fits, where something does not.
        unknown: What the plan knows nothing of, a sentence each; without any the plan is whole.
    """

    shape: ModelShape | None
    machine: Hardware
    batches: list[BatchArithmetic]
    phases: list[Phase]
    disk: dict[str, float | None]
    times: list[Time]
    short: list[Shortage]
    change: str | None
    unknown: list[str]

    @property
    def hours(self) -> float | None:
        """In all; None where one phase is not known."""
        return total(time.hours for time in self.times)


def make_plan(config: ExperimentConfig) -> Plan:
    """The plan of an experiment on the machine that its configuration states.

    Raises:
        UserError: The memory of the GPUs is not known, there are too few of them, processes do not divide a batch, or
            heads cannot be split.
    """
    shape, machine = model_shape(config.model), hardware(config)
    require(
        not machine.gpus or machine.gpu_memory is not None,
        "gpu_memory is not known: say it in GiB, e.g. gpus=8 gpu_memory=80, or gpu_name=h100",
    )
    if shape is not None:
        check_splits(config, shape)
    check_devices(config, machine)
    batches = batch_arithmetic(config)
    work = workload(config)
    short = shortages(config, shape, machine)
    return Plan(
        shape,
        machine,
        batches,
        phases(config, shape, machine),
        storage(config, shape, work),
        times(config, shape, machine, work),
        short,
        nearest_change(config, shape, machine) if shape is not None and short else None,
        unknown(config, shape),
    )


def unknown(config: ExperimentConfig, shape: ModelShape | None) -> list[str]:
    """What the planner knows nothing of, a sentence each."""
    found = []
    if shape is None:
        found.append(
            f"the size of model={config.model.name} is unknown; give model.parameters=NUMBER or a local folder"
        )
    if known_sizes(config) is None:
        found.append(f"the number and lengths of the questions of data={config.data.name} are unknown")
    if algorithm_facts(config) is None:
        found.append(f"what algo={config.algo.name} draws and learns from is unknown")
    return found


def times(config: ExperimentConfig, shape: ModelShape | None, machine: Hardware, work: list[Work]) -> list[Time]:
    """Hours of every phase, by the rates of the user's finished runs where there are any."""
    if shape is None:
        return [Time(item, None, UNKNOWN) for item in work]
    runs = list(finished_runs(Path(config.runs_dir)))
    rates = {kind: _rate(kind, config, shape, machine, runs) for kind in ("sample", "train", "evaluate")}
    return [_time(item, rates[item.kind], config, shape, machine) for item in work]


def _rate(
    kind: str, config: ExperimentConfig, shape: ModelShape, machine: Hardware, runs: list[FinishedRun]
) -> Rate | None:
    gpu, assumed = gpu_kind(machine.gpu_name), None
    sizes, facts = known_sizes(config), algorithm_facts(config)
    if gpu is not None and kind == "train":
        assumed = assumed_training(shape, gpu, config.model.gradient_checkpointing)
    elif gpu is not None and sizes is not None:
        cached = sampling(config, shape, machine, {}).cached_tokens or 0.0
        # The samples of a question share the keys and values of their prompt.
        each = sizes.completion + sizes.prompt / (1 if facts is None else facts.samples)
        at_once = max(1, min(config.engine.max_sequences, int(cached / each)))
        assumed = assumed_sampling(shape, gpu, at_once, sizes.prompt + sizes.completion / 2)
    engine = choose_engine(config.engine.name)
    return rate(kind, config.model.path, shape, machine, engine, runs, assumed)


def _time(work: Work, rate: Rate | None, config: ExperimentConfig, shape: ModelShape, machine: Hardware) -> Time:
    sizes = known_sizes(config)
    if work.tokens is None or sizes is None:
        return Time(work, None, UNKNOWN)
    if rate is None:
        return Time(work, None, "unknown: no finished run on such a GPU; gpu_name=h100 (or another kind) assumes")
    devices = machine.cores
    if machine.gpus:
        engine = config.engine.replicas * config.engine.tensor_parallel_size
        devices = processes(config) if work.kind == "train" else engine
    # A measured rate counts the tokens of sequences as well, whether or not they were computed once each.
    seconds = work.tokens * (1 if rate.measured else 1 - work.shared) / rate.tokens / devices
    gpu = gpu_kind(machine.gpu_name)
    if not rate.measured and gpu is not None:
        prompts = work.prompts * sizes.prompt * 2 * shape.parameters
        seconds += prompts / (ASSUMED_PREFILL * gpu.operations) / devices
    return Time(work, seconds / 3600, rate.source)
