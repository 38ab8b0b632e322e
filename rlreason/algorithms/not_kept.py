"""Training rollouts that an algorithm has drawn and learns nothing from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NotKept:
    """The training rollouts of a round that nothing is learned from.

    Args:
        drawn: All of the round.
        too_low: Those that the filter of the algorithm refused.
        copies: Those of which another one that was kept counts as the same.
    """

    drawn: int
    too_low: int
    copies: int
