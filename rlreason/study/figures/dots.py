"""Rows of a dot plot: one for every arm, under a heading for its model and init."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rlreason.config.inits import INITS
from rlreason.study.arms import Arm, Comparison
from rlreason.study.figures import style
from rlreason.study.figures.style import GREY, short_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rlreason.evaluation.statistics import Estimate

ROW = 0.25  # inches of height
SEEDS_BELOW = 0.3  # of a row
START: dict[str, Any] = {"linestyle": "none", "marker": "|", "markersize": 9, "color": GREY, "markeredgewidth": 1.6}
Rows = list[Arm | None]  # from top to bottom; None is the line of a heading


def rows_of(comparison: Comparison, arms: Iterable[Arm]) -> Rows:
    """The rows for some arms of a comparison."""
    rows: Rows = []
    for row in style.groups(comparison, arms):
        for _, members in row:
            if members:
                rows += [None, *members]
    return rows


def row_panels(rows: Rows, titles: Sequence[str], width: float) -> tuple[Figure, list[Axes]]:
    """Panels beside each other that share the rows, whose names stand left of the first."""
    figure, (line,) = style.panels(1, len(titles), height=ROW * len(rows) + 0.8, width=width, sharex=False)
    names = []
    for arm, following in zip(rows, [*rows[1:], None], strict=True):
        named = arm or following
        assert named is not None, "a heading has an arm below it"
        names.append(short_label(arm) if arm else f"{named.model}, {INITS[named.init].title}")
    for panel, title in zip(line, titles, strict=True):
        panel.set_title(title)
        panel.tick_params(axis="y", length=0)
        panel.grid(visible=False, axis="y")
        for number, arm in enumerate(rows):
            if arm is not None:
                panel.axhline(number, color="#eeeeee", linewidth=0.7, zorder=0)
    line[0].set_yticks(range(len(rows)), names)
    line[0].set_ylim(len(rows) - 0.4, -0.6)
    for label, arm in zip(line[0].get_yticklabels(), rows, strict=True):
        label.set_fontweight("normal" if arm else "bold")
        label.set_color("#333333")
    return figure, line


def draw_interval(panel: Axes, estimate: Estimate, row: int, look: style.Look) -> None:
    """A value with its interval."""
    panel.plot([estimate.low, estimate.high], [row, row], color=look.color, linewidth=1.7, solid_capstyle="butt")
    face = "white" if look.filling == "none" else look.color
    panel.plot(estimate.value, row, linestyle="none", **{**look.marks, "markerfacecolor": face})


def draw_seeds(panel: Axes, values: Sequence[Estimate | float | None], row: int, color: str) -> None:
    """The value of every seed that has one, below that of them all."""
    known = [value if isinstance(value, float) else value.value for value in values if value is not None]
    style.seed_dots(panel, known, [row + SEEDS_BELOW] * len(known), color)


def draw_change(panel: Axes, before: float, after: float, row: int) -> None:
    """From where a value started, as a bar, to where it ended."""
    panel.plot([before, after], [row, row], color="#cfcfcf", linewidth=2.2, zorder=1)
    panel.plot(before, row, **START)


def handles(comparison: Comparison, arms: Iterable[Arm]) -> list[Any]:
    """Legend entries: the start, and every arm."""
    from matplotlib.lines import Line2D

    return [Line2D([], [], label="at the start", **START), *style.arm_handles(comparison, arms, lines=False)]
