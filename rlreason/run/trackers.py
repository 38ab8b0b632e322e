"""Where metrics go besides the run folder: Weights & Biases, or nowhere.

A tracker neither ends nor delays a run: what it cannot do is said in one line, and the run folder has everything.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rlreason.config.sections import TrackerConfig
from rlreason.errors import in_one_line
from rlreason.run.folder import METRICS, read_lines

PROJECT = "rlreason"
ANSWER_SECONDS = 5.0  # for the server to answer at all
INIT_SECONDS = 30.0  # for it to take a new run
FINISH_SECONDS = 120.0  # for it to take what is still on its way at the end of a run
OFFLINE, ONLINE, DISABLED = "offline", "online", "disabled"

Say = Callable[[str], None]


class Tracker:
    """Receives metrics, example rollouts and the final result of one run, and drops them."""

    def log(self, metrics: dict[str, float], samples_seen: int) -> None:
        """Metrics at a point of training, drawn against the samples seen so far."""

    def rollouts(self, stage: str, rows: list[dict[str, Any]]) -> None:
        """Example rollouts of a stage."""

    def finish(self, summary: dict[str, float]) -> None:
        """The numbers that stand for the whole run."""


class WandbTracker(Tracker):
    """One W&B run; a resumed run folder continues the same one.

    What W&B's environment variables say holds where the configuration says nothing else.
    """

    def __init__(self, config: TrackerConfig, folder: Path, run_config: dict[str, Any], mode: Any, say: Say) -> None:
        import wandb

        self.say = say
        self.online = mode == ONLINE
        place = Path(os.environ.get("WANDB_DIR", folder))
        earlier = offline_folders(place)
        group = config.group or os.environ.get("WANDB_RUN_GROUP")
        self.run = wandb.init(
            project=config.project or os.environ.get("WANDB_PROJECT") or PROJECT,
            entity=config.entity,
            name=os.environ.get("WANDB_NAME", folder.name),
            id=_run_id(folder),
            group=group or run_config["study"] or folder.name.rsplit("-seed", 1)[0],
            job_type=f"{run_config['task']['name']}-{run_config['algo']['name']}",
            config=run_config,
            dir=place,
            mode=mode,
            resume="allow",
            settings=wandb.Settings(console="off", save_code=False, disable_git=True, init_timeout=INIT_SECONDS),
        )
        self.run.define_metric("samples_seen")
        self.run.define_metric("*", step_metric="samples_seen")
        if not self.online and place == folder:
            self._take_over([path for path in earlier if path not in Path(self.run.dir).parents], folder)

    def log(self, metrics: dict[str, float], samples_seen: int) -> None:
        """Send metrics against `samples_seen`."""
        self._try(lambda: self.run.log({**metrics, "samples_seen": samples_seen}))

    def rollouts(self, stage: str, rows: list[dict[str, Any]]) -> None:
        """Send a table of example rollouts."""
        import wandb

        columns = list(rows[0]) if rows else []
        data = [[row[column] for column in columns] for row in rows]
        self._try(lambda: self.run.log({f"rollouts/{stage}": wandb.Table(columns=columns, data=data)}))

    def finish(self, summary: dict[str, float]) -> None:
        """Set the summary and close the run; what a server does not take in time stays here to be sent later."""
        self._try(lambda: self.run.summary.update(summary))
        # A server that has gone away would be waited for without end.
        ending = threading.Thread(target=self._try, args=(self.run.finish,), daemon=True)
        ending.start()
        ending.join(FINISH_SECONDS if self.online else None)
        if ending.is_alive():
            self.say(f"W&B has not taken everything in {FINISH_SECONDS:.0f} s; `wandb sync {self.run.dir}` sends it")

    def _take_over(self, earlier: list[Path], folder: Path) -> None:
        """Put what an interrupted process tracked offline into this run, so that there is one curve to send."""
        if earlier:
            for line in read_lines(folder / METRICS):
                self.run.log({key: value for key, value in line.items() if key != "stage"})
            for path in earlier:
                shutil.rmtree(path, ignore_errors=True)

    def _try(self, act: Callable[[], Any]) -> None:
        try:
            act()
        except Exception as error:  # whatever it is, the run goes on
            self.say(f"W&B: {type(error).__name__}: {in_one_line(error, 200)}; the run folder has everything")


def start(config: TrackerConfig, folder: Path, run_config: dict[str, Any], say: Say) -> Tracker:
    """The tracker that the configuration asks for.

    Args:
        config: The section.
        folder: The run folder.
        run_config: What W&B shows as the configuration of the run.
        say: Shows a line of what cannot be tracked.
    """
    if config.name == "none":
        return Tracker()
    os.environ.setdefault("WANDB_SILENT", "true")  # read when W&B is first asked for anything
    try:
        mode = tracking_mode(say)
        return Tracker() if mode == DISABLED else WandbTracker(config, folder, run_config, mode, say)
    except Exception as error:  # whatever it is, the run goes on
        reason = f"{type(error).__name__}: {in_one_line(error, 200)}"
        say(f"W&B cannot track this run ({reason}); the run folder has everything")
        return Tracker()


def tracking_mode(say: Say) -> str:
    """W&B's mode: what WANDB_MODE says, else online with a key; offline where no server answers."""
    wanted = os.environ.get("WANDB_MODE", "").strip().lower()
    if os.environ.get("WANDB_DISABLED", "").strip().lower() in ("1", "true", "yes", "on"):
        wanted = DISABLED
    if wanted and wanted != ONLINE:
        return OFFLINE if wanted == "dryrun" else wanted
    import wandb

    server = str(wandb.setup().settings.base_url)
    if not wanted and not (os.environ.get("WANDB_API_KEY") or _saved_key(server)):
        return OFFLINE
    if answers(server):
        return ONLINE
    say(f"W&B's server {server} does not answer: tracked offline; `wandb sync` sends it later")
    return OFFLINE


def answers(server: str) -> bool:
    """Whether a server says anything at all within `ANSWER_SECONDS`, by way of a proxy where one is set."""
    heard: list[bool] = []

    def ask() -> None:
        import requests

        try:
            requests.get(server, timeout=ANSWER_SECONDS, stream=True).close()
        except (requests.RequestException, OSError, ValueError):
            return
        heard.append(True)

    # Looking up a name has no limit of its own, so the whole is given one.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(ANSWER_SECONDS)
    return bool(heard)


def offline_folders(place: Path) -> list[Path]:
    """What processes have tracked offline below a folder."""
    return sorted((place / "wandb").glob("offline-run-*"))


def _run_id(folder: Path) -> str:
    """The same for every process that continues a run; an agent of a W&B sweep gives its own."""
    if "WANDB_SWEEP_ID" in os.environ and "WANDB_RUN_ID" in os.environ:
        return os.environ["WANDB_RUN_ID"]
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]


def _saved_key(server: str) -> str | None:
    """The key that `wandb login` left in the user's netrc file."""
    import netrc

    try:
        entries = netrc.netrc().hosts
    except (OSError, netrc.NetrcParseError):
        return None
    host = urlsplit(server).hostname
    return next((login[2] for name, login in entries.items() if name == host or "wandb" in name), None)
