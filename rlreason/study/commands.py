"""The command that makes the runs of an arm again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlreason.arguments import quoted
from rlreason.run.identity import NAMED_GROUPS, identity
from rlreason.study.arms import Arm

# From choices to the composed configuration as plain values; None where they do not compose any more.
Compose = Callable[[Sequence[str]], Mapping[str, Any] | None]

NAMED_IF_CHANGED = ("task", "prompt", "engine", "orm")
LEFT_OUT = ("seed", "study")
PLAIN = re.compile(r"(?!(?:null|true|false|nan|inf)$)[A-Za-z_./][\w./:@+-]*", re.IGNORECASE)


def command(arm: Arm, study: str, compose: Compose) -> str:
    """One line that makes all runs of an arm, with every setting that is not the default of its choices."""
    seeds = ",".join(map(str, sorted(arm.seeds)))
    start = ["rlreason", *(["-m"] if len(arm.seeds) > 1 else []), f"study={study}"]
    return " ".join(map(shlex.quote, [*start, *settings(arm.runs[0].result["config"], compose), f"seed={seeds}"]))


def settings(config: Mapping[str, Any], compose: Compose) -> list[str]:
    """The overrides that compose `config`, but for its seed and its study: choices, then what is not their default."""
    standard = compose(())
    choices = [f"{group}={config[group]['name']}" for group in NAMED_GROUPS]
    for group in NAMED_IF_CHANGED:
        name = config.get(group, {}).get("name")
        if standard is not None and name is not None and standard[group].get("name") != name:
            choices.append(f"{group}={name}")
    defaults = compose(tuple(choices))
    changes = []
    if defaults is not None:
        here, there = identity(config), identity(defaults)
        changes = [
            f"{key}={hydra_value(value)}"
            for key, value in here.items()
            if key in there and key not in LEFT_OUT and there[key] != value
        ]
    return [*choices, *changes]


def hydra_value(value: Any) -> str:
    """A value as Hydra reads it on the command line; a section that is a choice of a group by its name."""
    if isinstance(value, Mapping) and "name" in value:
        value = value["name"]
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(hydra_value, value)) + "]"
    if isinstance(value, int | float) or PLAIN.fullmatch(value):
        return str(value)
    return quoted(str(value))
