"""The tables of a study: every arm's measures with their uncertainty, what it cost, and how it generalises."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rlreason.evaluation.metrics import pass_at_k
from rlreason.evaluation.statistics import Estimate, holm
from rlreason.study.arms import Arm, Comparison, evaluation, matrix, mean
from rlreason.study.folders import Evaluation

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


def tidy(comparison: Comparison) -> pd.DataFrame:
    """One row for every arm, stage ("init" and "final") and measure.

    `best` marks the arm whose mean is highest among those of the same model; `below_best` is how far another arm lies
    below it, a paired difference, and `p_value` its test, corrected for the number of arms by Holm's method.
    """
    rows = [
        _row(comparison, arm, stage, metric, estimate)
        for arm in comparison.arms
        for stage in ("init", "final")
        for metric in _metrics(arm)
        if (estimate := arm.estimate(metric, stage)) is not None
    ]
    for model in comparison.models:
        for metric in comparison.metrics:
            _against_best(rows, comparison.find(model=model), metric)
    for row in rows:
        row.pop("arm")
    return pd.DataFrame(rows, columns=list(TIDY_COLUMNS))


def best_arm(arms: Sequence[Arm], metric: str) -> Arm | None:
    """The arm of highest mean, None where no arm has the metric."""
    means = [(estimate.value, arm) for arm in arms if (estimate := arm.estimate(metric)) is not None]
    return max(means, key=lambda pair: pair[0])[1] if means else None


def pass_at_every_k(arm: Arm, stage: str = "final") -> list[tuple[int, Estimate]]:
    """pass@k for k = 1, 2, 4, ... up to all samples, by the unbiased estimator."""
    tables = [evaluation(run, stage) for run in arm.runs]
    if any(item is None for item in tables):
        return []
    evaluations = [item for item in tables if item is not None]
    drawn = int(min(item.table["samples"].min() for item in evaluations))
    curve = []
    for k in sorted({2**power for power in range(drawn.bit_length())} | ({drawn} - {0})):
        values = []
        for item in evaluations:
            known = {
                pair: pass_at_k(int(pair[1]), int(pair[0]), k)
                for pair in set(zip(item.table["samples"], item.table["right"], strict=True))
            }
            pairs = zip(item.table["samples"], item.table["right"], strict=True)
            values.append(pd.Series([known[pair] for pair in pairs], index=item.table.index))
        shared = pd.concat(values, axis=1, join="inner").to_numpy().T
        if shared.size:
            curve.append((k, mean(shared, f"pass@{k}")))
    return curve


def by_difficulty(arm: Arm, metric: str = "maj@1", stage: str = "final") -> list[tuple[int, Estimate]]:
    """A measure by the number of steps of the reference solution; empty where solutions are not known."""
    measured = [evaluation(run, stage) for run in arm.runs]
    tables = [item.table for item in measured if item is not None]
    if len(tables) < len(measured):
        return []
    found = []
    for steps in sorted(set(tables[0]["reference_steps"])):
        parts = [Evaluation("final", 0, table[table["reference_steps"] == steps]) for table in tables]
        values = matrix(parts, metric)
        if steps > 0 and values.size:
            found.append((int(steps), mean(values, metric)))
    return found


def out_of_distribution(arm: Arm) -> tuple[Estimate, Estimate] | None:
    """Greedy accuracy of the first and the last policy on questions of another kind; None where not measured."""
    if any(len(run.out_of_distribution) != 2 for run in arm.runs):
        return None
    first, last = (matrix([run.out_of_distribution[number] for run in arm.runs], "maj@1") for number in (0, 1))
    return (mean(first, "maj@1"), mean(last, "maj@1")) if first.size and last.size else None


def costs(arm: Arm) -> dict[str, float]:
    """Means over seeds: seconds by kind and in all, tokens by kind, training rollouts."""
    found: dict[str, float] = {"samples": float(np.mean([run.samples_drawn for run in arm.runs]))}
    for cost in ("seconds", "tokens"):
        kinds = arm.runs[0].result[cost]
        for kind in kinds:
            found[f"{cost} {kind}"] = float(np.mean([run.result[cost].get(kind, 0) for run in arm.runs]))
    return found


def _metrics(arm: Arm) -> list[str]:
    facts = ("reference_steps", "samples", "right")
    return [name for name in arm.runs[0].final.table.columns if name not in facts]


def _row(comparison: Comparison, arm: Arm, stage: str, metric: str, estimate: Estimate) -> dict[str, object]:
    spent = costs(arm)
    tokens = sum(amount for kind, amount in spent.items() if kind.startswith("tokens "))
    return {
        "arm": arm,
        "comparison": comparison.title,
        "algo": arm.algo,
        "reward": arm.reward,
        "init": arm.init,
        "model": arm.model,
        "variant": arm.variant,
        "stage": stage,
        "metric": metric,
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "seeds": estimate.seeds,
        "problems": estimate.problems,
        "best": False,
        "samples_drawn": spent["samples"] if stage == "final" else 0.0,
        "seconds": spent["seconds total"],
        "tokens": tokens,
    }


def _against_best(rows: list[dict[str, object]], arms: Sequence[Arm], metric: str) -> None:
    best = best_arm(arms, metric)
    if best is None:
        return
    others = [row for row in rows if row["stage"] == "final" and row["metric"] == metric and row["arm"] in arms]
    tested = []
    for row in others:
        arm = row["arm"]
        if arm is best:
            row["best"] = len(others) > 1
        if arm is best or not isinstance(arm, Arm):
            continue
        difference = best.difference(arm, metric)
        if difference is not None:
            row["below_best"], row["below_best_low"] = difference.value, difference.low
            row["below_best_high"] = difference.high
            tested.append((row, difference.p_value))
    for (row, _), p_value in zip(tested, holm([value for _, value in tested]), strict=True):
        row["p_value"] = p_value
