"""How a return-conditioned policy is to be asked; it travels in the folder of its checkpoint."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "return_condition.json"


@dataclass(frozen=True)
class ReturnCondition:
    """Token ids that are inserted before what the policy writes."""

    good: tuple[int, ...]  # ask for what earned a good return
    bad: tuple[int, ...]  # ask for the opposite, for the control experiment
    every_step: bool  # insert them before every step, or once before the solution

    def save(self, folder: Path) -> None:
        """Put it into a checkpoint's folder."""
        (folder / FILE).write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")


def condition_of(checkpoint: Path) -> ReturnCondition | None:
    """The condition under which a checkpoint was trained; None for an ordinary policy."""
    path = checkpoint / FILE
    if not path.exists():
        return None
    values = json.loads(path.read_text(encoding="utf-8"))
    return ReturnCondition(tuple(values["good"]), tuple(values["bad"]), values["every_step"])
