"""Memory of a step of the check, planned and held."""

from __future__ import annotations

from rlreason.config.experiment import ExperimentConfig
from rlreason.planning.hardware import this_machine
from rlreason.planning.phases import phases
from rlreason.planning.shape import model_shape


def planned(config: ExperimentConfig, phase: str) -> float | None:
    """Bytes that the planner expects in a phase on the fullest GPU, or in main memory without one; None: not known."""
    machine = this_machine()
    found = [item for item in phases(config, model_shape(config.model), machine) if item.name == phase and item.whole]
    return (found[0].device_bytes if machine.gpus else found[0].host_bytes) if found else None


def in_use() -> float:
    """Bytes of the first GPU that are in use, by whatever process; without one, of main memory by this process."""
    import psutil
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return float(total - free)
    return float(psutil.Process().memory_info().rss)
