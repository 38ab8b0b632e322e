"""pass@k of two policies beside each other: what either solves, and where their curves cross."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlreason.evaluation.metrics import pass_at_k
from rlreason.evaluation.statistics import Clusters, Estimate, crossed_estimate

Counts = npt.NDArray[np.int64]  # of samples, or of right ones among them; shape `(seeds, problems)`
SOLVED = ("both", "start only", "end only", "neither")


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where the pass@k of an end meets that of its start, of two curves that lie in another order for few samples.

    Args:
        at: The first k at which the order of few samples no longer holds; None: it holds up to `most`.
        low: Up to this k the order of few samples is certain (95 %); 0: not even at 1.
        high: From this k on the other order is certain; None: not even at `most`.
        most: The largest k.
    """

    at: int | None
    low: int
    high: int | None
    most: int

    @property
    def text(self) -> str:
        """Such as "23 [11, 57]", or that there is none, or none that is shown."""
        if self.at is None:
            return f"none up to {self.most}"
        if self.low == 0 or self.high is None:
            return f"{self.at} (not shown)"
        return f"{self.at} [{self.low}, {self.high}]"


@dataclass(frozen=True)
class Coverage:
    """What a start and an end solve with so many samples of a question.

    Args:
        samples: Of a question, of either.
        solved: Share of the questions that are solved by `SOLVED`, in this order.
        end_more: The share solved by the end alone less that by the start alone: the change of pass@k.
        crossing: Of the two curves of pass@k.
    """

    samples: int
    solved: tuple[Estimate, ...]
    end_more: Estimate
    crossing: Crossing


def coverage(start: tuple[Counts, Counts], end: tuple[Counts, Counts], clusters: Clusters | None = None) -> Coverage:
    """Compare two policies that were sampled on the same questions.

    Where one was sampled more often, both count as with the fewest samples of any question, in expectation.

    Args:
        start: Samples and right samples of the start.
        end: Those of the end.
        clusters: The cluster of each problem; None: each stands alone.

    Raises:
        ValueError: A question was not sampled.
    """
    most = int(min(start[0].min(), end[0].min()))
    before, after = _passed(start, most), _passed(end, most)
    either = (before * after, before * (1 - after), (1 - before) * after, (1 - before) * (1 - after))
    solved = tuple(crossed_estimate(values, kind="share", clusters=clusters) for values in either)

    def difference(k: int) -> Estimate:
        return crossed_estimate(_passed(end, k) - _passed(start, k), kind="difference", clusters=clusters)

    ends = difference(1), difference(most)
    crosses = ends[0].value * ends[1].value < 0  # the curves between are needed for nothing else
    between = [difference(k) for k in range(2, most)] if crosses else []
    return Coverage(most, solved, ends[1], crossing([ends[0], *between, ends[1]]) if crosses else no_crossing(most))


def no_crossing(most: int) -> Crossing:
    """Two curves that lie in one order at 1 and at `most` samples."""
    return Crossing(None, 0, None, most)


def crossing(differences: Sequence[Estimate]) -> Crossing:
    """Where two curves cross, from their differences at k = 1, 2, ... with an interval each.

    The interval of the place holds all k at which the difference may be 0. Where curves cross there is none, so that
    the interval of the difference there holds 0 in 95 % of all studies, whatever those of the other k do.

    Args:
        differences: At least one.
    """
    most, sign = len(differences), np.sign(differences[0].value)
    if sign * differences[-1].value >= 0:
        return no_crossing(most)
    first = [sign * item.value > 0 for item in differences].index(False) + 1
    # Ends of the intervals, seen from the curve that lies above for few samples.
    sure = [min(sign * item.low, sign * item.high) > 0 for item in differences]
    turned = [max(sign * item.low, sign * item.high) < 0 for item in differences]
    low = next((k for k, is_sure in enumerate(sure) if not is_sure), most)
    high = next((most - number + 1 for number, has in enumerate(reversed(turned)) if not has), 1)
    return Crossing(first, low, high if high <= most else None, most)


def _passed(counts: tuple[Counts, Counts], k: int) -> npt.NDArray[np.float64]:
    """pass@k of every seed and problem."""
    pairs = np.stack(counts, axis=-1)
    different, place = np.unique(pairs.reshape(-1, 2), axis=0, return_inverse=True)
    values = np.array([pass_at_k(int(right), int(samples), k) for samples, right in different])
    passed: npt.NDArray[np.float64] = values[place.reshape(-1)].reshape(counts[0].shape)
    return passed
