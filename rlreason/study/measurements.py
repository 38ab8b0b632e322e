"""What `python -m bench.gpu` measured: speed and memory on named hardware, one JSON file each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlreason.errors import in_one_line

FOLDER = "measurements"


@dataclass(frozen=True)
class Measurement:
    """One measured figure.

    Args:
        what: What was measured.
        value: The figure, as text with its unit.
        further: Other figures of the same measurement, as text.
        hardware: On what.
        settings: Model, sizes and processes, as text.
        command: What measures it again.
        commit: The commit of the source; "unknown" outside a git checkout.
        made: When, `YYYYMMDD-HHMMSS`.
    """

    what: str
    value: str
    further: str
    hardware: str
    settings: str
    command: str
    commit: str
    made: str


def read_measurements(*folders: Path) -> tuple[list[Measurement], list[str]]:
    """All measurements in some folders, by what was measured, the newest last; and what could not be read, and why."""
    found: list[Measurement] = []
    troubles: list[str] = []
    for path in (path for folder in folders for path in sorted(folder.glob("*.json"))):
        try:
            found.append(_measurement(json.loads(path.read_text(encoding="utf-8"))))
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else in_one_line(error, 200)
            troubles.append(f"{FOLDER}/{path.name}: left out, {reason}")
    return sorted(found, key=lambda item: (item.what, item.made)), troubles


def hardware_text(hardware: Mapping[str, Any]) -> str:
    """Hardware in one line: GPUs, CPUs, memory."""
    gpus = Counter(hardware.get("gpus", ()))
    parts = [f"{number} x {name}" for name, number in gpus.items()]
    parts += [f"{hardware.get('cpus', '?')} CPUs ({hardware.get('machine', '?')})"]
    return ", ".join([*parts, f"{hardware.get('memory_gib', '?')} GiB"])


def _measurement(record: dict[str, Any]) -> Measurement:
    gpus = record["hardware"]["gpus"]
    return Measurement(
        what=str(record["what"]),
        value=f"{_text(float(record['value']))} {record['unit']}",
        further=_listed(record["further"]),
        hardware=hardware_text(record["hardware"]) + ("" if gpus else "; no GPU"),
        settings=_listed(record["settings"]),
        command=str(record["command"]),
        commit=record["commit"] or "unknown",
        made=str(record["made"]),
    )


def _listed(values: Mapping[str, Any]) -> str:
    """Names and values that are known, in one line."""
    return ", ".join(f"{name.replace('_', ' ')} {_text(value)}" for name, value in values.items() if value is not None)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_text, value))
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
