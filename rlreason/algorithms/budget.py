"""From a budget of training rollouts to whole rounds and batches."""

from __future__ import annotations

from rlreason.errors import UserError

ENOUGH = 0.95  # share of a budget that whole rounds or batches must use, so that budgets are comparable


def whole(budget: int, size: int, what: str) -> int:
    """How many rounds or batches of `size` rollouts a budget pays for; never more than it has.

    Args:
        budget: Training rollouts.
        size: Of one of them.
        what: What one is, for the message.

    Raises:
        UserError: It pays for none, or would be left unused by more than a twentieth.
    """
    count = budget // size
    if count * size < ENOUGH * budget or count == 0:
        nearest = " or ".join(f"{number * size}" for number in (count, count + 1) if number > 0)
        raise UserError(f"budget={budget} cannot be met: {what} takes {size:,} rollouts; the nearest are {nearest}")
    return count
