"""What was gained: answers found or answers right, and under which prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from rlreason.evaluation.gains import LEAST_FOUND, GainSplit, split_gain
from rlreason.evaluation.metrics import ANSWERED
from rlreason.evaluation.statistics import Clusters, Estimate, crossed_estimate, interval_text
from rlreason.run.stage import FINAL, INIT
from rlreason.study.arms import Arm, Comparison, clusters_of, joined

Source = tuple[Mapping[int, pd.DataFrame], str]  # tables by seed, and the metric that is read from them
RIGHT = "maj@1"


@dataclass(frozen=True)
class TwoPrompts:
    """The gain of maj@1 under the prompt of training and under a second one, on the questions asked under both.

    Args:
        name: The second prompt.
        start: maj@1 of the start under either.
        end: maj@1 of the selected checkpoint under either.
        trained: The gain under the prompt of training.
        second: The gain under the second prompt.
        excess: The first gain less the second.
        better_start: maj@1 of the start under the second prompt less that under the prompt of training.
        over_better_start: maj@1 of the end under the prompt of training less that of the start under the second.
    """

    name: str
    start: tuple[float, float]
    end: tuple[float, float]
    trained: Estimate
    second: Estimate
    excess: Estimate
    better_start: Estimate
    over_better_start: Estimate


def tables_of(arm: Arm, checkpoint: str) -> dict[int, pd.DataFrame]:
    """What was measured of a checkpoint, by seed; without the seeds that did not measure it."""
    return {run.seed: table for run in arm.runs if (table := run.table(checkpoint)) is not None}


def gain_split(arm: Arm) -> GainSplit | None:
    """An arm's gain of maj@1, split; None where it was not measured, or too few answers were found at one end."""
    ends = [tables_of(arm, checkpoint) for checkpoint in (INIT, FINAL)]
    found = _together([*((tables, ANSWERED) for tables in ends), *((tables, RIGHT) for tables in ends)])
    if found is None:
        return None
    (found_before, found_after, right_before, right_after), clusters = found
    return split_gain((found_before, found_after), (right_before, right_after), clusters)


def two_prompts(arm: Arm) -> TwoPrompts | None:
    """An arm's gain under both prompts; None where no second one was measured, or not the same by every seed."""
    names = {str(run.second_prompt_name) for run in arm.runs}
    under = [
        {run.seed: run.second_prompt[checkpoint] for run in arm.runs if checkpoint in run.second_prompt}
        for checkpoint in (INIT, FINAL)
    ]
    found = _together([(tables, RIGHT) for tables in (tables_of(arm, INIT), tables_of(arm, FINAL), *under)])
    if found is None or len(names) > 1:
        return None
    (start, end, other_start, other_end), clusters = found

    def mean(values: npt.NDArray[np.float64], differs: bool = True) -> Estimate:
        return crossed_estimate(values, kind="difference" if differs else "number", clusters=clusters)

    return TwoPrompts(
        name=names.pop(),
        start=(float(start.mean()), float(other_start.mean())),
        end=(float(end.mean()), float(other_end.mean())),
        trained=mean(end - start),
        second=mean(other_end - other_start),
        excess=mean((end - start) - (other_end - other_start), differs=False),
        better_start=mean(other_start - start),
        over_better_start=mean(end - other_start),
    )


def gain_lines(comparison: Comparison) -> list[str]:
    """A sentence for every arm whose gain is not what it seems, as far as 95 % intervals show it."""
    return [line for arm in comparison.arms for line in (*_form(arm), *_prompts(arm))]


def _form(arm: Arm) -> list[str]:
    split = gain_split(arm)
    if split is None:
        counted = [estimate for checkpoint in (INIT, FINAL) if (estimate := arm.estimate(ANSWERED, checkpoint))]
        few = [item for item in counted if item.value * item.problems < LEAST_FOUND]
        if len(counted) < 2 or not few:
            return []
        return [
            f"{arm.label}: an answer was found in {counted[0].value:.3f} of its solutions at the start and in "
            f"{counted[1].value:.3f} at the end; how often so few are right is not known, so its gain is not split"
        ]
    if split.gain.low <= 0 or split.found_more.low <= 0:
        return []
    return [
        f"{arm.label}: most of its gain of maj@1, {_interval(split.gain)}, is answers found, not answers right: "
        f"{_interval(split.by_found)} by an answer in more solutions ({split.shares[0][0]:.3f} to "
        f"{split.shares[1][0]:.3f}), {_interval(split.by_right)} by more right ones among them"
    ]


def _prompts(arm: Arm) -> list[str]:
    both = two_prompts(arm)
    if both is None:
        return []
    lines = []
    if both.trained.low > 0 and both.second.low <= 0 and both.excess.low > 0:
        lines.append(
            f"{arm.label} is shown to gain under its training prompt only: maj@1 {_interval(both.trained)}, but "
            f"{_interval(both.second)} under prompt={both.name}; the difference is {_interval(both.excess)}"
        )
    if both.better_start.low > 0:
        lines.append(
            f"{arm.label}: its start is better under prompt={both.name}, maj@1 {both.start[1]:.3f} against "
            f"{both.start[0]:.3f}; over that start it gains {_interval(both.over_better_start)}"
        )
    return lines


def _together(sources: Sequence[Source]) -> tuple[npt.NDArray[np.float64], Clusters | None] | None:
    """Metrics of the seeds and the problems that all sources have; shape `(sources, seeds, problems)`."""
    having = [{seed: table for seed, table in tables.items() if metric in table} for tables, metric in sources]
    seeds = sorted(set.intersection(*map(set, having)))
    if not seeds:
        return None
    problems, values = joined(
        [tables[seed][metric] for tables, (_, metric) in zip(having, sources, strict=True) for seed in seeds]
    )
    if problems.empty:
        return None
    return values.reshape(len(sources), len(seeds), len(problems)), clusters_of(having[0][seeds[0]], problems)


def _interval(item: Estimate) -> str:
    return interval_text(item, signed=True)
