"""Further rows of `results.csv`: sample complexity, generalisation, diversity, and how outcome reward models judge."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from rlreason.study.arms import Arm, Comparison
from rlreason.study.curves import SHARE_OF_FINAL, sample_complexity
from rlreason.study.folders import StudyRun
from rlreason.study.readings import Reading
from rlreason.study.results import TIDY_COLUMNS, out_of_distribution, tidy

SAMPLES_TO_FINAL = f"samples_to_{SHARE_OF_FINAL:.0%}_of_final_maj@1"
ELSEWHERE = "maj@1_out_of_distribution"
JUDGES = "outcome reward models"


def whole_table(
    comparisons: Sequence[Comparison], readings: Mapping[Arm, Reading], judged: Sequence[StudyRun]
) -> pd.DataFrame:
    """The tidy table of a study: `results.tidy` of every comparison, and the rows of this file.

    `low` and `high` of `samples_to_95%_of_final_maj@1` are the quickest and the slowest seed; wherever else there are
    any, they are the 95 % interval over seeds and problems. `edit_distance` and the `orm_` rows are means over seeds.
    """
    rows: list[dict[str, object]] = []
    tables = []
    for comparison in comparisons:
        tables.append(tidy(comparison))
        for arm in comparison.arms:
            rows += [{**_names(comparison.title, arm), **row} for row in _rows(arm, readings[arm])]
    for run in judged:
        rows += _judge_rows(run)
    further = pd.DataFrame(rows, columns=list(TIDY_COLUMNS))
    present = [table for table in (*tables, further) if len(table)]
    # Columns that are empty in one part would otherwise decide the type of the whole.
    joined = [table.astype(object) for table in present]
    if not joined:
        return further
    whole = pd.concat(joined, ignore_index=True).infer_objects()
    whole = whole.astype({"seeds": "Int64", "problems": "Int64"})
    order = [comparison.title for comparison in comparisons]
    position = whole["comparison"].map({title: number for number, title in enumerate([*order, JUDGES])})
    return whole.loc[position.sort_values(kind="stable").index].reset_index(drop=True)


def _rows(arm: Arm, reading: Reading) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    seeds = len(arm.runs)
    needed = sample_complexity(arm)
    if needed is not None and any(run.samples_drawn for run in arm.runs):
        rows.append(_row("final", SAMPLES_TO_FINAL, needed.median, needed.low, needed.high, seeds))
    elsewhere = out_of_distribution(arm)
    for stage, estimate in zip(("init", "final"), elsewhere or (), strict=False):
        row = _row(stage, ELSEWHERE, estimate.value, estimate.low, estimate.high, estimate.seeds)
        rows.append({**row, "problems": estimate.problems})
    for stage, distance in (("init", reading.edit_distance_before), ("final", reading.edit_distance)):
        if distance is not None:
            rows.append(_row(stage, "edit_distance", distance, None, None, seeds))
    if reading.found:
        last = reading.found[-1]
        rows.append(_row("final", "training_solutions_found", last.distinct, None, None, seeds))
        rows.append(_row("final", "training_solutions_repeated", last.repeated, None, None, seeds))
    if reading.calibration is not None:
        if not math.isnan(reading.calibration.auc):
            rows.append(_row("final", "orm_auc", reading.calibration.auc, None, None, reading.calibration.seeds))
        error = reading.calibration.error
        rows.append(_row("final", "orm_calibration_error", error, None, None, reading.calibration.seeds))
    return rows


def _row(stage: str, metric: str, value: float, low: float | None, high: float | None, seeds: int) -> dict[str, object]:
    return {"stage": stage, "metric": metric, "value": value, "low": low, "high": high, "seeds": seeds, "best": False}


def _names(title: str, arm: Arm) -> dict[str, object]:
    return {
        "comparison": title,
        "algo": arm.algo,
        "reward": arm.reward,
        "init": arm.init,
        "model": arm.model,
        "variant": arm.variant,
    }


def _judge_rows(run: StudyRun) -> list[dict[str, object]]:
    """How well a run of `algo=orm` judges solutions of questions that it has not seen."""
    report = run.result.get("judging")
    if report is None:
        return []
    names = {
        "comparison": JUDGES,
        "algo": "orm",
        "reward": "",
        "init": run.settings["init.name"],
        "model": run.settings["model.name"],
        "variant": run.name,
    }
    rows = []
    for metric in ("auc", "accuracy"):
        interval = report[metric]
        row = _row("final", metric, interval["value"], interval["low"], interval["high"], 1)
        rows.append({**names, **row, "problems": interval["problems"]})
    rows.append({**names, **_row("final", "calibration_error", report["calibration_error"], None, None, 1)})
    return rows
