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


def whole(budget: int, size: int, what: str) -> int:
    """How many rounds or batches of `size` rollouts a budget pays for; never more than it has.

    Args:
        budget: Training rollouts.
        size: Of one of them.
        what: What one is, for the message.

    Raises:
        BudgetUnmet: It pays for none, or would be left unused by more than a twentieth.
    """
    count = budget // size
    if count * size < ENOUGH * budget or count == 0:
        raise BudgetUnmet(what, size, tuple(number * size for number in (count, count + 1) if number > 0))
    return count
