"""Figures of where the arms ended: every measure with its interval, pass@k, difficulty, questions of another kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rlreason.run.stage import FINAL, INIT
from rlreason.study.arms import Arm, Comparison
from rlreason.study.figures import dots, style
from rlreason.study.figures.labels import EndLabel, finish_lines
from rlreason.study.figures.style import GREY, short_label
from rlreason.study.results import by_difficulty, out_of_distribution, pass_at_every_k

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rlreason.evaluation.statistics import Estimate

    Curve = list[tuple[int, Estimate]]

BANDS = 3  # more of them in a panel hide each other


@style.styled
def final_results(comparison: Comparison) -> Figure | None:
    """Every measure of every arm at the end of training with its interval, and where it started."""
    metrics = [name for name in comparison.metrics if any(arm.estimate(name) for arm in comparison.arms)]
    if not metrics:
        return None
    rows = dots.rows_of(comparison, comparison.arms)
    figure, line = dots.row_panels(rows, metrics, width=2.6 if len(metrics) > 2 else 3.4)
    looks = style.looks(comparison)
    for panel, metric in zip(line, metrics, strict=True):
        for row, arm in enumerate(rows):
            if arm is None:
                continue
            start, end = arm.estimate(metric, "init"), arm.estimate(metric)
            if start is not None:
                panel.plot(start.value, row, **dots.START)
            if end is not None:
                dots.draw_interval(panel, end, row, looks[arm])
                dots.draw_seeds(panel, [one.estimate(metric) for one in arm.each_seed], row, looks[arm].color)
        style.shares(panel.xaxis, most=4)
    style.legend(figure, dots.handles(comparison, comparison.arms))
    return figure


@style.styled
def other_questions(comparison: Comparison) -> Figure | None:
    """maj@1 on questions of another kind, before and after training."""
    measured = {arm: pair for arm in comparison.arms if (pair := out_of_distribution(arm)) is not None}
    if not measured:
        return None
    rows = dots.rows_of(comparison, measured)
    figure, (panel,) = dots.row_panels(rows, [""], width=7.2)
    looks = style.looks(comparison)
    for row, arm in enumerate(rows):
        if arm is not None:
            before, after = measured[arm]
            dots.draw_change(panel, before.value, after.value, row)
            dots.draw_interval(panel, after, row, looks[arm])
            ends = [pair[1] for one in arm.each_seed if (pair := out_of_distribution(one)) is not None]
            dots.draw_seeds(panel, ends, row, looks[arm].color)
    panel.set_xlabel("maj@1 on questions with more steps than training has")
    style.shares(panel.xaxis)
    style.legend(figure, dots.handles(comparison, measured))
    return figure


@style.styled
def pass_at_k(comparison: Comparison) -> Figure | None:
    """pass@k for every k that the samples allow, of the last policies and of the start."""
    curves = {arm: curve for arm in comparison.arms if len(curve := pass_at_every_k(arm)) > 1}
    if not curves:
        return None
    figure, axes = _lines(comparison, curves, pass_at_every_k, _doubling)
    style.outer_labels(axes, "samples per question, k", "pass@k")
    return figure


@style.styled
def accuracy_by_steps(comparison: Comparison) -> Figure | None:
    """maj@1 by the number of steps of the reference solution, of the last policies and of the start."""
    curves = {arm: curve for arm in comparison.arms if len(curve := by_difficulty(arm)) > 1}
    if not curves:
        return None
    figure, axes = _lines(comparison, curves, _by_steps, _whole)
    style.outer_labels(axes, "steps of the reference solution", "maj@1")
    return figure


def _lines(
    comparison: Comparison,
    curves: dict[Arm, Curve],
    curve_of: Callable[[Arm, str], Curve],
    scale: Callable[[Axes], None],
) -> tuple[Figure, list[list[Axes]]]:
    """A line with its interval for every arm, its seeds as dots; a panel for every model and init, its start grey."""
    figure, axes, panels = style.arm_panels(comparison, curves, sharey=False)
    looks = style.looks(comparison)
    ends: dict[Axes, list[EndLabel]] = {}
    for panel, arms in panels:
        ends[panel] = []
        before = curve_of(arms[0], INIT) if arms else []
        if before:
            panel.plot([x for x, _ in before], [item.value for _, item in before], color=GREY, linewidth=1.2)
            ends[panel].append(EndLabel(before[-1][0], before[-1][1].value, "start", GREY))
        for arm in arms:
            curve, look = curves[arm], looks[arm]
            x, y = [x for x, _ in curve], [item.value for _, item in curve]
            panel.plot(x, y, linestyle=look.line, **{**look.marks, "markersize": 4})
            for one in arm.each_seed:
                of_seed = curve_of(one, FINAL)
                style.seed_dots(panel, [x for x, _ in of_seed], [item.value for _, item in of_seed], look.color)
            if len(arms) <= BANDS:
                low, high = [item.low for _, item in curve], [item.high for _, item in curve]
                panel.fill_between(x, low, high, color=look.color, alpha=0.13, linewidth=0)
            ends[panel].append(EndLabel(x[-1], y[-1], short_label(arm), look.color))
        scale(panel)
        style.shares(panel.yaxis)
    finish_lines(figure, ends, comparison, curves)
    return figure, axes


def _by_steps(arm: Arm, checkpoint: str) -> Curve:
    return by_difficulty(arm, checkpoint=checkpoint)


def _doubling(panel: Axes) -> None:
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter("{x:.0f}")


def _whole(panel: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
