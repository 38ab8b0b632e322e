"""Figures of what it cost: where time and tokens went, and accuracy against cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rlreason.study.arms import Arm, Comparison
from rlreason.study.figures import dots, style
from rlreason.study.figures.style import GREY, INK
from rlreason.study.readings import Reading
from rlreason.study.results import costs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = {  # colour and hatching, so that neighbours differ in grey as well
    "start": ("#b8b8b8", ""),
    "sample": (style.BLUE, ""),
    "grade": (style.YELLOW, "..."),
    "reward": (style.GREEN, ""),
    "train": (style.VERMILION, ""),
    "sync": (style.PURPLE, "xxx"),
    "evaluate": (style.SKY, "///"),
    "other": ("#e6e6e6", ""),
}


@style.styled
def where_costs_went(comparison: Comparison) -> Figure | None:
    """Seconds and tokens of every arm by what they were spent on."""
    spent = {arm: costs(arm) for arm in comparison.arms}
    if not any(amounts.get("seconds total") for amounts in spent.values()):
        return None
    rows = dots.rows_of(comparison, comparison.arms)
    figure, line = dots.row_panels(rows, ("seconds per run", "tokens per run"), width=4.6)
    used: set[str] = set()
    for panel, cost in zip(line, ("seconds", "tokens"), strict=True):
        for row, arm in enumerate(rows):
            left = 0.0
            for kind, amount in (_parts(spent[arm], cost) if arm else {}).items():
                color, hatch = KINDS[kind]
                panel.barh(row, amount, 0.72, left, color=color, hatch=hatch, edgecolor="white", linewidth=0.4)
                left += amount
                used.add(kind)
            if arm:
                totals = [sum(_parts(costs(one), cost).values()) for one in arm.each_seed]
                dots.draw_seeds(panel, totals, row, INK)
        style.counts(panel.xaxis)
    style.legend(figure, [_patch(kind) for kind in KINDS if kind in used], columns=len(used))
    return figure


@style.styled
def accuracy_for_cost(comparison: Comparison) -> Figure | None:
    """maj@1 at the end against training rollouts and seconds, with the frontier that no arm passes."""
    measured = {arm: estimate for arm in comparison.arms if (estimate := arm.estimate("maj@1")) is not None}
    if len(measured) < 2:
        return None
    spent = {arm: costs(arm) for arm in measured}
    rows = [panel for row in style.groups(comparison, measured) for panel in row if panel[1]]
    figure, axes = style.panels(len(rows), 2, height=2.9, width=4.6, sharex="col", sharey="row")
    looks = style.looks(comparison)
    for line, (title, arms) in zip(axes, rows, strict=True):
        for panel, cost in zip(line, ("samples", "seconds total"), strict=True):
            points = [(spent[arm].get(cost, 0.0), measured[arm]) for arm in arms]
            for arm, (amount, estimate) in zip(arms, points, strict=True):
                look = looks[arm]
                panel.plot([amount, amount], [estimate.low, estimate.high], color=look.color, linewidth=1, alpha=0.6)
                panel.plot(amount, estimate.value, linestyle="none", **{**look.marks, "markersize": 7})
                of_seeds = [(costs(one).get(cost, 0.0), one.estimate("maj@1")) for one in arm.each_seed]
                ends = [(spent_by_it, item.value) for spent_by_it, item in of_seeds if item is not None]
                style.seed_dots(panel, [x for x, _ in ends], [y for _, y in ends], look.color)
            _frontier(panel, [(amount, estimate.value) for amount, estimate in points])
            panel.set_title(title)
            style.shares(panel.yaxis)
            style.counts(panel.xaxis)
        line[0].set_ylabel("maj@1")
    axes[-1][0].set_xlabel("training rollouts drawn")
    axes[-1][1].set_xlabel("seconds in all")
    style.legend(figure, style.arm_handles(comparison, measured, lines=False))
    return figure


@style.styled
def score_calibration(comparison: Comparison, readings: Mapping[Arm, Reading]) -> Figure | None:
    """The outcome reward model's scores of the last policies' samples against the share that is right."""
    scored = {arm: reading for arm in comparison.arms if (reading := readings[arm].calibration) is not None}
    if not scored:
        return None
    figure, axes, panels = style.arm_panels(comparison, scored, height=3.9, width=4.4)
    looks = style.looks(comparison)
    for panel, arms in panels:
        if arms:
            panel.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
        for arm in arms:
            mean = [point[0] for point in scored[arm].curve]
            share = [point[1] for point in scored[arm].curve]
            look = looks[arm]
            panel.plot(mean, share, linestyle=look.line, **{**look.marks, "markersize": 4})
        panel.set_aspect("equal")
        style.shares(panel.xaxis)
        style.shares(panel.yaxis)
    style.outer_labels(axes, "score of the last step", "share of right solutions")
    style.legend(figure, style.arm_handles(comparison, scored))
    return figure


def _parts(amounts: Mapping[str, float], cost: str) -> dict[str, float]:
    """What was spent by kind, and what no kind accounts for."""
    parts = {key.partition(" ")[2]: amount for key, amount in amounts.items() if key.startswith(f"{cost} ")}
    total = parts.pop("total", None)
    if total is not None:
        parts["other"] = max(0.0, total - sum(parts.values()))
    return {kind: amount for kind, amount in parts.items() if amount > 0}


def _frontier(panel: Axes, points: list[tuple[float, float]]) -> None:
    """A staircase through the arms that no other one beats at the same or a lower cost."""
    best: list[tuple[float, float]] = []
    for amount, value in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or value > best[-1][1]:
            best.append((amount, value))
    right = max(amount for amount, _ in points)
    x, y = [*(amount for amount, _ in best), right], [*(value for _, value in best), best[-1][1]]
    panel.step(x, y, where="post", color="#9a9a9a", linewidth=1, linestyle=(0, (3, 2)), zorder=1)


def _patch(kind: str) -> object:
    from matplotlib.patches import Patch

    color, hatch = KINDS[kind]
    return Patch(facecolor=color, hatch=hatch, edgecolor="white", linewidth=0.4, label=kind)
