"""Tokens per second: from the user's finished runs, else from measurements of ours, else from published peaks."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rlreason.config.sections import ModelConfig
from rlreason.engines.start import choose_engine
from rlreason.errors import UserError
from rlreason.planning.gpus import GPUKind, gpu_kind
from rlreason.planning.hardware import Hardware
from rlreason.planning.shape import ModelShape, model_shape
from rlreason.run.files import RESULT_FILE

# Shares of the peaks that are assumed, not measured: of arithmetic in training and in reading prompts, of memory
# bandwidth in decoding.
ASSUMED_TRAINING = 0.35
ASSUMED_PREFILL = 0.4
ASSUMED_DECODING = 0.5
# Tokens a second that one engine handed over on an H100 with a model of 0.5B, whose weights are read in a tenth of the
# time (docs/gpu.md): what Python does for each token.
HOST_TOKENS = 20_000.0
ENOUGH_SECONDS = 10.0  # of a kind of work in a run; below, starting and the last sequences are most of it

# (kind, parameters, tokens per second and core, what), by size: on Zen 5 server cores (docs/log.md).
MEASURED = (
    ("sample", 0.92e6, 9359 / 2, "the tiny model on two Zen 5 cores"),
    ("sample", 134.5e6, 1039 / 2, "SmolLM2-135M on two Zen 5 cores"),
    ("sample", 630e6, 277 / 2, "Qwen2.5-0.5B on two Zen 5 cores"),
    ("train", 0.92e6, 10700.0, "the tiny model on one Zen 5 core"),
    ("train", 134.5e6, 229 / 2, "SmolLM2-135M on two Zen 5 cores"),
    ("train", 630e6, 75 / 2, "Qwen2.5-0.5B on two Zen 5 cores"),
)


@dataclass(frozen=True, slots=True)
class Rate:
    """Tokens per second of one GPU or core, and where the figure comes from."""

    tokens: float
    source: str
    measured: bool


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """What a finished run says about speed: tokens per second and GPU (or core) by kind."""

    model: str
    parameters: float
    gpu_name: str
    engine: str
    rates: dict[str, float]


def finished_runs(runs_dir: Path) -> Iterator[FinishedRun]:
    """Every finished run below a folder that says what it took, of kinds of work that took long enough to say it."""
    for path in sorted(runs_dir.glob(f"**/{RESULT_FILE}")):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            config, hardware = result["config"], result["hardware"]
            model = config["model"]
            shape = model_shape(ModelConfig(**{key: model[key] for key in ModelConfig.__dataclass_fields__}))
            devices = _devices(config, hardware)
            rates = {
                kind: tokens / result["seconds"][kind] / devices[kind]
                for kind, tokens in result["tokens"].items()
                if tokens > 0 and result["seconds"].get(kind, 0) >= ENOUGH_SECONDS
            }
            if shape is not None and rates:
                gpu, engine = next(iter(hardware["gpus"]), ""), choose_engine(config["engine"]["name"])
                yield FinishedRun(model["path"], shape.parameters, gpu, engine, rates)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, UserError):
            continue  # of another version, or half copied: one figure fewer


def _devices(config: Mapping[str, Any], hardware: Mapping[str, Any]) -> dict[str, int]:
    """GPUs (or cores) that each kind of work had."""
    if not hardware["gpus"]:
        return dict.fromkeys(("sample", "train", "evaluate"), int(hardware["cpus"]))
    sampling = config["engine"]["tensor_parallel_size"] * config["engine"].get("replicas", 1)
    training = config.get("nproc", 1) * config.get("launcher", {}).get("nodes", 1)
    return {"sample": sampling, "train": training, "evaluate": sampling}


def rate(
    kind: str,
    path: str,
    shape: ModelShape,
    machine: Hardware,
    engine: str,
    runs: list[FinishedRun],
    assumed: Rate | None,
) -> Rate | None:
    """The rate of one kind of work on one GPU or core; None where nothing is known.

    Args:
        kind: sample, train or evaluate.
        path: The model's, to find its own runs.
        shape: The model's.
        machine: Where it will run.
        engine: What will generate; other engines say nothing of its speed.
        runs: The user's finished runs.
        assumed: What to say of a GPU where nothing was measured.
    """
    there = [run for run in runs if kind in run.rates and bool(run.gpu_name) == bool(machine.gpus)]
    if kind != "train":
        there = [run for run in there if run.engine == engine]
    if machine.gpus:
        wanted = gpu_kind(machine.gpu_name)
        there = [
            run for run in there if run.gpu_name == machine.gpu_name or (wanted and gpu_kind(run.gpu_name) == wanted)
        ]
    own = [run for run in there if run.model == path]
    device = machine.gpu_name or "GPU" if machine.gpus else "core"
    if own:
        values = [run.rates[kind] for run in own]
        return Rate(median(values), f"{_count(own)} of this model on the same kind of {device}", True)
    if there:
        nearest = min(there, key=lambda run: abs(run.parameters - shape.parameters)).parameters
        same = [run for run in there if run.parameters == nearest]
        value = median([run.rates[kind] for run in same])
        by, scale = "parameters", nearest / shape.parameters
        if not machine.gpus:
            by = "speeds of models of other sizes"
            scale = on_a_core(kind, shape.parameters)[0] / on_a_core(kind, nearest)[0]
        return Rate(value * scale, f"{_count(same)} of a model of {_millions(nearest)}, scaled by {by}", True)
    if machine.gpus == 0:
        value, what = on_a_core(kind, shape.parameters)
        return Rate(value, f"measured with {what}", True)
    return assumed


def on_a_core(kind: str, parameters: float) -> tuple[float, str]:
    """Tokens per second of a core with a model of some size, and what they were measured with.

    Between two sizes that were measured a power of the size; beyond them as much work for each parameter.
    """
    rows = [row for row in MEASURED if row[0] == ("train" if kind == "train" else "sample")]
    for _, size, value, what in rows:
        if abs(size / parameters - 1) < 0.05:
            return value, what
    smaller = [row for row in rows if row[1] < parameters]
    larger = [row for row in rows if row[1] > parameters]
    if not smaller or not larger:
        _, size, value, what = (smaller or larger)[-1 if smaller else 0]
        return value * size / parameters, f"{what}, scaled by parameters"
    (_, size, value, what), (_, other_size, other_value, other) = smaller[-1], larger[0]
    power = math.log(other_value / value) / math.log(other_size / size)
    return value * (parameters / size) ** power, f"{what} and {other}, interpolated"


def assumed_training(shape: ModelShape, kind: GPUKind, checkpointing: bool) -> Rate:
    """6 operations per parameter and token, 8 where activations are computed twice."""
    operations = (8 if checkpointing else 6) * shape.parameters
    source = f"assumed: {ASSUMED_TRAINING:.0%} of {kind.name}'s {kind.operations / 1e12:.0f} TFLOP/s"
    return Rate(ASSUMED_TRAINING * kind.operations / operations, source, False)


def assumed_sampling(shape: ModelShape, kind: GPUKind, sequences: int, context: float) -> Rate:
    """Decoding reads the weights once a step and every sequence's keys and values, all from memory.

    Small models are bound by what the engine's process does for each token.

    Args:
        shape: The shape of a model in bfloat16.
        kind: The kind of GPU.
        sequences: Decoded at once.
        context: Mean tokens that each has behind it.
    """
    read = 2 * shape.parameters + sequences * context * shape.cache_bytes(2)
    from_memory = ASSUMED_DECODING * kind.bandwidth * sequences / read
    from_arithmetic = ASSUMED_PREFILL * kind.operations / (2 * shape.parameters)
    source = f"assumed: {ASSUMED_DECODING:.0%} of {kind.name}'s {kind.bandwidth / 1e12:.1f} TB/s, {sequences} at once"
    return Rate(min(from_memory, from_arithmetic, HOST_TOKENS), source, False)


def _count(runs: list[FinishedRun]) -> str:
    return f"{len(runs)} finished run{'s' if len(runs) > 1 else ''}"


def _millions(parameters: float) -> str:
    return f"{parameters / 1e9:.1f} billion" if parameters >= 1e9 else f"{parameters / 1e6:.1f} million parameters"
