"""The plan task: what a composed experiment will take, before anything is downloaded or started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlreason.config.context import longest_context
from rlreason.config.experiment import ExperimentConfig
from rlreason.planning.differences import difference_lines
from rlreason.planning.facts import total
from rlreason.planning.hardware import GIB
from rlreason.planning.memory import KINDS
from rlreason.planning.phases import Phase
from rlreason.planning.plan import Plan, make_plan

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

ORDER = ("libraries", *KINDS, "loading", "offloaded", "critic", "reference model", "engine", "KV cache")


def plan(config: ExperimentConfig, console: Console) -> None:
    """Show the plan of an experiment.

    Raises:
        UserError: The experiment cannot be planned; the message says why.
    """
    made = make_plan(config)

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    counted = "unknown size"
    if made.shape is not None:
        counted = f"{'about ' if made.shape.guessed else ''}{made.shape.parameters:,} parameters"
    line(f"{config.algo.name} with {config.model.name} ({counted}) on {config.data.name}, for {made.machine.words()}")
    for batch in made.batches:
        line(f"{batch.section}: {batch.words()}")
    for where in ("device", "host") if made.machine.gpus else ("host",):
        console.print(memory_table(where, made))
    for text in engine_lines(config, made):
        line(text)
    console.print(disk_table(made))
    console.print(work_table(made))
    for text in (*difference_lines(config), *closing_lines(config, made)):
        line(text)


def memory_table(where: str, made: Plan) -> Table:
    """Peak memory by phase and kind, in GiB: of the fullest GPU, or of a node's main memory."""
    phases = made.phases
    there = made.machine.gpu_memory if where == "device" else made.machine.memory
    size = f" of {there / GIB:.0f}" if there else ""
    title = f"peak memory of the fullest GPU, GiB{size}" if where == "device" else f"main memory of a node, GiB{size}"
    table = new_table(title, "kind", *(phase.name for phase in phases))
    for kind in ORDER:
        amounts = [getattr(phase, where).get(kind, 0.0) for phase in phases]
        if any(amount >= GIB / 2000 for amount in amounts):
            table.add_row(kind, *(gib(amount) if amount else "" for amount in amounts))
    table.add_section()
    totals = [sum(getattr(phase, where).values()) for phase in phases]
    table.add_row("together", *map(together, phases, totals))
    if there:
        table.add_row("", *(verdict(phase, total, there) for phase, total in zip(phases, totals, strict=True)))
    return table


def together(phase: Phase, total: float) -> str:
    """All memory of a phase, in GiB."""
    if phase.whole:
        return gib(total)
    return f">= {gib(total)}" if total else "unknown"


def verdict(phase: Phase, total: float, there: float) -> str:
    """Whether a phase fits; above 92 % the libraries' own memory and fragmentation may not be left room."""
    if total > there:
        return "too much"
    if not phase.whole:
        return "unknown"
    return "fits" if total <= 0.92 * there else "tight"


def engine_lines(config: ExperimentConfig, made: Plan) -> list[str]:
    """How much the engine can do at once."""
    context = longest_context(config)
    return [
        f"the engine has room for the keys and values of {phase.cached_tokens:,.0f} tokens: "
        f"{phase.cached_tokens / context:,.0f} of the longest contexts ({context:,} tokens) at once, "
        f"of engine.max_sequences={config.engine.max_sequences}; more where prompts are shared"
        for phase in made.phases
        if phase.cached_tokens is not None
    ]


def disk_table(made: Plan) -> Table:
    """Disk by purpose."""
    table = new_table("disk, GiB", "for", "GiB")
    for purpose, amount in made.disk.items():
        if amount != 0:
            table.add_row(purpose, "unknown" if amount is None else gib(amount))
    table.add_section()
    whole = total(made.disk.values())
    table.add_row("together", "unknown" if whole is None else gib(whole))
    return table


def work_table(made: Plan) -> Table:
    """Samples, tokens and hours of each phase, and where each figure of hours comes from."""
    table = new_table("work", "phase", "samples", "tokens", "steps", "hours", "hours by")
    table.columns[-1].justify = "left"
    table.columns[-1].no_wrap = False
    for time in made.times:
        work = time.work
        bound = "<= " if work.at_most else ""
        table.add_row(
            work.phase,
            "unknown" if work.samples is None else f"{bound}{work.samples:,}",
            "unknown" if work.tokens is None else f"{bound}{work.tokens:,.0f}",
            f"{work.steps:,}" if work.steps else "",
            "unknown" if time.hours is None else f"{bound}{hours(time.hours)}",
            time.source,
        )
    return table


def closing_lines(config: ExperimentConfig, made: Plan) -> list[str]:
    """Hours and money in all, and whether it fits."""
    found = []
    if made.hours is not None:
        bound = "at most " if any(time.work.at_most for time in made.times) else ""
        text = f"{bound}{hours(made.hours)} hours in all"
        if made.machine.gpus:
            used = made.hours * made.machine.gpus
            text += f", {hours(used)} GPU-hours"
            if config.gpu_hour_price is not None:
                text += f", {used * config.gpu_hour_price:,.2f} at {config.gpu_hour_price:g} a GPU-hour"
        found.append(text + "; without the engine's starts, grading and saving")
    found += made.unknown
    found += [f"does not fit: {short.words()}, and there are {gib(short.there)}" for short in made.short]
    if made.change:
        found.append(f"nearest change that fits{' as far as is known' * bool(made.unknown)}: {made.change}")
    elif made.short:
        found.append(
            "no change of micro-batch, checkpointing, sharding, engine or LoRA fits; a larger machine is needed"
        )
    elif made.unknown:
        found.append("whether everything fits is unknown")
    else:
        found.append("everything fits")
    return found


def new_table(title: str, *headings: str) -> Table:
    """A table whose first column is text and whose others are numbers."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left", no_wrap=number != 0)
    return table


def gib(amount: float) -> str:
    """Bytes in GiB."""
    value = amount / GIB
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.3f}"


def hours(amount: float) -> str:
    """Hours with two or three digits."""
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.1f}" if amount >= 1 else f"{amount:.3f}"
