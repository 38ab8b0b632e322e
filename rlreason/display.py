"""What a user sees while a run goes on: progress bars, one line per finished stage, a table at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from rlreason.evaluation.statistics import interval_text, questions_text
from rlreason.run.identity import prompt_of

DIFFERENCE = "difference [95 % interval]"


class Bar:
    """A progress bar that knows how long it has been up."""

    def __init__(self, progress: Progress, description: str) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=None, note="")
        self._start = time.monotonic()

    def update(self, done: int, total: int, note: str) -> None:
        """Show `done` of `total`, and a note such as a rate."""
        self._progress.update(self._task, completed=done, total=total, note=note)

    def seconds(self) -> float:
        """Seconds since the bar went up; never 0."""
        return max(time.monotonic() - self._start, 1e-6)


class Display:
    """Writes to one console, and repeats finished lines in the run's event log."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars = 0
        self.record: Callable[[str], None] = lambda text: None

    def line(self, text: str) -> None:
        """A line that stays, here and in the event log."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
        self.record(text)

    @contextmanager
    def bar(self, description: str) -> Iterator[Bar]:
        """A progress bar for the block; it leaves one line behind. Within another bar it is silent."""
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        shown = self.console.is_terminal and self._bars == 0
        self._bars += 1
        try:
            with Progress(*columns, console=self.console, disable=not shown) as progress:
                bar = Bar(progress, description)
                yield bar
        finally:
            self._bars -= 1
        summary = f"{description} ({bar.seconds():.0f} s)"
        if self._bars == 0 and self.console.is_terminal:
            self.record(summary)
        elif self._bars == 0:
            self.line(summary)

    @contextmanager
    def status(self, text: str) -> Iterator[None]:
        """A spinner for a step whose length is not known."""
        if self._bars:
            yield
            return
        with self.console.status(text):
            yield

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
        cut, drawn = sum(result["cut_at_limit"].values()), sum(result["rollouts"].values())
        if cut:
            self.line(f"{cut:,} of {drawn:,} completions were cut at data.max_completion_tokens")
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
