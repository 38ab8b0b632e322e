"""`rlreason --help`: the groups and their choices, read from conf/; `rlreason --help GROUP`: every field of a group."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlreason.errors import in_one_line

if TYPE_CHECKING:
    from rlreason.config.base import Settings

OVERVIEW = """\
[bold]rlreason[/]: reinforcement learning for LLM reasoning, run and compared

  rlreason                                  the default experiment, on whatever this machine has
  rlreason algo=ei init=sft seed=1          choose from groups, set single values
  rlreason model=local model.path=FOLDER    any model in Hugging Face format, or a Hub name
  rlreason -m seed=0,1,2 algo.samples=4,8   every combination, one after another
  rlreason -m experiment=paper-tiny         a whole study; its runs live together in runs/paper-tiny
  rlreason -m experiment=tune study=NAME    settings of all algorithms, searched alike
  rlreason task=watch study=paper-tiny      follow it
  rlreason task=evaluate model=small eval.k=96
  rlreason task=try_reward task.rollouts=runs/NAME reward=dense
                                            what a reward gives, before anything is paid for
  rlreason task=rescore task.run=runs/NAME task.extraction=boxed
                                            a finished run's metrics again, from its texts
  rlreason task=report study=NAME           tables, figures and findings of the runs in runs/NAME
  rlreason 'data.path="/data/a, b"'         a value in quotes is taken as it stands; 'prompt.stop=["</s>","#"]'
  rlreason --cfg job --resolve              the composed configuration, without running it

The same command again continues an interrupted run, or prints the result of a finished one.
"""
GROUP_NOTES = {
    "task": "what to do",
    "algo": "how the policy is trained",
    "reward": "what earns credit",
    "orm": "the outcome reward model, where a run needs one",
    "model": "the pretrained language model",
    "init": "where training starts",
    "data": "questions and answers",
    "prompt": "how a question becomes a prompt",
    "engine": "what generates",
    "launcher": "which processes train together",
    "sharding": "how they split the model",
    "eval": "what is measured",
    "tracker": "where metrics go besides the run folder",
    "hardware": "presets of processes, sharding and engines for GPUs",
    "experiment": "presets that set several groups at once",
}
BUILT_IN = {"hydra/launcher": ("basic", "joblib")}  # choices that Hydra and its plugins bring
CLOSING = """\

[bold]More[/]  rlreason --help GROUP                every field of a group: default, possible values, meaning
      eval "$(rlreason -sc install=bash)"   tab completion (zsh and fish too)
"""


def print_help(folders: Sequence[Path], topics: list[str]) -> None:
    """Print the overview, or the fields of the groups named in `topics`.

    Args:
        folders: Where choices are looked for, that of the package first.
        topics: Groups.
    """
    from rich.console import Console

    console = Console(highlight=False)
    known = [group for topic in topics if (group := topic.partition("=")[0]) in GROUP_NOTES]
    for group in known:
        _print_group(console, folders, group)
    if known:
        return
    from rlreason.config.experiment import GeneralConfig

    width = max(len(choice) for group in GROUP_NOTES for choice in choices(folders, group)) + 2
    composed = primary(folders[0])
    chosen = {key: value for entry in composed["defaults"] if isinstance(entry, dict) for key, value in entry.items()}
    console.print(OVERVIEW, soft_wrap=True)
    for group, note in GROUP_NOTES.items():
        console.print(f"[bold]{group}[/]  {note}")
        for choice, description in choices(folders, group).items():
            default = " [dim](default)[/]" if choice == chosen.get(group) else ""
            console.print(f"  {choice:<{width}}{description}{default}", soft_wrap=True)
    console.print("\n[bold]Single values[/]")
    _print_fields(console, GeneralConfig, composed)
    console.print(CLOSING, soft_wrap=True)


def choices(folders: Sequence[Path], group: str) -> dict[str, str]:
    """The choices of a group and the first comment line of each."""
    found = {}
    for choice, path in files(folders, group).items():
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if "@package" not in line]
        found[choice] = lines[0].lstrip("# ") if lines and lines[0].startswith("#") else ""
    return found


def files(folders: Sequence[Path], group: str) -> dict[str, Path]:
    """The configuration file of every choice of a group; of two with one name, the first folder's."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted((folder / group).glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def primary(folder: Path) -> dict[str, Any]:
    """What stands in `config.yaml`: the defaults list, and the values that belong to no group."""
    import yaml

    read: dict[str, Any] = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    return read


def _print_group(console: Any, folders: Sequence[Path], group: str) -> None:
    import yaml

    from rlreason.config.compose import GROUPS, settings_of

    console.print(f"[bold]{group}[/]  {GROUP_NOTES[group]}")
    descriptions = choices(folders, group)
    for choice, path in files(folders, group).items():
        description = descriptions[choice]
        console.print(f"\n[bold]{group}={choice}[/]  {description}", soft_wrap=True)
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        if group in GROUPS:
            _print_fields(console, settings_of(group, values), values, f"{group}.")


def _print_fields(console: Any, schema: type[Settings], values: dict[str, Any], prefix: str = "") -> None:
    from rich.markup import escape

    from rlreason.config.base import describe

    for field, kind, meaning in describe(schema):
        if field != "name" or not prefix:  # the group's choice is its name
            value = escape("null" if values.get(field) is None else str(values[field]).replace("\n", "\\n"))
            console.print(f"  {prefix}{field}={value}  [dim]{kind}[/]\n      {meaning}", soft_wrap=True)


def suggest(error: Exception, folders: Sequence[Path]) -> str:
    """Hydra's objection in one line, with the nearest names where it was about a name.

    Args:
        error: What Hydra raised.
        folders: Where choices are looked for.
    """
    message = in_one_line(error)
    launcher = re.search(r"Could not (?:find|load) 'hydra/launcher/((joblib|submitit|ray)\w*)'", message)
    if launcher:
        return f"hydra/launcher={launcher.group(1)} is not installed; pip install 'rlreason[{launcher.group(2)}]'"
    groups = "|".join([*GROUP_NOTES, *BUILT_IN, r"[\w@./-]+"])
    choice = re.search(rf"Could not (?:find|load) '({groups})/(.*?)'(?: |$)", message)
    if choice:
        return _unknown_choice(choice.group(1), choice.group(2), folders)
    several = re.search(r"Ambiguous value for argument '([^=]*)=(.*?)' 1\. To use", message)
    if several:
        key, values = several.groups()
        return (
            f"{key}={values} gives several values; -m runs each of them: rlreason -m {shlex.quote(f'{key}={values}')}"
        )
    group_name = re.search(r"Could not override '([\w.-]+)'", message)
    if group_name:
        return _unknown_key(group_name.group(1))
    return message.partition(" See https://")[0].partition(" full_key:")[0]


def _unknown_choice(group: str, name: str, folders: Sequence[Path]) -> str:
    there = [*BUILT_IN.get(group, ()), *choices(folders, group)]
    last = name.rpartition("/")[2]
    near = [last] if last in there else difflib.get_close_matches(last, there, n=3, cutoff=0.4)
    is_path = "/" in name or Path(name).exists()
    meant = [f"{group}={choice}" for choice in near] if is_path else near
    own = {"model": "local", "orm": "local", "data": "files"}.get(group)  # the choice that takes any path
    if is_path and own in there:
        meant.append(f"{group}={own} {group}.path={name}")
    hint = f"did you mean {' or '.join(meant)}? " if meant else ""
    return f"{group}={name} is unknown; {hint}choose from: {', '.join(there)}"


def has_field(schema: type[Settings], name: str) -> bool:
    """Whether a section has a setting of that name."""
    from rlreason.config.base import describe

    return any(field == name for field, _, _ in describe(schema))


def _unknown_key(key: str) -> str:
    from rlreason.config.compose import TABLES, settings_by_key

    section, _, name = key.partition(".")
    declared = settings_by_key()
    if key in declared and section in TABLES:
        having = [f"{section}={row}" for row, facts in TABLES[section].items() if has_field(facts.settings, name)]
        return f"{key} is a setting of {' and '.join(having)}, and not of the choice made here"
    if key in declared and section == "prompt":
        return f"{key} is no setting of prompt=auto, which chooses another; name that too, such as prompt=boxed"
    of_section = [name for name in declared if name.startswith(f"{section}.")]
    known = of_section or [*GROUP_NOTES, *(name for name in declared if "." not in name)]
    near = difflib.get_close_matches(key, known, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else "see rlreason --help"
    return f"{key} is unknown; {hint}"
