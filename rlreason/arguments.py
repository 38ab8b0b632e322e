"""The command line as it was typed: what Hydra's grammar would refuse or change is quoted before Hydra reads it.

Hydra reads the values of overrides in a grammar of its own, in which `=`, blanks, brackets, accents and quotes have a
meaning or none. A setting that is a text gets the text that was typed; all else that Hydra understands stays as it is.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import Field, dataclass
from pathlib import Path
from typing import Any, Literal

from rlreason.config.base import kind_of
from rlreason.config.compose import GROUPS, TASKS, settings_by_key
from rlreason.config.sections import EMBEDDED
from rlreason.config.texts import with_line_breaks
from rlreason.errors import UserError

OVERRIDE = re.compile(r"(~|\+{0,2})([^=]*)=(.*)", re.DOTALL)
FUNCTION = re.compile(r"\s*(choice|range|interval|glob|sort|shuffle|tag|int|float|str|bool)\s*\(")
NULL = re.compile(r"\s*null\s*", re.IGNORECASE)
INTERPOLATION = re.compile(r"(\\*)\$\{")
CLOSING = {"(": ")", "[": "]", "{": "}"}
TUNED, FOR_ALGORITHM = "tuned", "/${algo}"  # the group of tuned settings, of which each algorithm has its own
BLANKS = " \t"  # that Hydra drops around a value
BRACKETS = ("([{", "[", "")  # that keep commas together, the most likely reading first


@dataclass(frozen=True)
class CommandLine:
    """What Hydra is to read.

    Args:
        arguments: Options first, then overrides.
        notes: What is read otherwise than Hydra would, one line each with the command to type.
    """

    arguments: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Setting:
    """What decides how the value of an override is read.

    Args:
        key: Its key.
        kind: A text, a list of texts, another value that is declared, the choice of a group, or unknown: a setting of
            a row of the user's own, or one of Hydra's.
        nullable: Whether it can be null.
        backslashes: Whether a backslash always stands for itself (LaTeX), and is not Hydra's.
    """

    key: str
    kind: Literal["text", "texts", "other", "group", "unknown"]
    nullable: bool = False
    backslashes: bool = False


class _NotRead(Exception):
    """A value that is neither Hydra's nor plainly a text; its argument says why."""


def as_typed(arguments: Sequence[str], folders: Sequence[Path]) -> CommandLine:
    """Read a command line.

    Args:
        arguments: Those after the name of the program.
        folders: Where the choices of groups are looked for.

    Returns:
        What Hydra is to read; read once more it stays as it is, without a note.

    Raises:
        UserError: An option is unknown, or an override is none or could be meant in several ways; the message shows
            how to write it.
        SystemExit: An option has a value that it cannot have.
    """
    from hydra._internal.utils import get_args_parser

    options, unknown = get_args_parser().parse_known_intermixed_args(list(arguments))
    if unknown:
        raise UserError(f"{' '.join(unknown)}: there is no such option; see rlreason --help and rlreason --hydra-help")
    if options.shell_completion:
        return CommandLine(tuple(arguments), ())
    several = options.multirun or "hydra.mode=MULTIRUN" in options.overrides
    rest = list(arguments)
    read: list[str] = []
    notes: list[str] = []
    for number, override in reversed(list(enumerate(options.overrides))):
        del rest[_last(rest, override)]
        before = options.overrides[number - 1] if number else None
        overrides, note = _read(override, before, several, folders)
        read[:0] = overrides
        notes[:0] = note
    return CommandLine((*rest, *read), tuple(notes))


def quoted(text: str) -> str:
    """A text as an override's value: in quotes, whatever it contains; `${...}` stays an interpolation."""
    from hydra.core.override_parser.types import Quote, QuotedString

    if not _interpolates(text):
        text = INTERPOLATION.sub(lambda found: 2 * found.group(1) + r"\${", text)
    with_quotes: str = QuotedString(text, Quote.double).with_quotes()
    return with_quotes


def unquoted(value: str) -> str:
    """The value of an override without the quotes around it, where it has any."""
    parsed = _parsed(f"x={value}") if value[:1] in ("'", '"') else None
    return value if parsed is None or parsed.is_sweep_override() else str(parsed.value())


def _read(override: str, before: str | None, several: bool, folders: Sequence[Path]) -> tuple[list[str], list[str]]:
    """What stands for an override on the command line, and the notes that say so."""
    match = OVERRIDE.fullmatch(override)
    if match is None:
        if override.startswith("~") and _parsed(override) is not None:
            return [override], []
        raise UserError(_no_override(override, before))
    prefix, key, value = match.groups()
    if key == "" or _parsed(f"{prefix}{key}=x") is None:
        if key.strip() and _parsed(f"{prefix.strip()}{key.strip()}=x") is not None:
            better = f"{prefix}{key.strip()}={value.strip()}"
            raise UserError(f"{_line(override)}: no blanks around =; write {shlex.quote(better)}")
        raise UserError(
            f"{_line(override)} is no override: {key!r} is not the name of a setting; write KEY=VALUE, "
            "see rlreason --help"
        )
    if key == "model" and not prefix:
        replaced = _model_of_ones_own(value, several, folders)
        if replaced is not None:
            return replaced, [f"read {shlex.quote(override)} as {shlex.join(replaced)}"]
    if key == TUNED:
        return [f"{prefix}{key}={_tuned(value, several, folders)}"], []
    setting = _setting(key)
    try:
        new = _value(value, setting, several)
    except _NotRead as error:
        raise UserError(f"{_line(override)} cannot be read: {error}") from None
    if new == value:
        return [override], []
    result = f"{prefix}{key}={new}"
    if setting.kind in ("other", "group"):  # the objection to the value says all
        return [result], []
    parsed = None if several else _parsed(override)
    other = "; -m runs each of several values" if parsed is not None and parsed.is_sweep_override() else ""
    return [result], [f"read {_line(override)} as {_line(shlex.quote(result))}{other}"]


def _no_override(text: str, before: str | None) -> str:
    if text in TASKS:
        return f"{text} is neither KEY=VALUE nor an option; did you mean task={text}?"
    if before is not None and "=" in before:
        joined = shlex.quote(f"{before} {text}")
        return f"{_line(text)} is neither KEY=VALUE nor an option; a value with blanks is quoted: {_line(joined)}"
    return f"{_line(text)} is neither KEY=VALUE nor an option; see rlreason --help"


def _model_of_ones_own(value: str, several: bool, folders: Sequence[Path]) -> list[str] | None:
    """The overrides for a model that is a folder or a Hub name instead of a preset; None for a preset.

    Raises:
        UserError: It is one of several values.
    """

    def own(name: str) -> bool:
        if not name or any((folder / "model" / f"{name}.yaml").is_file() for folder in folders):
            return False
        return "/" in name or name.startswith(("~", EMBEDDED)) or Path(name).is_dir()

    if FUNCTION.match(value):
        return None
    names = [unquoted(part) for part in (_split(value) or [value])] if several else [unquoted(value)]
    mine = [name for name in names if own(name)]
    if not mine:
        return None
    paths = [_value(name, Setting("model.path", "text"), False) for name in mine]
    if len(names) > 1:
        meant = shlex.join(["model=local", f"model.path={','.join(paths)}"])
        raise UserError(
            f"model={value}: {' and '.join(mine)} {'is no choice' if len(mine) == 1 else 'are no choices'} of the "
            f"group model; in a sweep of its own, give {meant}"
        )
    return ["model=local", f"model.path={paths[0]}"]


def _tuned(value: str, several: bool, folders: Sequence[Path]) -> str:
    """The file of tuned settings that belongs to the algorithm, for each name of a set of them.

    Raises:
        UserError: There is no set of that name.
    """
    if value.endswith(FOR_ALGORITHM):
        return value
    there = sorted({path.name for folder in folders for path in (folder / TUNED).glob("*") if path.is_dir()})
    read = []
    for name in (_split(value) or [value]) if several else [value]:
        none = NULL.fullmatch(name) or name == "none"
        if not none and unquoted(name) not in there:
            raise UserError(
                f"tuned={name}: no such settings; choose from: {', '.join(['none', *there])}; "
                "what a search has found is used with --config-dir RUNS_DIR/STUDY/conf"
            )
        read.append("none" if none else f"{name}{FOR_ALGORITHM}")
    return ",".join(read)


def _setting(key: str) -> Setting:
    declared: list[Field[Any]] = settings_by_key().get(key, [])
    if not declared:
        return Setting(key, "group" if key in (*GROUPS, "hardware", "experiment") else "unknown")
    kinds = {kind_of(item) for item in declared}
    nullable = any(null for _, null in kinds)
    names: dict[frozenset[str], Literal["text", "texts"]] = {
        frozenset({"str"}): "text",
        frozenset({"list[str]"}): "texts",
    }
    kind = names.get(frozenset(name for name, _ in kinds))
    backslashes = any(item.metadata.get("read") is with_line_breaks for item in declared)
    return Setting(key, kind or "other", nullable, backslashes)


def _value(value: str, setting: Setting, several: bool) -> str:
    """What Hydra is to read as the value of a setting: `value` itself where it reads that as it was typed.

    Raises:
        _NotRead: It could be meant in several ways.
    """
    parsed = _parsed(f"{setting.key}={value}")
    exact = setting.kind in ("text", "texts")
    if parsed is not None and (not exact or FUNCTION.match(value) or (setting.nullable and NULL.fullmatch(value))):
        return value
    if FUNCTION.match(value):
        as_text = f"; as a text: {_shown(setting.key, _quoted_kind(value, setting))}" if setting.kind != "other" else ""
        raise _NotRead(f"Hydra has a function of that name, which does not take these values{as_text}")
    one = _texts if setting.kind == "texts" else _text
    parts = _split(value)
    if parsed is not None and parsed.is_sweep_override():
        if several and parts:
            return _joined(value, ",", [one(part, setting) for part in parts], parts)
        if not several and setting.kind == "text" and not any(part[:1] in ("'", '"') for part in parts or []):
            return quoted(value)
        return value  # Hydra objects to several values without -m
    if several and "," in value and (parts is None or len(parts) > 1):
        lists = all(part.startswith("[") and part.endswith("]") for part in parts or [""])
        if lists and parts and setting.kind in ("texts", "unknown"):
            return _joined(value, ",", [_texts(part, setting) for part in parts], parts)
        raise _NotRead(_with_commas(value, setting, parts or value.split(",")))
    if setting.kind in ("other", "group"):
        return quoted(value)
    if setting.kind == "unknown":
        listed = value.startswith("[") and value.endswith("]")
        if value[:1] in CLOSING and not listed:
            raise _NotRead(f"its brackets do not match; as a text: {_shown(setting.key, quoted(value))}")
        return _texts(value, setting) if listed else _text(value, setting)
    return one(value, setting)


def _text(value: str, setting: Setting) -> str:
    """A text, quoted where Hydra would refuse or change it."""
    parsed = _parsed(f"x={value}")
    if value[:1] in ("'", '"'):
        if parsed is None or parsed.is_sweep_override():
            raise _NotRead(f"its quotes do not match; as a text: {_shown(setting.key, _quoted_kind(value, setting))}")
        return value
    if parsed is not None:
        read = None if parsed.is_sweep_override() else parsed.value()
        escaped = isinstance(read, str) and value == value.strip(BLANKS) and not setting.backslashes
        if (isinstance(read, str) and read == value) or escaped or setting.kind == "unknown":
            return value
    return quoted(value)


def _texts(value: str, setting: Setting) -> str:
    """A list of texts, each quoted where Hydra would refuse or change it."""
    stripped = value.strip(BLANKS)
    parsed = _parsed(f"x={value}")
    if not (stripped.startswith("[") and stripped.endswith("]") and len(stripped) > 1):
        if parsed is not None and not stripped.startswith("["):
            return value
        if stripped.startswith("["):
            raise _NotRead(f"its brackets do not match; as one text: {_shown(setting.key, f'[{quoted(value)}]')}")
        raise _NotRead(f"it is a list; as one text in a list: {_shown(setting.key, f'[{quoted(value)}]')}")
    inner = stripped[1:-1].strip(BLANKS)
    if not inner:
        return value
    parts = _split(inner)
    if parts is None or "" in parts:
        raise _NotRead(
            f"its commas, quotes or brackets do not match; as one text: {_shown(setting.key, f'[{quoted(inner)}]')}"
        )
    element = Setting(setting.key, setting.kind, backslashes=setting.backslashes)
    return "[" + _joined(inner, ",", [_text(part, element) for part in parts], parts) + "]"


def _joined(before: str, comma: str, new: Sequence[str], old: Sequence[str]) -> str:
    return before if list(new) == list(old) else comma.join(new)


def _split(value: str) -> list[str] | None:
    """The parts between the commas of a value, without the blanks around them; None where its quotes do not match.

    A comma within quotes or within a pair of brackets belongs to its part.
    """
    for brackets in BRACKETS:
        parts = _split_outside(value, brackets)
        if parts is not None:
            return parts
    return None


def _split_outside(value: str, brackets: str) -> list[str] | None:
    parts, start, expected, position = [], 0, "", 0
    while position < len(value):
        character = value[position]
        if character in "'\"" and value[start:position].strip(" \t[{(") == "":
            end = _end_of_quote(value, position)
            if end is None:
                return None
            position = end
        elif character == "\\":
            position += 1
        elif character in brackets:
            expected = CLOSING[character] + expected
        elif expected and character == expected[0]:
            expected = expected[1:]
        elif character in (CLOSING[opening] for opening in brackets):
            return None
        elif character == "," and not expected:
            parts.append(value[start:position].strip(BLANKS))
            start = position + 1
        position += 1
    return None if expected else [*parts, value[start:].strip(BLANKS)]


def _end_of_quote(value: str, start: int) -> int | None:
    """Where the quote that begins at `start` ends, by Hydra's rule: at the same character, not escaped."""
    for found in re.finditer(rf"(\\*){value[start]}", value[start + 1 :]):
        if len(found.group(1)) % 2 == 0:
            return start + found.end()
    return None


def _with_commas(value: str, setting: Setting, parts: Sequence[str]) -> str:
    if setting.kind in ("other", "group"):
        return "Hydra's grammar does not allow it; with -m a comma separates values"
    each = ",".join(quoted(part) if _parsed(f"x={part}") is None else part for part in parts)
    return (
        f"with -m a comma separates values; several: {_shown(setting.key, each)}, "
        f"one: {_shown(setting.key, _quoted_kind(value, setting))}"
    )


def _quoted_kind(value: str, setting: Setting) -> str:
    return f"[{quoted(value)}]" if setting.kind == "texts" else quoted(value)


def _parsed(override: str) -> Any:
    """What Hydra reads; None where it refuses."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(override)
    except (HydraException, RecursionError):
        return None


def _interpolates(text: str) -> bool:
    """Whether OmegaConf can read what a text holds of `${...}`."""
    from omegaconf.errors import GrammarParseError
    from omegaconf.grammar_parser import parse

    try:
        parse(text)
    except GrammarParseError:
        return False
    return True


def _shown(key: str, value: str) -> str:
    return _line(shlex.quote(f"{key}={value}"))


def _line(text: str) -> str:
    return text.replace("\n", r"\n")


def _last(arguments: Sequence[str], wanted: str) -> int:
    return len(arguments) - 1 - list(reversed(arguments)).index(wanted)
