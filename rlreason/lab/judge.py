"""How well the outcome reward model judges: the result of algo=orm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlreason.lab.common import write_result
from rlreason.lab.setup import Prepared
from rlreason.orm.judging import judging_report
from rlreason.run import store
from rlreason.types import ScoredRollout

MOST_RESAMPLES = 1000  # ranking thousands of solutions anew for each


def judge(ready: Prepared) -> dict[str, Any]:
    """Measure the sampling policy with and without the model, and the model on the same unseen solutions."""
    stages = ready.stages
    model = stages.outcome_model
    if model is None:
        raise RuntimeError("algo=orm was prepared without an outcome reward model")
    settings = stages.generation.config.eval
    k = max(1, settings.k)
    stages.measure("init", 0, ready.start.init, 0, k, {})
    stage = f"{settings.split}-init-sampled"
    sampled = store.read_sealed(stages.run.rollouts, stage)
    scores = store.read_scores(stages.run.rollouts / f"scores-{stage}.parquet")
    report = report_on(sampled, scores, model.card.calibration.threshold, min(settings.resamples, MOST_RESAMPLES))
    draw_reliability(report["reliability"], stages.run.folder / "reliability.png")
    final = {name: report[name]["value"] for name in ("auc", "accuracy")}
    stages.log("judge", {f"orm/{name}": value for name, value in final.items()}, 0)
    verdict = (
        f"AUC of the final step {report['auc']['value']:.3f} on {report['solutions']:,} unseen solutions "
        f"(length {report['baselines']['length']:.3f}, mean log-probability "
        f"{report['baselines']['mean_logprob']:.3f}), calibration error {report['calibration_error']:.3f}"
    )
    return write_result(stages, ready.model, ready.too_long, verdict=verdict, policy=str(model.folder), judging=report)


def report_on(
    sampled: Sequence[ScoredRollout], scores: Sequence[Sequence[float]], threshold: float, resamples: int
) -> dict[str, Any]:
    """The judging report of solutions with at least one step, beside length and mean log-probability."""
    rows = [(item, values) for item, values in zip(sampled, scores, strict=True) if values]
    rollouts = [item.rollout for item, _ in rows]
    baselines: dict[str, Sequence[float]] = {
        "length": [float(len(rollout.completion_ids)) for rollout in rollouts],
        "mean_logprob": [sum(rollout.sampler_logprobs) / len(rollout.sampler_logprobs) for rollout in rollouts],
    }
    return judging_report(
        [rollout.problem_id for rollout in rollouts],
        [values for _, values in rows],
        [item.correct for item, _ in rows],
        baselines,
        threshold,
        resamples,
    )


def draw_reliability(curve: Sequence[tuple[float, float, int]], path: Path) -> None:
    """The reliability curve as a picture: said against true, the area of a point its share of the solutions."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 4), layout="constrained")
    axes = figure.add_subplot()
    total = sum(count for _, _, count in curve)
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    axes.plot([mean for mean, _, _ in curve], [share for _, share, _ in curve], color="C0", linewidth=1)
    axes.scatter(
        [mean for mean, _, _ in curve],
        [share for _, share, _ in curve],
        s=[20 + 400 * count / total for _, _, count in curve],
        color="C0",
    )
    axes.set(xlabel="mean score", ylabel="share right", xlim=(0, 1), ylim=(0, 1), title="Reliability of the ORM")
    figure.savefig(path, dpi=150)
