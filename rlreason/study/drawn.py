"""The figures of a comparison, drawn, each with a sentence that says what is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlreason.study.arms import Arm, Comparison
from rlreason.study.figures import costs, results, style, training
from rlreason.study.readings import Reading

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[[Comparison, Mapping[Arm, Reading]], "Figure | None"]


@dataclass(frozen=True)
class Drawn:
    """A figure.

    Args:
        name: Of its files, without ending.
        title: A few words.
        caption: One sentence that says what is drawn, and one that says from how much.
        png: The picture.
        svg: The same.
    """

    name: str
    title: str
    caption: str
    png: bytes
    svg: bytes


FIGURES: dict[str, tuple[str, str, Draw]] = {  # title, caption and what draws it, in the order of the report
    "results": (
        "Where the arms ended",
        "Every measure at the end of training with its 95 % interval; the grey bar is where the arm started.",
        lambda comparison, _: results.final_results(comparison),
    ),
    "sample-complexity": (
        "How many samples it took",
        "maj@1 against training rollouts, with 95 % bands; a dashed level is that of SFT at its end. Each panel has "
        "its own scale.",
        lambda comparison, _: training.learning_curves(comparison),
    ),
    "trade-off": (
        "maj@1 against pass@K",
        "pass@K against maj@1 from the start (grey) to the end (large marker); small markers are measured checkpoints "
        "on the way, for SFT its epochs. Each panel has its own scale.",
        lambda comparison, _: training.trade_off(comparison),
    ),
    "pass-at-k": (
        "pass@k for every k",
        "The probability that at least one of k samples is right, by the unbiased estimator; grey is the start. Each "
        "panel has its own scale.",
        lambda comparison, _: results.pass_at_k(comparison),
    ),
    "new-solutions": (
        "What training finds",
        "Different right solutions per training question found so far, two solutions being the same when they do the "
        "same operations. Each panel has its own scale.",
        training.new_solutions,
    ),
    "diversity": (
        "How different the samples of a question are",
        "Left, the share of tokens that two samples of a test question differ in, at the start (bar) and at the end; "
        "right, how many of the last policy's solutions the first one had already written.",
        training.sample_diversity,
    ),
    "steps": (
        "Harder questions",
        "maj@1 by the number of steps of the reference solution; grey is the start. Each panel has its own scale.",
        lambda comparison, _: results.accuracy_by_steps(comparison),
    ),
    "other-questions": (
        "Questions of another kind",
        "maj@1 before (bar) and after training on questions with more steps than training has.",
        lambda comparison, _: results.other_questions(comparison),
    ),
    "calibration": (
        "Can the outcome reward model be believed",
        "The share of right solutions among the last policy's samples with a given score; on the dashed line scores "
        "are probabilities.",
        costs.score_calibration,
    ),
    "costs": (
        "Where time and tokens went",
        "Seconds and tokens of one run by what they were spent on, mean over seeds.",
        lambda comparison, _: costs.where_costs_went(comparison),
    ),
    "frontier": (
        "Accuracy for its cost",
        "maj@1 at the end against what a run cost; no arm lies above the dashed frontier. Each row has its own scale.",
        lambda comparison, _: costs.accuracy_for_cost(comparison),
    ),
}


POOLED = ("calibration",)  # figures of all seeds together, and of no mean over them
SEEDS = "Every small dot is a seed. "


def draw_all(comparison: Comparison, readings: Mapping[Arm, Reading]) -> list[Drawn]:
    """Every figure that the data suffice for."""
    found = []
    for name, (title, caption, draw) in FIGURES.items():
        figure = draw(comparison, readings)
        if figure is not None:
            title, caption = (text.replace("pass@K", f"pass@{comparison.k}") for text in (title, caption))
            seeds = "" if name in POOLED or all(len(arm.runs) == 1 for arm in comparison.arms) else SEEDS
            found.append(Drawn(name, title, f"{caption} {seeds}{basis(comparison)}", *style.saved(figure)))
    return found


def basis(comparison: Comparison) -> str:
    """How many runs, seeds and questions stand behind a figure."""
    seeds = sorted({len(arm.runs) for arm in comparison.arms})
    spoken = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    problems = sorted({len(arm.problems) for arm in comparison.arms})
    questions = f"{problems[0]:,}" if len(problems) == 1 else f"{problems[0]:,} to {problems[-1]:,}"
    plural = "" if seeds == [1] else "s"
    clusters = sorted({arm.clusters for arm in comparison.arms if arm.clusters is not None})
    together = ""
    if clusters:
        together = (
            f" in {clusters[0]:,} clusters"
            if len(clusters) == 1
            else f" in {clusters[0]:,} to {clusters[-1]:,} clusters"
        )
    return f"{spoken} seed{plural} per arm, {questions} questions{together}."
