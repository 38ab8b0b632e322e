"""What a user sees while a run goes on: progress bars, one line per finished stage, a table at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from rlreason.errors import in_one_line
from rlreason.evaluation.statistics import interval_text, questions_text
from rlreason.run.identity import prompt_of
from rlreason.run.left_out import LeftOut, in_words

SECONDS_BETWEEN_LINES = 60.0  # of progress, where the console is no terminal
SECONDS_BETWEEN_LOOKS = 1.0
MOST_SAID = 200  # characters of what was said of a trouble
DIFFERENCE = "difference [95 % interval]"


class Bar:
    """How far a piece of work is, and for how long it has gone on.

    Args:
        description: What is done.
        clock: Seconds since some moment.
        progress: Shows it on a terminal.
    """

    def __init__(self, description: str, clock: Callable[[], float], progress: Progress | None = None) -> None:
        self._description = description
        self._clock = clock
        self._show: Callable[..., None] = lambda **_: None
        if progress is not None:
            self._show = partial(progress.update, progress.add_task(description, total=None, note=""))
        self._start = clock()
        self._done = self._total = 0
        self._note = ""
        self._measured_from: tuple[int, float] | None = None

    def update(self, done: int, total: int, note: str) -> None:
        """Show `done` of `total`, and a note such as a rate."""
        if self._measured_from is None:
            # What is continued begins in the middle, and says nothing of its speed so far.
            self._measured_from = (0, self._start) if done <= 1 else (done, self._clock())
        self._done, self._total, self._note = done, total, note
        self._show(completed=done, total=total, note=note)

    def seconds(self) -> float:
        """Seconds since the bar went up; never 0."""
        return max(self._clock() - self._start, 1e-6)

    def words(self) -> str:
        """The state in one line: what, how much of it, how fast, for how long, and how much longer."""
        parts = []
        if self._total:
            parts.append(f"{self._done:,} of {self._total:,} ({self._done / self._total:.0%})")
        parts += [self._note] if self._note else []
        begun, since = self._measured_from or (0, self._start)
        if self._done > begun:
            rate = (self._done - begun) / max(self._clock() - since, 1e-6)
            parts.append(f"{60 * rate:,.3g} a minute")
            parts.append(f"about {_duration((self._total - self._done) / rate)} left")
        parts.append(f"{_duration(self.seconds())} so far")
        return f"{self._description}: {', '.join(parts)}"


class Display:
    """Writes to one console, and repeats finished lines in the run's event log.

    Where the console is no terminal, a line says every minute how far the work is, in place of bars.

    Args:
        console: Where to write.
        clock: Seconds since some moment.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self._clock = clock
        self._under_way: list[Bar] = []  # the outermost first
        self._last_beat = clock()
        self._beating = threading.Lock()
        self.record: Callable[[str], None] = lambda text: None

    def line(self, text: str) -> None:
        """A line that stays, here and in the event log."""
        self._print(text)
        self.record(text)

    @contextmanager
    def bar(self, description: str) -> Iterator[Bar]:
        """A progress bar for the block; it leaves one line behind. Within another bar it is silent on a terminal."""
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        outermost = not self._under_way
        shown = self.console.is_terminal and outermost
        with Progress(*columns, console=self.console, disable=not shown) as progress:
            bar = Bar(description, self._clock, progress)
            with self._told_of(bar):
                yield bar
        summary = f"{description} ({bar.seconds():.0f} s)"
        if outermost and self.console.is_terminal:
            self.record(summary)
        elif outermost:
            self.line(summary)

    @contextmanager
    def status(self, text: str, spinner: bool = True) -> Iterator[None]:
        """A step whose length is not known, with a spinner unless it shows something of its own on a terminal."""
        if self._under_way or not spinner or not self.console.is_terminal:
            with self._told_of(Bar(text, self._clock)):
                yield
            return
        with self.console.status(text):
            yield

    def beat(self) -> None:
        """Say how far the work is, the innermost piece first, where that was last said a minute ago or earlier."""
        with self._beating:
            if self._under_way and self._clock() - self._last_beat >= SECONDS_BETWEEN_LINES:
                self._last_beat = self._clock()
                self._print("; ".join(bar.words() for bar in reversed(self._under_way)))

    @contextmanager
    def _told_of(self, bar: Bar) -> Iterator[None]:
        """Say every minute of the block how far `bar` is, unless a terminal shows it."""
        outermost, ended = not self._under_way, threading.Event()
        self._under_way.append(bar)

        def tell() -> None:
            while not ended.wait(SECONDS_BETWEEN_LOOKS):
                self.beat()

        teller = threading.Thread(target=tell, daemon=True)
        if outermost and not self.console.is_terminal and not self.console.quiet:
            self._last_beat = self._clock()
            teller.start()
        try:
            yield
        finally:
            ended.set()
            if teller.ident is not None:
                teller.join()
            self._under_way.pop()

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def table(self, result: Mapping[str, Any]) -> None:
        """Before, after and paired difference of every metric."""
        evaluations = {item["stage"]: item["metrics"] for item in result["evaluations"]}
        if "judging" in result:
            self._judging(result["judging"])
        first, last = next(iter(evaluations)), next(reversed(evaluations))
        if first == last:
            self._single(result, evaluations[first])
            return
        measured = next(iter(evaluations[last].values()))
        together = f", {questions_text(measured)}" if "clusters" in measured else ""
        self.line(f"{result['name']}: before ({first}) and after ({last}), {asked_with(result)}{together}")
        table = _table("before", "after", DIFFERENCE)
        for metric, after in evaluations[last].items():
            before = evaluations[first].get(metric)
            if before:
                difference = interval_text(result["differences"][metric], signed=True)
                table.add_row(metric, f"{before['value']:.3f}", f"{after['value']:.3f}", difference)
        self.console.print(table)
        if "last" in evaluations:
            shown = ", ".join(f"{metric} {item['value']:.3f}" for metric, item in evaluations["last"].items())
            self.line(f"validation questions selected {result['policy']}; the last one, {result['last']}, has {shown}")
        if "good_minus_bad" in result:
            self._control(result, evaluations.get("last", evaluations[last]))

    def brief(self, result: Mapping[str, Any], finished_earlier: bool) -> None:
        """One line for a job of a sweep."""
        values = [item["metrics"]["maj@1"]["value"] for item in result["evaluations"]]
        shown_values = " -> ".join(f"{value:.3f}" for value in (*values[:1], *values[1:][-1:]))
        when = "finished earlier" if finished_earlier else f"finished in {result['seconds']['total']:.0f} s"
        self.line(f"{result['name']}: {when}, maj@1 {shown_values}")

    def _control(self, result: Mapping[str, Any], good: Mapping[str, Mapping[str, float]]) -> None:
        """The control experiment of return-conditioned RL."""
        bad = next(item["metrics"] for item in result["evaluations"] if item["stage"] == "asked-for-bad")
        self.line("the same policy, asked for good and asked for bad")
        table = _table("good", "bad", DIFFERENCE)
        for metric, difference in result["good_minus_bad"].items():
            values = [f"{evaluated[metric]['value']:.3f}" for evaluated in (good, bad)]
            table.add_row(metric, *values, interval_text(difference, signed=True))
        self.console.print(table)

    def _judging(self, report: Mapping[str, Any]) -> None:
        """How well an outcome reward model judges, after each fifth of a solution and at its end."""
        table = Table("steps read", "AUC", "accuracy")
        for number, part in enumerate(report["by_fifth"][:-1], start=1):
            table.add_row(f"{number}/5", f"{part['auc']:.3f}", f"{part['accuracy']:.3f}")
        table.add_row("all", interval_text(report["auc"]), interval_text(report["accuracy"]))
        for name in report["baselines"]:
            table.add_row(f"AUC above {name}", interval_text(report[f"auc_above_{name}"], signed=True), "")
        self.console.print(table)

    def _single(self, result: Mapping[str, Any], metrics: Mapping[str, Mapping[str, float]]) -> None:
        self.line(f"{result['name']}: {asked_with(result)}")
        table = _table("value [95 % interval]", "problems")
        for metric, value in metrics.items():
            table.add_row(metric, interval_text(value), questions_text(value).replace(" questions", "", 1))
        self.console.print(table)

    def _elsewhere(self, where: str, found: Mapping[str, Any]) -> None:
        """maj@1 of the first and the last policy besides the table."""
        change = f"{found['before']['value']:.3f} to {found['after']['value']:.3f}"
        self.line(f"{where}: maj@1 from {change}, {interval_text(found['difference'], signed=True)}")

    def _left_out(self, rows: Sequence[LeftOut]) -> None:
        """What was retried, skipped or left out, a row for each kind of which there is something."""
        if not rows:
            return
        table = Table("retried, skipped or left out")
        for heading in ("number", "of"):
            table.add_column(heading, justify="right")
        for row in rows:
            last = "" if row.last is None else f"\nthe last: {in_one_line(row.last, MOST_SAID)}"
            table.add_row(Text(row.what + last), f"{row.count:,}", "" if row.of is None else f"{row.of:,}")
            self.record(in_words(row))
        self.console.print(table)

    def closing(self, result: Mapping[str, Any], folder: Path) -> None:
        """The verdict, the cost, and where everything lies."""
        self.line(result["verdict"])
        if result.get("gain"):
            named = ("answers_found", "answers_right")
            found, right = (interval_text(result["gain"][part], signed=True) for part in named)
            self.line(f"the gain of maj@1: {found} by more answers found, {right} by more right ones among them")
        if "out_of_distribution" in result:
            self._elsewhere("on questions with more steps than training has", result["out_of_distribution"])
        if "second_prompt" in result:
            self._elsewhere(f"under prompt={result['second_prompt']['prompt']}", result["second_prompt"])
        self._left_out([LeftOut(**row) for row in result.get("left_out", ())])
        seconds = result["seconds"]
        parts = ", ".join(f"{kind} {amount:.0f}" for kind, amount in seconds.items() if kind != "total")
        self.line(f"{seconds['total']:.0f} s in all ({parts}); {sum(result['tokens'].values()):,} tokens")
        if result.get("plan"):
            self.line(comparison_line(result["plan"]))
        self.line(f"everything is in {folder}")


def asked_with(result: Mapping[str, Any]) -> str:
    """The prompt that the numbers of a run were made with."""
    prompt = prompt_of(result)
    extraction = prompt["extraction"]
    return f"prompt={prompt['name']}" + (f" ({extraction})" if extraction != "standard" else "")


def comparison_line(plan: Mapping[str, Mapping[str, list[float | None]]]) -> str:
    """Memory, seconds and tokens of every kind of work, each as planned and as measured, in one line."""

    def pair(values: list[float | None], unit: str) -> str:
        shown = ["?" if value is None else f"{value:,.3g}" if value < 100 else f"{value:,.0f}" for value in values]
        return " -> ".join(shown) + unit

    parts = [
        f"{kind} {pair(item['memory_gib'], ' GiB')}, {pair(item['seconds'], ' s')}, {pair(item['tokens'], ' tokens')}"
        for kind, item in plan.items()
    ]
    return f"planned -> measured: {'; '.join(parts)}"


def _duration(seconds: float) -> str:
    """Hours, minutes and seconds, as on a clock."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _table(*numbers: str) -> Table:
    """A table with a column for the metric and one for each of `numbers`."""
    table = Table()
    table.add_column("metric", no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def plain_list(items: Sequence[str], most: int = 3) -> str:
    """The first few items, and how many more there are."""
    more = f" and {len(items) - most:,} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
