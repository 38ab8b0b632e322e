"""What the start and the end of an arm solve with many samples."""

from __future__ import annotations

import numpy as np

from rlreason.evaluation.coverage import Coverage, coverage
from rlreason.run.stage import FINAL, INIT
from rlreason.study.arms import Arm, clusters_of, joined
from rlreason.study.gains import tables_of


def arm_coverage(arm: Arm) -> Coverage | None:
    """Start and end of an arm beside each other; None where no seed sampled both of them."""
    ends = [tables_of(arm, checkpoint) for checkpoint in (INIT, FINAL)]
    seeds = [
        seed
        for seed in sorted(set(ends[0]) & set(ends[1]))
        if all(tables[seed]["samples"].min() > 0 for tables in ends)
    ]
    if not seeds:
        return None
    columns = [tables[seed][name] for tables in ends for name in ("samples", "right") for seed in seeds]
    problems, values = joined(columns)
    if problems.empty:
        return None
    counts = values.astype(np.int64).reshape(2, 2, len(seeds), len(problems))
    start, end = ((samples, right) for samples, right in counts)
    return coverage(start, end, clusters_of(ends[0][seeds[0]], problems))


def coverage_lines(arms: tuple[Arm, ...]) -> list[str]:
    """A sentence for every arm of which only one end was sampled."""
    lines = []
    for arm in arms:
        sampled = [
            any(table["samples"].min() > 0 for table in tables_of(arm, checkpoint).values())
            for checkpoint in (INIT, FINAL)
        ]
        if sampled[0] != sampled[1]:
            lacking = "end" if sampled[0] else "start"
            lines.append(
                f"{arm.label}: its {lacking} was not sampled, so which questions it has gained or lost is not known; "
                "eval.k samples both"
            )
    return lines
