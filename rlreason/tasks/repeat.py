"""A finished run done once more from its own configuration, in a folder of its own, and what of it came out the same.

On one machine, with the same versions and `engine=transformers`, everything does, to the last bit. vLLM decides by load
which sequences share a batch, so that its log-probs may differ in the last digits, and a sampled token with them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlreason.config.base import require
from rlreason.config.compose import from_plain, own_parts
from rlreason.config.experiment import ExperimentConfig
from rlreason.config.sections import RepeatConfig
from rlreason.display import Display
from rlreason.errors import UserError
from rlreason.lab.contents import contents, digest_of_file
from rlreason.run.checkpoints import is_run
from rlreason.run.files import read_result, write_atomically
from rlreason.run.folder import read_journal
from rlreason.run.identity import identity, stored_configuration
from rlreason.tasks.making import do

if TYPE_CHECKING:
    from rich.console import Console

REPORT = "repeat.json"
MOST_SHOWN = 4
NO_SETTINGS = ("sources", "contents")  # keys of a stored configuration that say what it read


@dataclass(frozen=True)
class Compared:
    """One thing that the two runs have.

    Args:
        what: Such as "rollouts of round-1".
        equal: Whether it is the same in both.
        says: How it is not, or how much was compared.
    """

    what: str
    equal: bool
    says: str


def repeat(config: ExperimentConfig, console: Console) -> list[Compared]:
    """Run a finished run again and compare; the report is printed and written beside the new run.

    Args:
        config: Of the command; its task names the run.
        console: Shows progress and the table.

    Raises:
        UserError: There is no such run, it has not finished, another version made it, or what it read has changed.
    """
    wanted = config.task
    assert isinstance(wanted, RepeatConfig)
    run = named(str(wanted.run))
    there = finished(run)
    beside = run.with_name(f"{run.name}-repeated")
    again, plain = configuration_of(run, beside)
    folder = beside / run.name
    if read_result(folder) is None:
        do(again, plain, folder, Display(console))
    found = compared(run, folder, there)
    write_atomically(beside / REPORT, json.dumps([asdict(item) for item in found], indent=1) + "\n")
    show(found, console)
    different = sum(not item.equal for item in found)
    ending = "everything is equal" if different == 0 else f"{different} of {len(found)} differ"
    console.print(f"{run.name} again: {ending}; {beside / REPORT}", highlight=False, soft_wrap=True)
    return found


def named(path: str) -> Path:
    """The folder at a path by its own name, beside which something can be put: not "." or ".."."""
    folder = Path(path)
    return folder.resolve() if folder.name in ("", "..") else folder


def finished(run: Path) -> dict[str, Any]:
    """The result of a run.

    Raises:
        UserError: There is none.
    """
    require(is_run(run), f"there is no run in {run}; name the folder of a finished one with task.run=runs/NAME")
    result = read_result(run)
    if result is None:
        raise UserError(f"{run} has not finished; give its own command again first")
    return result


def configuration_of(run: Path, runs_dir: Path) -> tuple[ExperimentConfig, dict[str, Any]]:
    """What a run was made with, and the same as plain values, for one below `runs_dir` that takes nothing from a cache.

    Raises:
        UserError: This version does not know its settings, or what lies at its paths has changed.
    """
    stored, _ = stored_configuration(run, ())
    plain = {key: deepcopy(value) for key, value in stored.items() if key not in NO_SETTINGS}
    plain["runs_dir"] = str(runs_dir)
    config = experiment_of(run, plain)
    require(config.nproc == 1, f"{run} was trained by {config.nproc} processes; only a run of one can be repeated")
    here = {"contents": contents(config), "sources": {part.path: part.digest for part in own_parts(config)}}
    for kind, digests in here.items():
        for place, digest in digests.items():
            if stored.get(kind, {}).get(place, digest) != digest:
                raise UserError(f"what lies at {place} has changed since {run} was made; it cannot be repeated")
        if digests or kind in stored:
            plain[kind] = digests
    return config, plain


def experiment_of(run: Path, stored: Mapping[str, Any]) -> ExperimentConfig:
    """The typed configuration of a run.

    Args:
        run: Its folder.
        stored: What its `config.yaml` holds.

    Raises:
        UserError: This version does not know its settings.
    """
    try:
        return from_plain({key: value for key, value in stored.items() if key not in NO_SETTINGS})
    except (UserError, KeyError, TypeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{run} was made by another version, whose settings this one cannot read: {reason}") from error


def compared(one: Path, other: Path, result: Mapping[str, Any]) -> list[Compared]:
    """Everything that two runs of one configuration have.

    Args:
        one: The folder of the first.
        other: The folder of the second.
        result: Of the first.
    """
    again = finished(other)
    return [
        _mappings("settings", identity(result["config"]), identity(again["config"])),
        _mappings("versions", result.get("versions", {}), again["versions"]),
        _mappings("hardware", result.get("hardware", {}), again["hardware"]),
        *_rollouts(one, other),
        _losses(one, other),
        *_weights(one, other),
        *_metrics(result, again),
    ]


def show(found: list[Compared], console: Console) -> None:
    """A table of what is equal."""
    from rich.table import Table

    table = Table("what", "equal", "")
    for item in found:
        table.add_row(item.what, "yes" if item.equal else "no", item.says)
    console.print(table)


def _mappings(what: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> Compared:
    different = [key for key in sorted({*one, *other}) if one.get(key) != other.get(key)]
    shown = ", ".join(f"{key}: {one.get(key)}, now {other.get(key)}" for key in different[:MOST_SHOWN])
    more = f" and {len(different) - MOST_SHOWN} more" if len(different) > MOST_SHOWN else ""
    return Compared(what, not different, shown + more if different else f"{len(one)} compared")


def _rollouts(one: Path, other: Path) -> list[Compared]:
    import numpy as np
    import pyarrow.parquet as pq

    found = []
    for path in sorted((one / "rollouts").glob("*.parquet")):
        what, second = f"rollouts of {path.stem}", other / "rollouts" / path.name
        if not second.exists():
            found.append(Compared(what, False, "not there"))
            continue
        columns = pq.read_schema(path).names
        if "text" not in columns:  # scores of rollouts, which stand beside them
            same = pq.read_table(path).equals(pq.read_table(second))
            found.append(Compared(what.replace("rollouts", "scores", 1), same, ""))
            continue
        keys = ["problem_id", "sample"]
        wanted = [*keys, "token_ids", "logprobs", "correct", "reward"]
        first, again = (pq.read_table(file, columns=wanted).to_pandas().set_index(keys) for file in (path, second))
        if not first.index.equals(again.index):
            found.append(Compared(what, False, "other questions or samples"))
            continue
        pairs = list(zip(first["token_ids"], again["token_ids"], strict=True))
        alike = np.array([np.array_equal(ours, theirs) for ours, theirs in pairs], dtype=bool)
        gaps = [
            float(np.abs(ours - theirs).max(initial=0.0))
            for ours, theirs, same in zip(first["logprobs"], again["logprobs"], alike, strict=True)
            if same
        ]
        verdicts = first["correct"].equals(again["correct"]) and first["reward"].equals(again["reward"])
        gap = max(gaps, default=0.0)
        says = f"{int(alike.sum()):,} of {len(alike):,} have the same tokens, log-probs within {gap:.2g} nats"
        found.append(Compared(what, bool(alike.all()) and gap == 0.0 and verdicts, says))
    return found


def _losses(one: Path, other: Path) -> Compared:
    first, again = (
        {item["stage"]: item["loss"] for item in read_journal(run) if "loss" in item} for run in (one, other)
    )
    return _mappings("losses", first, again)


def _weights(one: Path, other: Path) -> list[Compared]:
    found = []
    for path in sorted((one / "checkpoints").glob("*/*.safetensors")):
        second = other / path.relative_to(one)
        same = second.exists() and digest_of_file(path) == digest_of_file(second)
        found.append(Compared(f"weights of {path.parent.name}", same, "" if second.exists() else "not there"))
    return found


def _metrics(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[Compared]:
    first, again = (
        {
            record["stage"]: {name: values["value"] for name, values in record["metrics"].items()}
            for record in result["evaluations"]
        }
        for result in (one, other)
    )
    return [_mappings(f"metrics of {stage}", values, again.get(stage, {})) for stage, values in first.items()]
