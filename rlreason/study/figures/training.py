"""Figures of the way: learning curves, maj@1 against pass@K, and how diverse solutions stay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rlreason.evaluation.metrics import KNOWN, KNOWN_NULL
from rlreason.study.arms import Arm, Comparison
from rlreason.study.curves import learning_curve, path
from rlreason.study.figures import dots, style
from rlreason.study.figures.labels import EndLabel, finish_lines
from rlreason.study.figures.style import GREY, short_label
from rlreason.study.readings import Reading

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@style.styled
def learning_curves(comparison: Comparison, metric: str = "maj@1") -> Figure | None:
    """A metric against training rollouts; SFT, which draws none, as a level."""
    curves = {}
    for arm in comparison.arms:
        curve = learning_curve(arm, metric)
        if len(curve) > 1 and curve[-1][0] > 0:
            curves[arm] = curve
    if not curves:
        return None
    figure, axes, panels = style.arm_panels(comparison, curves, height=3.2, sharey=False)
    looks = style.looks(comparison)
    ends: dict[Axes, list[EndLabel]] = {}
    for panel, arms in panels:
        ends[panel] = []
        for arm in arms:
            look, samples = looks[arm], [seen for seen, _ in curves[arm]]
            values = [estimate.value for _, estimate in curves[arm]]
            often = max(1, len(samples) // 10)
            panel.plot(samples, values, linestyle=look.line, markevery=often, **look.marks)
            low = [estimate.low for _, estimate in curves[arm]]
            high = [estimate.high for _, estimate in curves[arm]]
            panel.fill_between(samples, low, high, color=look.color, alpha=0.10, linewidth=0)
            for one in arm.each_seed:
                of_seed = learning_curve(one, metric)
                style.seed_dots(panel, [x for x, _ in of_seed], [item.value for _, item in of_seed], look.color)
            ends[panel].append(EndLabel(samples[-1], values[-1], short_label(arm), look.color))
        _supervised_level(panel, comparison, arms, metric, ends[panel])
    for panel in ends:
        style.shares(panel.yaxis)
        style.counts(panel.xaxis)
    finish_lines(figure, ends, comparison, curves)
    style.outer_labels(axes, "training rollouts drawn", metric)
    return figure


@style.styled
def trade_off(comparison: Comparison) -> Figure | None:
    """pass@K against maj@1: SFT's path over its epochs beside the paths of RL."""
    if comparison.k < 2:
        return None
    vertical = f"pass@{comparison.k}"
    paths = {arm: points for arm in comparison.arms if len(points := path(arm, "maj@1", vertical)) > 1}
    if not paths:
        return None
    figure, axes, panels = style.arm_panels(comparison, paths, height=3.6, sharex=False, sharey=False)
    looks = style.looks(comparison)
    for panel, arms in panels:
        for arm in arms:
            look = looks[arm]
            x = [across.value for across, _ in paths[arm]]
            y = [up.value for _, up in paths[arm]]
            panel.plot(x, y, linestyle=look.line, linewidth=1.1, color=look.color, alpha=0.8)
            panel.plot(x[1:-1], y[1:-1], linestyle="none", **{**look.marks, "markersize": 3.2})
            panel.plot(x[-1:], y[-1:], linestyle="none", **{**look.marks, "markersize": 8})
            ends = [of_seed[-1] for one in arm.each_seed if (of_seed := path(one, "maj@1", vertical))]
            style.seed_dots(panel, [item.value for item, _ in ends], [item.value for _, item in ends], look.color)
        if arms:
            across, up = paths[arms[0]][0]
            panel.plot(across.value, up.value, marker="o", markersize=9, color=GREY, zorder=4)
            panel.annotate(
                "start",
                (across.value, up.value),
                (0, -9),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=8.5,
                color="#555555",
            )
        panel.margins(0.1, 0.14)
        style.shares(panel.xaxis)
        style.shares(panel.yaxis)
    style.outer_labels(axes, "maj@1", vertical)
    style.legend(figure, style.arm_handles(comparison, paths))
    return figure


@style.styled
def new_solutions(comparison: Comparison, readings: Mapping[Arm, Reading]) -> Figure | None:
    """Different right solutions per question that training has found, against training rollouts."""
    found = {arm: readings[arm].found for arm in comparison.arms if readings[arm].found}
    if not found:
        return None
    figure, axes, panels = style.arm_panels(comparison, found, sharey=False)
    looks = style.looks(comparison)
    ends: dict[Axes, list[EndLabel]] = {}
    for panel, arms in panels:
        ends[panel] = []
        for arm in arms:
            x = [0, *(point.samples for point in found[arm])]
            y = [0.0, *(point.distinct for point in found[arm])]
            panel.plot(x, y, linestyle=looks[arm].line, **{**looks[arm].marks, "markersize": 4})
            for of_seed in readings[arm].found_by_seed:
                across, up = [point.samples for point in of_seed], [point.distinct for point in of_seed]
                style.seed_dots(panel, across, up, looks[arm].color)
            ends[panel].append(EndLabel(x[-1], y[-1], short_label(arm), looks[arm].color))
        style.counts(panel.xaxis)
        panel.set_ylim(bottom=0)
    finish_lines(figure, ends, comparison, found)
    style.outer_labels(axes, "training rollouts drawn", "different right solutions\nper question so far")
    return figure


@style.styled
def sample_diversity(comparison: Comparison, readings: Mapping[Arm, Reading]) -> Figure | None:
    """Edit distance of two samples of a question, and how much of them the start knew beyond chance."""
    known = {arm: more for arm in comparison.arms if (more := arm.excess(KNOWN, KNOWN_NULL)) is not None}
    distances = {arm: readings[arm].edit_distance for arm in comparison.arms}
    measured = [arm for arm in comparison.arms if arm in known or distances[arm] is not None]
    if not measured:
        return None
    rows = dots.rows_of(comparison, measured)
    titles = ("edit distance of two samples", "right samples known at the start")
    figure, line = dots.row_panels(rows, titles, width=4.4)
    looks = style.looks(comparison)
    for row, arm in enumerate(rows):
        if arm is None:
            continue
        before, after = readings[arm].edit_distance_before, distances[arm]
        if after is not None:
            dots.draw_change(line[0], after if before is None else before, after, row)
            line[0].plot(after, row, linestyle="none", **looks[arm].marks)
            dots.draw_seeds(line[0], readings[arm].edit_distances, row, looks[arm].color)
        if arm in known:
            dots.draw_interval(line[1], known[arm], row, looks[arm])
            dots.draw_seeds(line[1], [one.excess(KNOWN, KNOWN_NULL) for one in arm.each_seed], row, looks[arm].color)
    line[0].set_xlabel("share of tokens that differ")
    line[1].set_xlabel("share, less that of the start's own further samples")
    line[1].axvline(0, color=GREY, linewidth=1)
    style.shares(line[0].xaxis)
    style.legend(figure, dots.handles(comparison, measured))
    return figure


def _supervised_level(
    panel: Axes, comparison: Comparison, arms: tuple[Arm, ...], metric: str, ends: list[EndLabel]
) -> None:
    """The final value of SFT as a level across the panel, where the study has it for the panel's model and init."""
    for arm in comparison.find(algo="sft", model=arms[0].model, init=arms[0].init) if arms else ():
        level = arm.estimate(metric)
        if level is not None:
            color = arm.algorithm.color
            panel.axhline(level.value, color=color, linewidth=1.3, linestyle=(0, (8, 3)))
            ends.append(EndLabel(panel.get_xlim()[1], level.value, f"{short_label(arm)} (final)", color))
