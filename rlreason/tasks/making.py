"""The tasks that make a run: which function carries out the one that a configuration names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlreason.config.experiment import ExperimentConfig
from rlreason.display import Display


def do(config: ExperimentConfig, plain_config: dict[str, Any], folder: Path, display: Display) -> dict[str, Any]:
    """Train or evaluate, as the task of `config` says; arguments and result as those of `rlreason.tasks.train.train`.

    Raises:
        UserError: Data, model, memory or run folder do not allow it; the message says what to do.
    """
    if config.task.name == "train":
        from rlreason.tasks.train import train as task
    else:
        from rlreason.tasks.evaluate import evaluate as task
    return task(config, plain_config, folder, display)
