"""Whether arms had equal means: what each learned from, what it left of its budget, and what selection did."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rlreason.run.stage import FINAL, LAST
from rlreason.study.arms import Arm, Comparison
from rlreason.study.figures.style import short_label
from rlreason.study.measures import BUDGET, BUDGET_UNUSED, OUTCOME_MODEL_ROLLOUTS
from rlreason.study.tables import Cell, Lookup, Row, Table, count, number


def budget_table(comparison: Comparison, table: pd.DataFrame) -> Table:
    """Budget, rollouts, and maj@1 of the selected and of the last checkpoint of every arm; means over seeds."""
    find = Lookup(table, comparison.title)

    def counted(arm: Arm, metric: str) -> Cell:
        record = find(arm, metric)
        return Cell("" if record is None else count(record.value))

    def accuracy(arm: Arm, checkpoint: str) -> Cell:
        record = find(arm, "maj@1", checkpoint)
        return Cell("" if record is None else number(record.value))

    rows = []
    for arm in comparison.arms:
        learned = Cell(count(float(np.mean([run.samples_drawn for run in arm.runs]))))
        # An arm whose runs all ended with their last checkpoint has no row of its own for it.
        last = FINAL if all(run.ended_with_last for run in arm.runs) else LAST
        cells = (counted(arm, BUDGET), learned, counted(arm, OUTCOME_MODEL_ROLLOUTS), counted(arm, BUDGET_UNUSED))
        name = f"{arm.model}, {arm.init}, {short_label(arm)}"
        rows.append(Row(name, (*cells, accuracy(arm, FINAL), accuracy(arm, last))))
    columns = ("budget", "learned from", "of these for its ORM", "left unused", "maj@1, selected", "maj@1, last")
    return Table("Equal means: the rollouts of a run, and its checkpoints", ("arm", *columns), tuple(rows))
