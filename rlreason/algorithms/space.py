"""Where the settings of an algorithm are searched for: an axis for each setting, declared in the algorithm's row.

Spaces are declared rather than written for a study, so that every algorithm is searched in the same way. Learning rates
are searched around the configured value, because what is good depends on the model; all else in absolute terms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlreason.errors import UserError


@dataclass(frozen=True)
class Around:
    """A log-uniform draw around the configured value.

    Args:
        low: Smallest factor of it.
        high: Largest factor of it.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high:
            raise UserError(f"a range of factors must have 0 < low < high, not {self.low} and {self.high}")


@dataclass(frozen=True)
class Between:
    """A uniform draw, or a log-uniform one; among whole numbers where both ends are whole.

    Args:
        low: Smallest value.
        high: Largest value.
        log: Whether its logarithm is uniform.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise UserError(f"a range must have low < high, above 0 where it is logarithmic: {self.low}, {self.high}")


@dataclass(frozen=True)
class Among:
    """A uniform draw among values.

    Args:
        values: Those values, at least two.
    """

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if len(self.values) < 2:
            raise UserError(f"a choice must be among at least two values, not {list(self.values)}")


Axis = Around | Between | Among
Space = Mapping[str, Axis]

NOTHING: Space = {}
# The same for every algorithm that has the setting, as none may be searched more widely than another.
LEARNING_RATE = Around(0.25, 4.0)
TEMPERATURE = Among((0.7, 1.0, 1.3))
SUPERVISED: Space = {
    "learning_rate": LEARNING_RATE,
    "epochs": Among((1, 2, 4, 8)),
    "batch_size": Among((16, 32, 64, 128)),
}
ON_POLICY: Space = {
    "learning_rate": LEARNING_RATE,
    "epochs": Among((1, 2, 4)),
    "minibatch_size": Among((32, 64, 128, 256)),
    "temperature": TEMPERATURE,
    "kl_coefficient": Among((0.0, 0.01, 0.05)),
}
