"""From the tidy table to the tables of a report; what they show is what `results.csv` holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from rlreason.config.inits import INITS
from rlreason.evaluation.metrics import CUT, KNOWN, KNOWN_NULL, LENIENT, NO_ANSWER, UNREAD
from rlreason.evaluation.statistics import Bracket
from rlreason.run.stage import FINAL, INIT
from rlreason.study.arms import Arm, Comparison
from rlreason.study.curves import bracket_text
from rlreason.study.figures.style import short_count, short_label
from rlreason.study.measures import ELSEWHERE, OUTCOME_MODELS, SAMPLES_TO_COMMON, SAMPLES_TO_FINAL


@dataclass(frozen=True)
class Cell:
    """One cell.

    Args:
        text: What it says.
        detail: A second, smaller line.
        best: Whether it is the best of its table.
    """

    text: str
    detail: str = ""
    best: bool = False


@dataclass(frozen=True)
class Row:
    """One row; one that has no cells is a heading.

    Args:
        name: What it is about.
        cells: One for every further column.
    """

    name: str
    cells: tuple[Cell, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        title: Its caption.
        columns: The first names the rows.
        rows: From top to bottom.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


Record = Any  # a row of the tidy table
Cells = Callable[[Arm], tuple[Cell, ...]]


class Lookup:
    """Finds rows of the tidy table of one comparison."""

    def __init__(self, table: pd.DataFrame, title: str) -> None:
        self._rows: dict[tuple[Any, ...], Record] = {
            (row.algo, row.reward, row.init, row.model, row.variant, row.stage, row.metric): row
            for row in table[table["comparison"] == title].itertuples()
        }

    def __call__(self, arm: Arm, metric: str, checkpoint: str = FINAL) -> Record | None:
        """The row of an arm, a metric and a checkpoint."""
        return self._rows.get((*arm.names.values(), checkpoint, metric))


def results_tables(comparison: Comparison, table: pd.DataFrame, interval_digits: int = 3) -> list[Table]:
    """For every model: each arm's measures, which is best, and how far the others lie below it."""
    find = Lookup(table, comparison.title)
    found = []
    for model in comparison.models:
        rows: list[Row] = []
        for init, arms in _by_init(comparison, model):
            title = INITS[init].title
            rows.append(Row(f"{title[0].upper()}{title[1:]}"))
            start = [find(arms[0], metric, INIT) for metric in comparison.metrics]
            if any(record is not None for record in start):
                rows.append(Row("at the start", tuple(Cell(_value(record, interval_digits)) for record in start)))
            for arm in arms:
                records = [find(arm, metric) for metric in comparison.metrics]
                rows.append(Row(_with_seeds(arm), tuple(_against_best(record, interval_digits) for record in records)))
        found.append(Table(model, ("arm", *comparison.metrics), tuple(rows)))
    return found


def cost_table(comparison: Comparison, table: pd.DataFrame) -> Table:
    """What every arm cost, and how many samples it needed."""
    find = Lookup(table, comparison.title)
    return arm_table(
        "Cost per run, mean over seeds",
        comparison,
        (
            "training rollouts",
            "rollouts to 95 % of its own final maj@1 (median over seeds)",
            "rollouts to 95 % of the best maj@1 with this start",
            "seconds",
            "tokens",
        ),
        lambda arm: (
            _cell(find(arm, "maj@1"), lambda row: count(row.samples_drawn)),
            _cell(find(arm, SAMPLES_TO_FINAL), _between),
            _cell(find(arm, SAMPLES_TO_COMMON), _between),
            _cell(find(arm, "maj@1"), lambda row: count(row.seconds)),
            _cell(find(arm, "maj@1"), lambda row: short_count(row.tokens)),
        ),
    )


def diversity_table(comparison: Comparison, table: pd.DataFrame) -> Table | None:
    """How different solutions are, and how accuracy carries over to other questions; None without any of it."""
    find = Lookup(table, comparison.title)
    metrics = {
        "different right solutions per question": ("distinct_right", INIT, FINAL),
        "right samples known at the start": (KNOWN, FINAL),
        "the start's own right samples, of another draw": (KNOWN_NULL, FINAL),
        "edit distance of two samples": ("edit_distance", INIT, FINAL),
        "right solutions found per training question": ("training_solutions_found", FINAL),
        "maj@1 on questions with more steps": (ELSEWHERE, INIT, FINAL),
        "AUC of the ORM": ("orm_auc", FINAL),
        "its calibration error": ("orm_calibration_error", FINAL),
    }
    present = {
        name: places
        for name, places in metrics.items()
        if any(find(arm, places[0]) is not None for arm in comparison.arms)
    }
    if not present:
        return None

    def cells(arm: Arm) -> tuple[Cell, ...]:
        return tuple(
            _from_to([find(arm, metric, checkpoint) for checkpoint in checkpoints])
            for metric, *checkpoints in present.values()
        )

    title = "Diversity, other questions, and the outcome reward model; from the start to the end of training"
    return arm_table(title, comparison, tuple(present), cells)


def strictness_table(comparison: Comparison, table: pd.DataFrame) -> Table:
    """Accuracy by stated answers and leniently, and the shares without a verdict, at the start and at the end."""
    find = Lookup(table, comparison.title)
    columns = {
        "maj@1, as stated": "maj@1",
        "or else the last number": LENIENT,
        "no answer stated": NO_ANSWER,
        "cut at the token limit": CUT,
        "not read": UNREAD,
    }

    def cells(arm: Arm) -> tuple[Cell, ...]:
        return tuple(
            _from_to([find(arm, metric, checkpoint) for checkpoint in (INIT, FINAL)]) for metric in columns.values()
        )

    title = "Answers as stated and leniently, and completions without a verdict; from the start to the end of training"
    return arm_table(title, comparison, tuple(columns), cells)


def outcome_model_table(table: pd.DataFrame) -> Table | None:
    """How well the outcome reward models judge; None where none was trained by itself."""
    chosen = table[table["comparison"] == OUTCOME_MODELS]
    if chosen.empty:
        return None
    metrics = ("auc", "accuracy", "calibration_error")
    rows = []
    for name, part in chosen.groupby("variant", sort=True):
        records = {row.metric: row for row in part.itertuples()}
        cells = tuple(Cell(_value(records.get(metric))) for metric in metrics)
        rows.append(Row(str(name), cells))
    return Table(
        "Outcome reward models on unseen solutions", ("run", "AUC", "accuracy", "calibration error"), tuple(rows)
    )


def number(value: float, digits: int = 3) -> str:
    """A measure as the tables show it."""
    return f"{value:.{digits}f}" if abs(value) < 100 else f"{value:,.0f}"


def count(value: float) -> str:
    """A whole number with separators."""
    return f"{value:,.0f}"


def p_text(value: float) -> str:
    """A p-value, not more exact than it is worth."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def arm_table(title: str, comparison: Comparison, columns: tuple[str, ...], cells: Cells) -> Table:
    """A table with a row for every arm, under headings for model and init.

    Args:
        title: Its caption.
        comparison: The arms.
        columns: Without the first, which names the arms.
        cells: Those of an arm, one for every column.
    """
    rows: list[Row] = []
    for model in comparison.models:
        for init, arms in _by_init(comparison, model):
            rows.append(Row(f"{model}, {INITS[init].title}"))
            rows += [Row(short_label(arm), cells(arm)) for arm in arms]
    return Table(title, ("arm", *columns), tuple(rows))


def _by_init(comparison: Comparison, model: str) -> list[tuple[str, list[Arm]]]:
    inits = dict.fromkeys(arm.init for arm in comparison.arms if arm.model == model)
    return [(init, comparison.find(model=model, init=init)) for init in inits]


def _with_seeds(arm: Arm) -> str:
    seeds = len(arm.runs)
    return f"{short_label(arm)}, {seeds} seed{'s' if seeds > 1 else ''}"


def _against_best(record: Record | None, digits: int) -> Cell:
    if record is None:
        return Cell("")
    if pd.isna(record.below_best):
        return Cell(_value(record, digits), best=bool(record.best))
    below = f"{-record.below_best:+.3f}".replace("-", "\N{MINUS SIGN}")
    below = "0.000" if float(record.below_best) < 0.0005 else below
    return Cell(_value(record, digits), f"{below}, {p_text(record.p_value)}", bool(record.best))


def _value(record: Record | None, digits: int = 3) -> str:
    if record is None:
        return ""
    if pd.isna(record.low):
        return number(record.value)
    return f"{number(record.value)} [{number(record.low, digits)}, {number(record.high, digits)}]"


def _between(record: Record) -> str:
    return bracket_text(Bracket(record.low, record.high))


def _cell(record: Record | None, shown: Callable[[Record], str]) -> Cell:
    return Cell("" if record is None else shown(record))


def _from_to(records: list[Record | None]) -> Cell:
    present = [number(record.value) for record in records if record is not None]
    return Cell(" \N{RIGHTWARDS ARROW} ".join(present) or "not measured")
