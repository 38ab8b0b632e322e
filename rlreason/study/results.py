"""The tables of a study: every arm's measures with their uncertainty, what it cost, and how it generalises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from rlreason.evaluation.metrics import pass_at_k
from rlreason.evaluation.statistics import Estimate, holm, p_values_together
from rlreason.run.stage import FINAL, INIT, LAST
from rlreason.study.arms import Arm, Comparison, mean_of
from rlreason.study.folders import CLUSTER

TIDY_COLUMNS = (
    "comparison",
    "algo",
    "reward",
    "init",
    "model",
    "variant",
    "stage",
    "metric",
    "value",
    "low",
    "high",
    "seeds",
    "problems",
    "best",
    "below_best",
    "below_best_low",
    "below_best_high",
    "p_value",
    "samples_drawn",
    "seconds",
    "tokens",
)


Row = dict[str, Any]


def as_table(rows: Sequence[Row]) -> pd.DataFrame:
    """Rows as the tidy table that `results.csv` holds; a column that a row lacks is empty."""
    return pd.DataFrame(rows, columns=list(TIDY_COLUMNS)).astype({"seeds": "Int64", "problems": "Int64"})


def measured(comparison: Comparison) -> list[Row]:
    """One row for every arm, checkpoint and measure: "init", "final", and "last" where that is not the selected one.

    `best` marks the arm whose mean is highest among those of the same model; `below_best` is how far another arm lies
    below it, a paired difference, and `p_value` its test, by the spread of seeds that all pairs of these arms show
    together, and corrected by Holm's method for all of them: the best was picked for being high, so any pair could have
    been the one that is tested.
    """
    spent = {arm: costs(arm) for arm in comparison.arms}
    rows = {
        (arm, checkpoint, metric): _row(comparison, arm, checkpoint, metric, estimate, spent[arm])
        for arm in comparison.arms
        for checkpoint in (INIT, FINAL, *([] if all(run.ended_with_last for run in arm.runs) else [LAST]))
        for metric in _metrics(arm)
        if (estimate := arm.estimate(metric, checkpoint)) is not None
    }
    for model in comparison.models:
        for metric in comparison.metrics:
            arms = [arm for arm in comparison.find(model=model) if (arm, FINAL, metric) in rows]
            _against_best({arm: rows[arm, FINAL, metric] for arm in arms}, metric)
    return list(rows.values())


def best_arm(arms: Sequence[Arm], metric: str) -> Arm | None:
    """The arm of highest mean, None where no arm has the metric."""
    means = [(estimate.value, arm) for arm in arms if (estimate := arm.estimate(metric)) is not None]
    return max(means, key=lambda pair: pair[0])[1] if means else None


def pass_at_every_k(arm: Arm, checkpoint: str = FINAL) -> list[tuple[int, Estimate]]:
    """pass@k for k = 1, 2, 4, ... up to all samples, by the unbiased estimator."""
    tables = arm.tables("samples", checkpoint)
    drawn = int(min((table["samples"].min() for table in tables), default=0))
    curve = []
    for k in sorted({2**power for power in range(drawn.bit_length())} | ({drawn} - {0})):
        passed = []
        for table in tables:
            pairs = list(zip(table["samples"], table["right"], strict=True))
            known = {pair: pass_at_k(int(pair[1]), int(pair[0]), k) for pair in set(pairs)}
            passed.append(table.filter([CLUSTER]).assign(**{f"pass@{k}": [known[pair] for pair in pairs]}))
        estimate = mean_of(passed, f"pass@{k}")
        if estimate is not None:
            curve.append((k, estimate))
    return curve


def by_difficulty(arm: Arm, metric: str = "maj@1", checkpoint: str = FINAL) -> list[tuple[int, Estimate]]:
    """A measure by the number of steps of the reference solution; empty where solutions are not known."""
    tables = arm.tables(metric, checkpoint)
    found = []
    for steps in sorted({int(number) for table in tables[:1] for number in table["reference_steps"]} - {0}):
        estimate = mean_of([table[table["reference_steps"] == steps] for table in tables], metric)
        if estimate is not None:
            found.append((steps, estimate))
    return found


def out_of_distribution(arm: Arm) -> tuple[Estimate, Estimate] | None:
    """Greedy accuracy of the first and the last policy on questions of another kind; None where not measured."""
    if any(len(run.out_of_distribution) != 2 for run in arm.runs):
        return None
    first, last = (
        mean_of([run.out_of_distribution[checkpoint] for run in arm.runs], "maj@1") for checkpoint in (INIT, FINAL)
    )
    return (first, last) if first and last else None


def costs(arm: Arm) -> dict[str, float]:
    """Means over seeds: seconds by kind and in all, tokens by kind, training rollouts."""
    found: dict[str, float] = {"samples": float(np.mean([run.samples_drawn for run in arm.runs]))}
    for cost in ("seconds", "tokens"):
        kinds = arm.runs[0].result[cost]
        for kind in kinds:
            found[f"{cost} {kind}"] = float(np.mean([run.result[cost].get(kind, 0) for run in arm.runs]))
    return found


def _metrics(arm: Arm) -> list[str]:
    facts = ("reference_steps", "samples", "right", CLUSTER)
    return [name for name in arm.runs[0].final.table.columns if name not in facts]


def _row(
    comparison: Comparison, arm: Arm, checkpoint: str, metric: str, estimate: Estimate, spent: Mapping[str, float]
) -> Row:
    return {
        "comparison": comparison.title,
        **arm.names,
        "stage": checkpoint,
        "metric": metric,
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "seeds": estimate.seeds,
        "problems": estimate.problems,
        "best": False,
        "samples_drawn": spent["samples"] if checkpoint != INIT else 0.0,
        "seconds": spent["seconds total"],
        "tokens": sum(amount for kind, amount in spent.items() if kind.startswith("tokens ")),
    }


def _against_best(rows: Mapping[Arm, Row], metric: str) -> None:
    best = best_arm(list(rows), metric)
    if best is None or len(rows) < 2:
        return
    rows[best]["best"] = True
    pairs = {
        pair: found
        for pair in combinations([best, *(arm for arm in rows if arm is not best)], 2)
        if (found := pair[0].difference(pair[1], metric)) is not None
    }
    corrected = holm(p_values_together(list(pairs.values()), len(rows)))
    for ((first, arm), difference), p_value in zip(pairs.items(), corrected, strict=True):
        if first is best:
            rows[arm] |= {
                "below_best": difference.value,
                "below_best_low": difference.low,
                "below_best_high": difference.high,
                "p_value": p_value,
            }
