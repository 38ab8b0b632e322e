"""The watching task: how far a study is, shown until it ends; read from its files, on any machine that sees them."""

from __future__ import annotations

import sys
import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rlreason.config.experiment import ExperimentConfig
from rlreason.study.plan import study_folder
from rlreason.study.progress import FAILED, FINISHED, RUNNING, WAITING, JobProgress, StudyProgress, study_progress

STYLES = {RUNNING: "bold cyan", FAILED: "bold red", FINISHED: "green", WAITING: "dim"}
HEADER_LINES = 8  # of the view besides the rows of jobs


def watch(config: ExperimentConfig, console: Console | None = None, refresh_seconds: float = 2.0) -> None:
    """Show how far a study is: on a terminal until it has ended or Ctrl-C, elsewhere once.

    Args:
        config: The experiment; only `runs_dir` and `study` count.
        console: Where to.
        refresh_seconds: Time between two looks at the files.

    Raises:
        UserError: No study is named, or there is none by that name.
    """
    console = console or (Console() if sys.stdout.isatty() else Console(width=160))
    folder = study_folder(config)
    progress = study_progress(folder, time.time())
    if not console.is_terminal:
        console.print(view(progress))
        return
    try:
        with Live(view(progress, console.height), console=console, auto_refresh=False) as live:
            while not progress.ended:
                time.sleep(refresh_seconds)
                progress = study_progress(folder, time.time())
                live.update(view(progress, console.height), refresh=True)
    except KeyboardInterrupt:
        return  # of the view; the study goes on


def view(progress: StudyProgress, height: int | None = None) -> RenderableType:
    """The whole view.

    Args:
        progress: The study's progress.
        height: Lines that there are; what is running and what failed comes first then. None: no limit.
    """
    table = Table(expand=False)
    for heading in ("job", "state", "stage"):
        table.add_column(heading, overflow="fold" if height is None else "ellipsis", no_wrap=height is not None)
    for heading in ("samples", "validation", "test", "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    shown = list(progress.jobs) if height is None else most_telling(progress.jobs, max(1, height - HEADER_LINES))
    for item in shown:
        table.add_row(*row(item))
    lines: list[RenderableType] = [Text(summary(progress)), table]
    if len(shown) < len(progress.jobs):
        lines.append(Text(f"and {len(progress.jobs) - len(shown)} more", style="dim"))
    if not progress.ended and not progress.count(RUNNING) and progress.commands:
        lines.append(Text(f"nothing is running; to go on: {progress.commands[-1].command}"))
    return Group(*lines)


def summary(progress: StudyProgress) -> str:
    """The counts and the times of a study in one line."""
    counts = ", ".join(
        f"{progress.count(state)} {state}" for state in (RUNNING, FAILED, WAITING) if progress.count(state)
    )
    text = f"{progress.name}: {progress.count(FINISHED)} of {len(progress.jobs)} jobs finished"
    text = f"{text}, {counts}" if counts else text
    text = f"{text}; {duration(sum(item.seconds for item in progress.jobs))} of work done"
    if progress.ended or progress.seconds_left is None:
        return text
    return f"{text}, about {duration(progress.seconds_left)} left"


def row(item: JobProgress) -> tuple[RenderableType, ...]:
    """The cells of a job."""
    accuracies = [f"{item.accuracy[split]:.3f}" if split in item.accuracy else "" for split in ("validation", "test")]
    samples = f"{item.samples_seen:,}" if item.samples_seen else ""
    time_taken = duration(item.seconds) if item.seconds else ""
    state = Text(item.state, style=STYLES[item.state])
    return (Text(item.job.name), state, Text(item.stage), samples, *accuracies, time_taken)


def most_telling(jobs: tuple[JobProgress, ...], most: int) -> list[JobProgress]:
    """At most so many jobs: what is running, what failed, what finished last, what is next."""
    order = {RUNNING: 0, FAILED: 1, FINISHED: 2, WAITING: 3}
    newest_first = sorted(jobs, key=lambda item: (order[item.state], -item.changed))
    waiting = [item for item in newest_first if item.state == WAITING]
    others = [item for item in newest_first if item.state != WAITING]
    kept = others[: max(0, most - min(2, len(waiting)))]
    return kept + waiting[: most - len(kept)]


def duration(seconds: float) -> str:
    """Such as "45 s", "12 min" or "3 h 05 min"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
