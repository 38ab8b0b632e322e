"""Where metrics go besides the run folder: Weights & Biases, or nowhere."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from rlreason.config.sections import TrackerConfig


class Tracker:
    """Receives metrics, example rollouts and the final result of one run, and drops them."""

    def log(self, metrics: dict[str, float], samples_seen: int) -> None:
        """Metrics at a point of training, drawn against the samples seen so far."""

    def rollouts(self, stage: str, rows: list[dict[str, Any]]) -> None:
        """Example rollouts of a stage."""

    def finish(self, summary: dict[str, float]) -> None:
        """The numbers that stand for the whole run."""


class WandbTracker(Tracker):
    """One W&B run; a resumed run folder continues the same one."""

    def __init__(self, config: TrackerConfig, folder: Path, run_config: dict[str, Any]) -> None:
        import wandb

        key = os.environ.get("WANDB_API_KEY") or _saved_key()
        os.environ.setdefault("WANDB_SILENT", "true")
        self.run = wandb.init(
            project=config.project,
            entity=config.entity,
            name=folder.name,
            id=hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16],
            group=config.group or run_config["study"] or folder.name.rsplit("-seed", 1)[0],
            job_type=f"{run_config['task']['name']}-{run_config['algo']['name']}",
            config=run_config,
            dir=folder,
            mode="online" if key else "offline",
            resume="allow",
            settings=wandb.Settings(console="off", save_code=False, disable_git=True),
        )
        self.run.define_metric("samples_seen")
        self.run.define_metric("*", step_metric="samples_seen")

    def log(self, metrics: dict[str, float], samples_seen: int) -> None:
        """Send metrics against `samples_seen`."""
        self.run.log({**metrics, "samples_seen": samples_seen})

    def rollouts(self, stage: str, rows: list[dict[str, Any]]) -> None:
        """Send a table of example rollouts."""
        import wandb

        columns = list(rows[0]) if rows else []
        table = wandb.Table(columns=columns, data=[[row[column] for column in columns] for row in rows])
        self.run.log({f"rollouts/{stage}": table})

    def finish(self, summary: dict[str, float]) -> None:
        """Set the summary and close the run."""
        self.run.summary.update(summary)
        self.run.finish()


def start(config: TrackerConfig, folder: Path, run_config: dict[str, Any]) -> Tracker:
    """The tracker that the configuration asks for, on the run that lives in `folder`."""
    return Tracker() if config.name == "none" else WandbTracker(config, folder, run_config)


def _saved_key() -> str | None:
    """The key that `wandb login` left in the user's netrc file."""
    import netrc

    try:
        entries = netrc.netrc().hosts
    except (OSError, netrc.NetrcParseError):
        return None
    return next((login[2] for host, login in entries.items() if "wandb" in host), None)
