"""Tables of what was gained: answers found or right, under which prompt, and with how many samples."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd

from rlreason.evaluation.coverage import Crossing, no_crossing
from rlreason.evaluation.metrics import ANSWERED
from rlreason.evaluation.statistics import interval_text
from rlreason.run.stage import FINAL, INIT
from rlreason.study.arms import Arm, Comparison
from rlreason.study.gains import two_prompts
from rlreason.study.measures import (
    BY_FOUND,
    BY_RIGHT,
    CROSSING,
    FOUND_CHANGE,
    GAIN,
    GAIN_EXCESS,
    GAIN_HERE,
    GAIN_SECOND,
    HERE,
    RIGHT_CHANGE,
    RIGHT_OF_FOUND,
    SECOND,
    SOLVED_BY,
    SOLVED_MORE,
    SOLVED_SAMPLES,
)
from rlreason.study.tables import Cell, Cells, Lookup, Record, Table, arm_table, count, number


def gained_tables(comparison: Comparison, table: pd.DataFrame) -> list[Table]:
    """Every table that some arm was measured for."""
    find = Lookup(table, comparison.title)
    made = (
        _split(comparison, find),
        _prompts(comparison, find),
        _pass_at_k(comparison, find),
        _solved(comparison, find),
    )
    return [item for item in made if item is not None]


def _split(comparison: Comparison, find: Lookup) -> Table | None:
    def cells(arm: Arm) -> tuple[Cell, ...]:
        return (
            Cell(_signed(find(arm, GAIN))),
            Cell(_from_to(find, arm, ANSWERED), _signed(find(arm, FOUND_CHANGE))),
            Cell(_from_to(find, arm, RIGHT_OF_FOUND), _signed(find(arm, RIGHT_CHANGE))),
            Cell(_signed(find(arm, BY_FOUND))),
            Cell(_signed(find(arm, BY_RIGHT))),
        )

    columns = (
        "gain of maj@1",
        "answers found",
        "right, of those found",
        "gain by answers found",
        "gain by answers right",
    )
    title = "What was gained: answers found, or answers right; the last two columns add up to the gain"
    return _table(title, comparison, find, GAIN, columns, cells)


def _prompts(comparison: Comparison, find: Lookup) -> Table | None:
    def cells(arm: Arm) -> tuple[Cell, ...]:
        both = two_prompts(arm)
        return (
            Cell("" if both is None else both.name),
            Cell(_from_to(find, arm, HERE), _signed(find(arm, GAIN_HERE))),
            Cell(_from_to(find, arm, SECOND), _signed(find(arm, GAIN_SECOND))),
            Cell(_signed(find(arm, GAIN_EXCESS))),
        )

    columns = ("second prompt", "maj@1, training prompt", "maj@1, second prompt", "gain less that under the second")
    title = "The gain under a second prompt, on the questions that were asked under both"
    return _table(title, comparison, find, GAIN_HERE, columns, cells)


def _pass_at_k(comparison: Comparison, find: Lookup) -> Table | None:
    if comparison.k < 2:
        return None
    powers = [2**power for power in range(1, comparison.k.bit_length()) if 2**power < comparison.k]
    metrics = ("accuracy@temperature", *(f"pass@{k}" for k in (*powers, comparison.k)))

    def cells(arm: Arm) -> tuple[Cell, ...]:
        return tuple(Cell(_from_to(find, arm, metric)) for metric in metrics)

    title = "pass@k from the start to the end of training"
    columns = tuple(f"k = {k}" for k in (1, *powers, comparison.k))
    return _table(title, comparison, find, metrics[-1], columns, cells)


def _solved(comparison: Comparison, find: Lookup) -> Table | None:
    def cells(arm: Arm) -> tuple[Cell, ...]:
        samples = find(arm, SOLVED_SAMPLES)
        shares = (find(arm, name) for name in SOLVED_BY)
        return (
            Cell("" if samples is None else count(samples.value)),
            *(Cell("" if record is None else number(record.value)) for record in shares),
            Cell(_signed(find(arm, SOLVED_MORE))),
            Cell("" if samples is None else _crossing(find(arm, CROSSING), int(samples.value)).text),
        )

    columns = ("samples", "both", "start only", "end only", "neither", "end only less start only", "curves cross at k")
    title = (
        "Questions solved by a sample of the start, of the end, of both or of neither; shares, mean over seeds. An "
        "unchanged policy, too, solves some at one of two times alone, as many at either"
    )
    return _table(title, comparison, find, SOLVED_MORE, columns, cells)


def _table(
    title: str, comparison: Comparison, find: Lookup, needs: str, columns: tuple[str, ...], cells: Cells
) -> Table | None:
    """A table with the arms that have a metric; None where there is none."""
    measured = tuple(arm for arm in comparison.arms if find(arm, needs) is not None)
    if not measured:
        return None
    return arm_table(title, replace(comparison, arms=measured), columns, cells)


def _crossing(record: Record | None, most: int) -> Crossing:
    if record is None:
        return no_crossing(most)
    return Crossing(int(record.value), int(record.low), None if math.isinf(record.high) else int(record.high), most)


def _signed(record: Record | None) -> str:
    return "" if record is None else interval_text(record, signed=True)


def _from_to(find: Lookup, arm: Arm, metric: str) -> str:
    start, end = find(arm, metric, INIT), find(arm, metric, FINAL)
    shown = ["not measured" if record is None else number(record.value) for record in (start, end)]
    return " \N{RIGHTWARDS ARROW} ".join(shown)
