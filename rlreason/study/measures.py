"""The rows of `results.csv`: every measure, sample complexity, generalisation, diversity, and how ORMs judge."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rlreason.evaluation.coverage import SOLVED
from rlreason.evaluation.statistics import Estimate
from rlreason.run.stage import FINAL, INIT
from rlreason.study.arms import Arm, Comparison
from rlreason.study.coverage import arm_coverage
from rlreason.study.curves import SHARE_OF_FINAL, common_target, sample_complexity
from rlreason.study.folders import StudyRun
from rlreason.study.gains import gain_split, two_prompts
from rlreason.study.readings import Reading
from rlreason.study.results import Row, as_table, measured, out_of_distribution

SAMPLES_TO_FINAL = f"samples_to_{SHARE_OF_FINAL:.0%}_of_final_maj@1"
SAMPLES_TO_COMMON = f"samples_to_{SHARE_OF_FINAL:.0%}_of_best_maj@1"
ELSEWHERE = "maj@1_out_of_distribution"
OUTCOME_MODELS = "outcome reward models"
GAIN, FOUND_CHANGE, RIGHT_CHANGE = "gain_maj@1", "gain_answered@1", "gain_right_of_answered"
BY_FOUND, BY_RIGHT, RIGHT_OF_FOUND = "gain_by_answers_found", "gain_by_answers_right", "right_of_answered"
GAIN_HERE, GAIN_SECOND, GAIN_EXCESS = "gain_of_two_prompts", "gain_second_prompt", "gain_training_less_second_prompt"
HERE, SECOND = "maj@1_of_two_prompts", "maj@1_second_prompt"
SOLVED_BY = tuple(f"solved_by_{name.replace(' ', '_')}" for name in SOLVED)
SOLVED_MORE, SOLVED_SAMPLES, CROSSING = "solved_by_end_less_start", "samples_of_solved", "k_where_pass_crosses"
BUDGET, BUDGET_UNUSED, OUTCOME_MODEL_ROLLOUTS = "budget", "budget_unused", "outcome_model_rollouts"


def whole_table(
    comparisons: Sequence[Comparison], readings: Mapping[Arm, Reading], outcome_models: Sequence[StudyRun]
) -> pd.DataFrame:
    """The tidy table of a study: `results.measured` of every comparison, and the rows of this file.

    `samples_to_95%_of_final_maj@1`, of each arm's own end, and `samples_to_95%_of_best_maj@1`, of the best arm with the
    same model and start, lie between two evaluations: `low` and `high` are these of the median seed, `value` is `high`,
    "at most", and infinite where the target was not reached. Wherever else there are any, `low` and `high` are the 95 %
    interval over seeds and problems; of `k_where_pass_crosses` they are 0 and infinite where it is not shown to cross.
    `edit_distance` and the `orm_` rows are means over seeds.
    """
    rows: list[Row] = []
    for comparison in comparisons:
        rows += measured(comparison)
        for arm in comparison.arms:
            target = common_target(comparison.find(model=arm.model, init=arm.init))
            further = _further(arm, readings[arm], target)
            rows += [{"comparison": comparison.title, **arm.names, **row} for row in further]
    for run in outcome_models:
        rows += _judging(run)
    return as_table(rows)


def _further(arm: Arm, reading: Reading, target: float | None) -> list[Row]:
    rows: list[Row] = []
    rows += _budget(arm)
    rows += _gained(arm)
    rows += _solved(arm)
    for metric, goal in ((SAMPLES_TO_FINAL, None), (SAMPLES_TO_COMMON, target)):
        needed = sample_complexity(arm, goal)
        if needed is not None:
            ends = {"low": needed.median.above, "high": needed.median.at_most}
            rows.append(_row(FINAL, metric, needed.median.at_most, len(needed.brackets), **ends))
    for checkpoint, estimate in zip((INIT, FINAL), out_of_distribution(arm) or (), strict=False):
        rows.append(_estimated(checkpoint, ELSEWHERE, estimate))
    for checkpoint, distance in ((INIT, reading.edit_distance_before), (FINAL, reading.edit_distance)):
        if distance is not None:
            rows.append(_row(checkpoint, "edit_distance", distance, len(arm.runs)))
    for last in reading.found[-1:]:
        rows.append(_row(FINAL, "training_solutions_found", last.distinct, len(arm.runs)))
        rows.append(_row(FINAL, "training_solutions_repeated", last.repeated, len(arm.runs)))
    if reading.calibration is not None:
        if not math.isnan(reading.calibration.auc):
            rows.append(_row(FINAL, "orm_auc", reading.calibration.auc, reading.calibration.seeds))
        rows.append(_row(FINAL, "orm_calibration_error", reading.calibration.error, reading.calibration.seeds))
    return rows


def _budget(arm: Arm) -> list[Row]:
    """What its runs were given, and left, in rollouts; and what of these an outcome reward model learned from."""
    judged = [float(run.result.get(OUTCOME_MODEL_ROLLOUTS, 0)) for run in arm.runs]  # older versions did not count them
    rows = [_row(FINAL, OUTCOME_MODEL_ROLLOUTS, float(np.mean(judged)), len(arm.runs))]
    draws = [run.samples_drawn for run in arm.runs]
    budgets = [int(budget) for run in arm.runs if (budget := run.settings.get("budget")) is not None]
    if len(budgets) == len(draws) and any(draws):  # an algorithm that samples nothing has no budget to leave
        unused = [budget - drawn for budget, drawn in zip(budgets, draws, strict=True)]
        rows.append(_row(FINAL, BUDGET, float(np.mean(budgets)), len(arm.runs)))
        rows.append(_row(FINAL, BUDGET_UNUSED, float(np.mean(unused)), len(arm.runs)))
    return rows


def _gained(arm: Arm) -> list[Row]:
    """The gain of maj@1 split, and that under a second prompt beside that on the same questions under the first."""
    rows: list[Row] = []
    split, prompts = gain_split(arm), two_prompts(arm)
    if split is not None:
        parts = {GAIN: split.gain, FOUND_CHANGE: split.found, RIGHT_CHANGE: split.right}
        rows += [_estimated(FINAL, name, item) for name, item in parts.items()]
        rows += [_estimated(FINAL, BY_FOUND, split.by_found), _estimated(FINAL, BY_RIGHT, split.by_right)]
        for checkpoint, (_, right) in zip((INIT, FINAL), split.shares, strict=True):
            rows.append(_row(checkpoint, RIGHT_OF_FOUND, right, split.gain.seeds))
    if prompts is not None:
        gains = {GAIN_HERE: prompts.trained, GAIN_SECOND: prompts.second, GAIN_EXCESS: prompts.excess}
        rows += [_estimated(FINAL, name, item) for name, item in gains.items()]
        for checkpoint, values in ((INIT, prompts.start), (FINAL, prompts.end)):
            rows += [
                _row(checkpoint, name, value, prompts.trained.seeds)
                for name, value in zip((HERE, SECOND), values, strict=True)
            ]
    return rows


def _solved(arm: Arm) -> list[Row]:
    """What start and end solve with all samples, and where their curves of pass@k cross."""
    found = arm_coverage(arm)
    if found is None:
        return []
    seeds, crossing = found.end_more.seeds, found.crossing
    rows = [_estimated(FINAL, name, item) for name, item in zip(SOLVED_BY, found.solved, strict=True)]
    rows += [_estimated(FINAL, SOLVED_MORE, found.end_more), _row(FINAL, SOLVED_SAMPLES, found.samples, seeds)]
    if crossing.at is not None:
        high = math.inf if crossing.high is None else crossing.high
        rows.append(_row(FINAL, CROSSING, crossing.at, seeds, low=crossing.low, high=high))
    return rows


def _estimated(checkpoint: str, metric: str, estimate: Estimate) -> Row:
    interval = {"low": estimate.low, "high": estimate.high, "problems": estimate.problems}
    return _row(checkpoint, metric, estimate.value, estimate.seeds, **interval)


def _judging(run: StudyRun) -> list[Row]:
    """How well an outcome reward model that was trained by itself judges solutions of questions it has not seen."""
    report = run.result.get("judging")
    if report is None:
        return []
    names = {
        "comparison": OUTCOME_MODELS,
        "algo": run.settings["algo.name"],
        "reward": "",
        "init": run.settings["init.name"],
        "model": run.settings["model.name"],
        "variant": run.name,
    }
    rows = [_row(FINAL, metric, seeds=1, **report[metric]) for metric in ("auc", "accuracy")]
    rows.append(_row(FINAL, "calibration_error", report["calibration_error"], 1))
    return [names | row for row in rows]


def _row(checkpoint: str, metric: str, value: float, seeds: int, **further: float) -> Row:
    return {"stage": checkpoint, "metric": metric, "value": value, "seeds": seeds, "best": False, **further}
