"""From a budget of training rollouts to whole rounds and batches."""

from __future__ import annotations

from rlreason.errors import UserError

ENOUGH = 0.95  # share of a budget that whole rounds or batches must use, so that budgets are comparable


class BudgetUnmet(UserError):
    """A budget does not come out even.

    Args:
        what: The round, batch or sample that it buys.
        size: Rollouts of one of them.
        nearest: The nearest budgets that do, in rollouts.
    """

    def __init__(self, what: str, size: int, nearest: tuple[int, ...]) -> None:
        super().__init__(f"{what} takes {size:,} rollouts")
        self.nearest = nearest


def whole(budget: int, size: int, what: str, least: int = 1) -> int:
    """How many rounds or batches of `size` rollouts a budget pays for; never more than it has.

    Args:
        budget: Training rollouts.
        size: Of one of them.
        what: What one is, for the message.
        least: How many there must be.

    Raises:
        BudgetUnmet: It pays for fewer, or would be left unused by more than a twentieth.
    """
    count = budget // size
    if count * size < ENOUGH * budget or count < least:
        counts = (count, count + 1) if count >= least else (least,)
        raise BudgetUnmet(what, size, tuple(number * size for number in counts))
    return count
