"""The checkpoints of a run: which there are, which one it selected, and what to say where a run is no model."""

from __future__ import annotations

import json
from pathlib import Path

from rlreason.config.texts import home_expanded
from rlreason.errors import UserError
from rlreason.run.files import CONFIG_FILE, RESULT_FILE, read_result

MODEL_FILE = "config.json"
CARD_FILE = "outcome_model.json"  # only an outcome reward model has one
MOST_NAMED = 8


def refuse_broken(folder: Path) -> None:
    """Refuse a checkpoint of which a file is missing, empty or cut.

    Raises:
        ValueError: One is; the message names it.
    """
    weights = sorted(folder.glob("*.safetensors"))
    if not (folder / MODEL_FILE).is_file() or not weights:
        raise ValueError(f"{folder} is no whole checkpoint")
    for path in folder.glob("*.json"):
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is empty or cut") from error
    for path in weights:
        # The format: the length of the header, the header with the place of every tensor, the tensors.
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            size = path.stat().st_size
            header = file.read(length) if length < size else b""
        try:
            ends = [tensor["data_offsets"][1] for name, tensor in json.loads(header).items() if name != "__metadata__"]
        except ValueError as error:
            raise ValueError(f"{path} is empty or cut") from error
        if 8 + length + max(ends, default=0) != size:
            raise ValueError(f"{path} is empty or cut")


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run, finished or not."""
    begun = (folder / CONFIG_FILE).is_file() and any((folder / name).is_file() for name in ("journal.jsonl", ".lock"))
    return begun and not (folder / MODEL_FILE).is_file()


def checkpoints(run: Path) -> list[str]:
    """The names of a run's checkpoints, in the order in which they were made."""
    found = [path.parent for path in (run / "checkpoints").glob(f"[!.]*/{MODEL_FILE}")]
    return [path.name for path in sorted(found, key=lambda path: (path.stat().st_mtime, path.name))]


def selected(run: Path) -> Path | None:
    """The policy of a finished run (the model, of a run that trains an outcome reward model); None without one.

    Raises:
        UserError: The run has not finished.
    """
    if not (run / RESULT_FILE).exists():
        raise UserError(f"{run} has not finished")
    result = read_result(run)
    if result is None:
        raise UserError(f"{run / RESULT_FILE} is broken; give the command of the run again")
    return run / result["policy"] if "policy" in result else None


def model_path(path: str) -> str:
    """What `model.path` means: of a finished run's folder its selected checkpoint, of any other text that text.

    Raises:
        UserError: It is the folder of a run without a model to take, or a folder of runs.
    """
    path = home_expanded(path)
    folder = Path(path)
    if not path or (folder / MODEL_FILE).is_file():
        return path
    for run in (folder.parent, folder.parent.parent):
        if run / "checkpoints" in (folder, folder.parent) and is_run(run):
            raise UserError(f"{path} is no checkpoint of the run {run}; {_choice_of(run)}")
    if not folder.is_dir():
        return path
    if not is_run(folder):
        _refuse_runs(folder)
        return path
    choose = _choice_of(folder)
    if not (folder / RESULT_FILE).is_file():
        raise UserError(f"{path} is a run that has not finished; {choose}")
    chosen = selected(folder)
    if chosen is None or not (chosen / MODEL_FILE).is_file() or (chosen / CARD_FILE).is_file():
        raise UserError(f"{path} is a run without a policy; {choose}")
    return str(chosen)


def outcome_model_path(path: str) -> str:
    """What `orm.path` means: of a run that trained an outcome reward model that model, of any other text that text.

    Raises:
        UserError: It is the folder of a run without such a model, or a folder of runs.
    """
    path = home_expanded(path)
    folder = Path(path)
    if not path or not folder.is_dir() or (folder / CARD_FILE).is_file():
        return path
    inside = [item.parent for item in sorted((folder / "checkpoints").glob(f"[!.]*/{CARD_FILE}"))]
    if inside:
        return str(inside[-1])
    if not is_run(folder):
        _refuse_runs(folder)
        return path
    if not (folder / RESULT_FILE).is_file():
        raise UserError(f"{path} is a run that has not finished; give its command again, and use its model afterwards")
    chosen = selected(folder)
    if chosen is None or not (chosen / CARD_FILE).is_file():
        raise UserError(f"{path} is a run without an outcome reward model; name one of algo=orm")
    return str(chosen)


def _choice_of(run: Path) -> str:
    there = [f"model.path={run / 'checkpoints' / name}" for name in checkpoints(run)]
    return f"choose one of its checkpoints: {_listed(there)}" if there else "it has no checkpoint"


def _refuse_runs(folder: Path) -> None:
    runs = [str(item.parent) for item in sorted(folder.glob("[!.]*/config.yaml")) if is_run(item.parent)]
    if runs:
        raise UserError(f"{folder} holds runs; name one of them: {_listed(runs)}")
    studies = [
        str(path.parent.parent) for path in sorted(folder.glob("[!.]*/[!.]*/config.yaml")) if is_run(path.parent)
    ]
    if studies:
        raise UserError(f"{folder} holds studies; name a run in one of them: {_listed(list(dict.fromkeys(studies)))}")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
