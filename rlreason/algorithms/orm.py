"""How well the outcome reward model judges: the algorithm `orm`, which trains no policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlreason.algorithms.base import Algorithm, Questions, Trained, draws_nothing, whatever_the_budget
from rlreason.algorithms.space import NOTHING
from rlreason.config.base import Settings, setting
from rlreason.planning.facts import AlgorithmFacts
from rlreason.types import Rollout

if TYPE_CHECKING:
    from rlreason.lab.context import Start
    from rlreason.lab.lab import Lab

MOST_RESAMPLES = 1000  # ranking thousands of solutions anew for each


@dataclass(frozen=True, kw_only=True)
class OutcomeModelAlgorithmConfig(Settings):
    """Train the outcome reward model that the section `orm` describes, and report how well it judges."""

    name: str = setting("orm")


def orm(settings: OutcomeModelAlgorithmConfig, start: Start, questions: Questions, seed: int, lab: Lab) -> Trained:
    """Measure the sampling policy with and without the model, and the model on the same unseen solutions."""
    del settings, questions, seed
    model = lab.outcome_model
    sampled, scores, resamples = lab.judged_samples(start.init)
    report = report_on(sampled, scores, model.card.calibration.threshold, min(resamples, MOST_RESAMPLES))
    draw_reliability(report["reliability"], lab.folder / "reliability.png")
    lab.log("judge", {f"orm/{name}": report[name]["value"] for name in ("auc", "accuracy")})
    verdict = (
        f"AUC of the final step {report['auc']['value']:.3f} on {report['solutions']:,} unseen solutions "
        f"(length {report['baselines']['length']:.3f}, mean log-probability "
        f"{report['baselines']['mean_logprob']:.3f}), calibration error {report['calibration_error']:.3f}"
    )
    return Trained(None, None, 0, verdict, {"policy": str(model.folder), "judging": report})


def report_on(
    sampled: Sequence[Rollout], scores: Sequence[Sequence[float]], threshold: float, resamples: int
) -> dict[str, Any]:
    """The judging report of solutions with at least one step, beside length and mean log-probability."""
    from rlreason.orm.judging import judging_report

    rows = [(item, values) for item, values in zip(sampled, scores, strict=True) if values]
    rollouts = [item for item, _ in rows]
    baselines: dict[str, Sequence[float]] = {
        "length": [float(len(rollout.completion_ids)) for rollout in rollouts],
        "mean_logprob": [sum(rollout.sampler_logprobs) / len(rollout.sampler_logprobs) for rollout in rollouts],
    }
    return judging_report(
        [rollout.problem.id for rollout in rollouts],
        [values for _, values in rows],
        [item.correct for item, _ in rows],
        baselines,
        threshold,
        resamples,
        [rollout.problem.cluster for rollout in rollouts],
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


def always_needs(settings: OutcomeModelAlgorithmConfig) -> bool:
    """It is there to train one."""
    del settings
    return True


def planned(settings: OutcomeModelAlgorithmConfig) -> AlgorithmFacts:
    """The outcome reward model alone: the section `orm` says what is drawn and learned."""
    return AlgorithmFacts(None, lambda sizes: [], checkpoints=0, ends=0)


OUTCOME_MODEL = Algorithm(
    settings=OutcomeModelAlgorithmConfig,
    train=orm,
    title="ORM",
    method="an outcome reward model",
    color="#56B4E9",
    marker="h",
    learns_from_rewards=False,
    trains_policy=False,
    uses_reward=False,
    needs_solutions=False,
    repeats_init=None,
    completion_factor=1,
    needs_outcome_model=always_needs,
    rollouts=draws_nothing,
    plan=planned,
    for_budget=whatever_the_budget,
    space=NOTHING,
)
