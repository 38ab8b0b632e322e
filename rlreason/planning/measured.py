"""What a run took beside what was planned for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from rlreason.config.experiment import ExperimentConfig
from rlreason.planning.facts import total
from rlreason.planning.hardware import GIB, this_machine
from rlreason.planning.phases import phases
from rlreason.planning.plan import times
from rlreason.planning.shape import model_shape
from rlreason.planning.workload import workload

KINDS = ("sample", "train", "evaluate")
CACHED = {"sft": ("SFT (init)",), "orm": ("ORM sampling", "ORM continuations", "ORM training")}


def planned_and_measured(
    config: ExperimentConfig,
    seconds: Mapping[str, float],
    tokens: Mapping[str, float],
    peaks: Mapping[str, Mapping[str, float]],
    cached: Collection[str],
) -> dict[str, Any] | None:
    """Memory, seconds and tokens by kind of work, each as planned and as measured.

    Args:
        config: The run's.
        seconds: Measured, by kind of work.
        tokens: Measured, by kind of work.
        peaks: Measured peak memory in bytes, by kind and place (host, device).
        cached: Stages that were taken from a cache: sft, orm.

    Returns:
        For each kind that was done, `{"memory_gib": [planned, measured], "seconds": [...], "tokens": [...]}`; a planned
        figure that is not known is None. None for a model of unknown size.
    """
    shape = model_shape(config.model)
    if shape is None:
        return None
    machine = this_machine()
    left_out = {phase for stage in cached for phase in CACHED.get(stage, ())}
    expected = [item for item in times(config, shape, machine, workload(config)) if item.work.phase not in left_out]
    held = [phase for phase in phases(config, shape, machine) if phase.name != "ORM scoring"]
    found = {}
    for kind in KINDS:
        if not tokens.get(kind):
            continue
        own = [item for item in expected if item.work.kind == kind]
        hours, planned = total(item.hours for item in own), total(item.work.tokens for item in own)
        memory = [phase for phase in held if (phase.name == "sampling") == (kind != "train")]
        most = max((phase.device_bytes if machine.gpus else phase.host_bytes for phase in memory), default=None)
        measured = peaks.get(kind, {}).get("device" if machine.gpus else "host")
        found[kind] = {
            "memory_gib": [
                _rounded(most / GIB) if most is not None and all(phase.whole for phase in memory) else None,
                _rounded(measured / GIB) if measured else None,
            ],
            "seconds": [None if hours is None else _rounded(3600 * hours), _rounded(seconds.get(kind, 0.0))],
            "tokens": [None if planned is None else round(planned), int(tokens[kind])],
        }
    return found


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
