"""Labels at the ends of lines, which need no legend to be looked up in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlreason.study.arms import Arm, Comparison
from rlreason.study.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_END_LABELS = 11  # in a panel; more need a legend


@dataclass(frozen=True)
class EndLabel:
    """A label for the right end of a line.

    Args:
        x: The line's end along x, in data.
        y: The line's end along y, in data.
        text: What it says.
        color: That of the line.
    """

    x: float
    y: float
    text: str
    color: str


def label_ends(axes: Axes, labels: Sequence[EndLabel], inches: float = 2.5) -> None:
    """Write labels right of the panel, apart from each other, each tied to the end of its line.

    Args:
        axes: The panel; its limits must be final.
        labels: What to write.
        inches: Height of the panel.
    """
    if not labels:
        return
    low, high = axes.get_ylim()
    ordered = sorted(labels, key=lambda label: label.y)
    heights = spread([(label.y - low) / (high - low) for label in ordered], 11.5 / (inches * 72))
    for label, height in zip(ordered, heights, strict=True):
        axes.annotate(
            label.text,
            (label.x, label.y),
            (1.06, height),
            textcoords="axes fraction",
            va="center",
            fontsize=8.5,
            color=_readable(label.color),
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": label.color,
                "lw": 0.6,
                "alpha": 0.6,
                "shrinkA": 1,
                "shrinkB": 3,
                "relpos": (0, 0.5),
            },
        )


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """Ascending positions moved as little as needed to lie `gap` apart, and within 0 to 1 where there is room."""
    moved = list(positions)
    for _ in range(100):
        for index in range(1, len(moved)):
            overlap = gap - (moved[index] - moved[index - 1])
            if overlap > 0:
                moved[index - 1] -= overlap / 2
                moved[index] += overlap / 2
    moved[-1] = min(moved[-1], 1.0)
    for index in range(len(moved) - 2, -1, -1):
        moved[index] = min(moved[index], moved[index + 1] - gap)
    moved[0] = max(moved[0], 0.0)
    for index in range(1, len(moved)):
        moved[index] = max(moved[index], moved[index - 1] + gap)
    return moved


def finish_lines(
    figure: Figure, ends: Mapping[Axes, Sequence[EndLabel]], comparison: Comparison, arms: Iterable[Arm]
) -> None:
    """Label the lines of all panels at their ends, or all in a legend where a panel has too many of them."""
    if all(len(labels) <= MOST_END_LABELS for labels in ends.values()):
        for panel, labels in ends.items():
            label_ends(panel, labels, panel.get_position().height * figure.get_figheight() * 0.9)
    else:
        style.legend(figure, style.arm_handles(comparison, arms))


def _readable(color: str) -> str:
    """The colour dark enough for text on white."""
    from matplotlib.colors import to_hex, to_rgb

    red, green, blue = to_rgb(color)
    light = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    factor = min(1.0, 0.42 / light) if light > 0 else 1.0
    return str(to_hex((red * factor, green * factor, blue * factor)))
