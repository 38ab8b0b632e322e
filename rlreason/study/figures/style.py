"""How every figure looks: colours safe for colour-blind readers, markers, panels and legends.

Colour and marker say the algorithm, line style and marker filling the reward, so that no two arms of a panel differ in
colour alone. The colours are those of Okabe and Ito (2008, https://jfly.uni-koeln.de/color/).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from rlreason.config.inits import INITS
from rlreason.own import names_own
from rlreason.rewards.registry import REWARDS
from rlreason.study.arms import Arm, Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, YELLOW, GREY, INK = "#56B4E9", "#F0E442", "#767676", "#222222"
VARIANT_MARKERS = ("P", "X", "*", "h", "p", "d")
RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.edgecolor": "#8a8a8a",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "text.color": INK,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "white",
    "svg.hashsalt": "rlreason",
}

P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Draw with the settings above, whatever else the process has set."""

    @functools.wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        import matplotlib

        with matplotlib.rc_context(RC):
            return draw(*args, **kwargs)

    return inner


@dataclass(frozen=True)
class Look:
    """What an arm is drawn with.

    Args:
        color: Of its algorithm.
        marker: Of its algorithm, or another one for its second and further variants.
        line: Line style of its reward.
        filling: Marker filling of its reward.
    """

    color: str
    marker: str
    line: Any
    filling: Any

    @property
    def marks(self) -> dict[str, Any]:
        """Keyword arguments for markers."""
        return {
            "color": self.color,
            "marker": self.marker,
            "fillstyle": self.filling,
            "markerfacecoloralt": "white",
            "markeredgewidth": 1.2,
        }


def looks(comparison: Comparison) -> dict[Arm, Look]:
    """The look of every arm; variants of one algorithm keep its colour and get markers of their own."""
    variants: dict[str, list[str]] = {}
    found = {}
    for arm in comparison.arms:
        seen = variants.setdefault(arm.algo, [])
        if arm.variant not in seen:
            seen.append(arm.variant)
        number = seen.index(arm.variant)
        marker = VARIANT_MARKERS[(number - 1) % len(VARIANT_MARKERS)] if number else arm.algorithm.marker
        reward = REWARDS[arm.reward]
        found[arm] = Look(arm.algorithm.color, marker, reward.line, reward.marker_filling)
    return found


def short_label(arm: Arm) -> str:
    """An arm's name where model and init are said elsewhere."""
    reward = f" {REWARDS[arm.reward].title}" if arm.algorithm.uses_reward else ""
    variant = f" ({', '.join(map(_short_setting, arm.variant.split(', ')))})" if arm.variant else ""
    return f"{arm.algorithm.title}{reward}{variant}"


def _short_setting(setting: str) -> str:
    """A setting without its section, and what is the user's own without its file."""
    key, _, value = setting.partition("=")
    return f"{key.rpartition('.')[2]}={value.rpartition(':')[2] if names_own(value) else value}"


Group = tuple[str, tuple[Arm, ...]]


def groups(comparison: Comparison, arms: Iterable[Arm]) -> list[list[Group]]:
    """The arms as rows of panels: a row for every model, a panel for every init, each with its title.

    Every row has a panel for every init that any model has, so that panels stand below each other; such a panel may
    be empty.
    """
    chosen = list(arms)
    inits = [init for init in INITS if any(arm.init == init for arm in chosen)]
    rows = []
    for model in comparison.models:
        if any(arm.model == model for arm in chosen):
            rows.append(
                [
                    (
                        f"{model}, {INITS[init].title}",
                        tuple(arm for arm in chosen if (arm.model, arm.init) == (model, init)),
                    )
                    for init in inits
                ]
            )
    return rows


def arm_panels(
    comparison: Comparison, arms: Iterable[Arm], **keywords: Any
) -> tuple[Figure, list[list[Axes]], list[tuple[Axes, tuple[Arm, ...]]]]:
    """A figure with a titled panel for every model and init.

    Args:
        comparison: The comparison that the arms belong to.
        arms: Those to draw.
        keywords: As for `panels`.

    Returns:
        The figure, its panels as rows, and every panel with the arms that belong into it, which may be none.
    """
    rows = groups(comparison, arms)
    figure, axes = panels(len(rows), len(rows[0]), **keywords)
    filled = []
    for line, row in zip(axes, rows, strict=True):
        for panel, (title, members) in zip(line, row, strict=True):
            panel.set_title(title)
            filled.append((panel, members))
    return figure, axes, filled


def panels(
    rows: int, columns: int, height: float = 3.0, width: float = 4.8, **keywords: Any
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with a grid of panels that share their axes unless told otherwise."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(6.4, width * columns), height * rows + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    shared = {"sharex": True, "sharey": True, **keywords}
    axes = figure.subplots(rows, columns, squeeze=False, **shared)
    return figure, [list(row) for row in axes]


def outer_labels(axes: Sequence[Sequence[Axes]], across: str, up: str) -> None:
    """Name the axes once: `across` below the lowest panels, `up` left of the leftmost; hide panels that are empty."""
    for row in axes:
        for panel in row:
            panel.set_visible(panel.has_data())
        next(panel for panel in row if panel.has_data()).set_ylabel(up)
    for column in zip(*axes, strict=True):
        lowest = [panel for panel in column if panel.has_data()][-1]
        lowest.set_xlabel(across)
        lowest.tick_params(labelbottom=True)


def shares(axis: Any, most: int = 6) -> None:
    """Ticks of an axis of shares, which ends at 0 and 1; call it when everything is drawn."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    low, high = axis.get_view_interval()
    margin = 0.025 * (min(high, 1.0) - max(low, 0.0))
    limit = axis.axes.set_xlim if axis.axis_name == "x" else axis.axes.set_ylim
    limit(max(low, -margin), min(high, 1 + margin), auto=None)
    axis.set_major_locator(MaxNLocator(nbins=most, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))


def counts(axis: Any) -> None:
    """Show counts as 12k or 1.5M."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))


def short_count(value: float) -> str:
    """A count in three digits and a letter, such as "12k"."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def legend(figure: Figure, handles: Sequence[Any], columns: int | None = None) -> None:
    """A legend below all panels."""
    if not handles:
        return
    per_row = columns or min(len(handles), max(2, math.floor(figure.get_figwidth() / 2.1)))
    figure.legend(handles=list(handles), loc="outside lower center", ncols=per_row, handlelength=2.6, columnspacing=1.6)


def seed_dots(panel: Axes, across: Sequence[float], up: Sequence[float], color: str) -> None:
    """Every seed as a small dot, beside the mean that is drawn of them."""
    marks: dict[str, Any] = {"marker": "o", "markersize": 2.4, "markeredgewidth": 0}
    panel.plot(across, up, linestyle="none", color=color, alpha=0.5, zorder=5, **marks)


def arm_handles(comparison: Comparison, arms: Iterable[Arm], lines: bool = True) -> list[Any]:
    """Legend entries, one for every different short label."""
    from matplotlib.lines import Line2D

    found: dict[str, Any] = {}
    chosen = looks(comparison)
    for arm in arms:
        look = chosen[arm]
        line: Any = look.line if lines else "none"
        found.setdefault(short_label(arm), Line2D([], [], linestyle=line, label=short_label(arm), **look.marks))
    return list(found.values())


def saved(figure: Figure) -> tuple[bytes, bytes]:
    """The figure as PNG and as SVG; equal figures give equal bytes."""
    import matplotlib

    with matplotlib.rc_context(RC):
        png, svg = BytesIO(), BytesIO()
        figure.savefig(png, format="png", dpi=150, metadata={"Software": None})
        # The layout stays as it was found for the first; finding it again would take longer than drawing.
        figure.set_layout_engine("none")
        figure.savefig(svg, format="svg", metadata={"Date": None})
    return png.getvalue(), svg.getvalue()
