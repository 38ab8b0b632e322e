"""What a change of accuracy is made of: answers found, and answers that are right once found.

A solution is right where an answer is found in it and that answer is right, so accuracy is the product of two shares:
`found`, of the questions, and `right`, of those with an answer. A policy that has learned the form of an answer raises
the first; one that has learned to solve more raises the second.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rlreason.evaluation.statistics import Clusters, Estimate, crossed_estimate

LEAST_FOUND = 20  # answers at either end; with fewer the share of right ones among them is hardly known

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class GainSplit:
    """A change of accuracy from one policy to another, split without a remainder.

    With the means over both ends, `by_found` is the change of `found` times the mean of `right`, and `by_right` the
    change of `right` times the mean of `found`: Shapley's split of a product, in which neither factor is changed first.
    Their values add up to the change of accuracy exactly.

    Args:
        gain: The change of accuracy.
        found: The change of the share of questions in whose solution an answer is found.
        right: The change of the share of right answers among those found.
        by_found: The part of the gain that is answers found.
        by_right: The part that is answers right.
        found_more: `by_found` less `by_right`; above 0 most of a gain is answers found.
        shares: The values `(found, right)` before and after.
    """

    gain: Estimate
    found: Estimate
    right: Estimate
    by_found: Estimate
    by_right: Estimate
    found_more: Estimate
    shares: tuple[tuple[float, float], tuple[float, float]]


def split_gain(
    found: tuple[Values, Values],
    right: tuple[Values, Values],
    clusters: Clusters | None = None,
    confidence: float = 0.95,
) -> GainSplit | None:
    """Split the change of accuracy between two policies that answered the same questions.

    Shares of shares are no means over questions, so their intervals are those of what each question adds to them to
    first order (Cochran 1977, Sampling Techniques, 2.11); paired by question and seed.

    Args:
        found: Whether an answer was found, before and after; each of shape `(seeds, problems)`.
        right: Whether it was right, before and after; never where none was found.
        clusters: The cluster of each problem; None: each stands alone.
        confidence: Of the intervals.

    Returns:
        None where fewer than `LEAST_FOUND` answers were found at either end, mean over seeds.

    Raises:
        ValueError: An answer is right and not found, or `crossed_estimate` raises it.
    """
    if any((correct > there).any() for correct, there in zip(right, found, strict=True)):
        raise ValueError("An answer that was not found cannot be right.")
    if min(there.mean(axis=0).sum() for there in found) < LEAST_FOUND:
        return None
    share_found = [float(there.mean()) for there in found]
    share_right = [float(correct.sum() / there.sum()) for correct, there in zip(right, found, strict=True)]
    # What each seed and problem adds; its mean is the share itself.
    each_right = [
        share + (correct - share * there) / part
        for share, part, correct, there in zip(share_right, share_found, right, found, strict=True)
    ]
    change_found, change_right = found[1] - found[0], each_right[1] - each_right[0]
    mean_found, mean_right = sum(share_found) / 2, sum(share_right) / 2
    by_found = change_found * mean_right + (share_found[1] - share_found[0]) * (sum(each_right) / 2 - mean_right)
    by_right = change_right * mean_found + (share_right[1] - share_right[0]) * (sum(found) / 2 - mean_found)
    gain = crossed_estimate(right[1] - right[0], confidence, "difference", clusters)
    all_found = share_found == [1.0, 1.0]  # the share of right ones is then one of all questions
    of_found = crossed_estimate(change_found, confidence, "difference", clusters)
    of_right = gain if all_found else crossed_estimate(change_right, confidence, clusters=clusters)
    return GainSplit(
        gain=gain,
        found=of_found,
        right=of_right,
        by_found=_no_narrower(crossed_estimate(by_found, confidence, clusters=clusters), of_found, mean_right),
        by_right=_no_narrower(crossed_estimate(by_right, confidence, clusters=clusters), of_right, mean_found),
        found_more=crossed_estimate(by_found - by_right, confidence, clusters=clusters),
        shares=((share_found[0], share_right[0]), (share_found[1], share_right[1])),
    )


def _no_narrower(part: Estimate, change: Estimate, factor: float) -> Estimate:
    """A part of a gain whose interval holds that of the change that it comes from, times what it is multiplied by.

    Where hardly a question changes, the latter allows for the changes that were not seen. No part is larger than 1.
    """
    low, high = min(part.low, change.low * factor), max(part.high, change.high * factor)
    return replace(part, low=max(-1.0, low), high=min(1.0, high))
