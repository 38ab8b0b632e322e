"""What the sections of the configuration share: settings that state type, bounds, choices and meaning once."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from inspect import formatannotation
from typing import Any, TypeVar

from rlreason.config.texts import home_expanded
from rlreason.errors import UserError
from rlreason.own import FORMS, names_own

Section = TypeVar("Section", bound="Settings")

BOUNDS: dict[str, tuple[str, Callable[[Any, float], bool]]] = {  # what can be declared of a number
    "at_least": ("of at least", operator.ge),
    "above": ("above", operator.gt),
    "at_most": ("at most", operator.le),
    "below": ("below", operator.lt),
}
TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "list[int]": "a list of whole numbers",
    "list[float]": "a list of numbers",
    "list[str]": "a list of texts",
    "dict[str, Any]": "a mapping",
}


def setting(
    meaning: str,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] = (),
    read: Callable[[str], Any] | None = None,
    own: bool = False,
    choice_of: str | None = None,
) -> Any:
    """A field of a section, with all that `--help` prints and that a value is checked against.

    Args:
        meaning: What the value decides, with its unit.
        at_least: Smallest value.
        above: Bound that every value is larger than.
        at_most: Largest value.
        below: Bound that every value is smaller than.
        choices: The values that a text can have.
        read: Gives what a text means, for one that does not stand for itself, such as a path with `~`; None: it does.
        choice_of: The group whose choices it names, which `read` makes of the name; None: none.
        own: Whether it names, besides, something that the user has written, see `rlreason.own`; by its file, perhaps.
    """
    declared = {"at_least": at_least, "above": above, "at_most": at_most, "below": below}
    bounds = {name: bound for name, bound in declared.items() if bound is not None}
    return field(
        metadata={
            "meaning": meaning,
            "bounds": bounds,
            "choices": choices,
            "read": home_expanded if own else read,
            "own": own,
            "choice_of": choice_of,
        }
    )


def require(condition: bool, message: str) -> None:
    """Raise a UserError with `message` unless `condition` holds."""
    if not condition:
        raise UserError(message)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A section of the configuration; it cannot be made with values outside the bounds that its fields declare.

    Raises:
        UserError: A value is out of its bounds, or does not go together with another one. The message begins with
            the field, or names it after its section.
    """

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            bounds, choices = item.metadata.get("bounds", {}), item.metadata.get("choices", ())
            within = value is None or all(BOUNDS[name][1](value, bound) for name, bound in bounds.items())
            if choices and value is not None and value not in choices:
                within = item.metadata["own"] and names_own(value)
            if not within:
                raise UserError(objection(item, value))
        self.check()

    def check(self) -> None:
        """Refuse values that are each within their bounds and cannot work together."""


def kind_of(item: Field[Any]) -> tuple[str, bool]:
    """The type of a field as it is written, and whether it can be null as well."""
    written = item.type if isinstance(item.type, str) else formatannotation(item.type)
    kind, _, null = written.partition(" | ")
    return kind, bool(null)


def allowed(item: Field[Any]) -> str:
    """The values that a field can have, in words: "a number above 0 and below 1, or null"."""
    kind, null = kind_of(item)
    words = TYPES.get(kind, kind)
    if group := item.metadata.get("choice_of"):
        words = f"the name of a choice of {group}"
    if choices := item.metadata.get("choices"):
        words = f"one of {', '.join(choices)}"
    if item.metadata.get("own"):
        words = f"{words}, or {FORMS}" if choices else (words if kind.startswith("list") else FORMS)
    if bounds := item.metadata.get("bounds"):
        words += " " + " and ".join(f"{BOUNDS[name][0]} {bound:g}" for name, bound in bounds.items())
    return f"{words}, or null" if null else words


def objection(item: Field[Any], value: Any) -> str:
    """Why a field cannot have a value, in one sentence that says what it can have and what it means."""
    shown = "null" if value is None else repr(value)
    return f"{item.name}={shown} must be {allowed(item)} ({item.metadata['meaning']})"


def describe(schema: type[Settings]) -> list[tuple[str, str, str]]:
    """(field, values it can have, meaning) of every field of a section, for `--help`."""
    return [(item.name, allowed(item), item.metadata["meaning"]) for item in fields(schema)]


def as_meant(schema: type[Settings], values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a section with every text that does not stand for itself replaced by what it means.

    Args:
        schema: The section's class.
        values: The value of each of its fields, and of any other key.
        prefix: What stands before the name of a field, such as "model.".

    Raises:
        UserError: A text means nothing; the message begins with the field.
    """
    meant = dict(values)
    for item in fields(schema):
        read, value = item.metadata.get("read"), values.get(item.name)
        if read is None or value is None:
            continue
        try:
            if isinstance(value, str):
                meant[item.name] = read(value)
            elif isinstance(value, list):
                meant[item.name] = [read(text) if isinstance(text, str) else text for text in value]
        except UserError as error:
            raise UserError(f"{prefix}{item.name}={error}") from error
    return meant


def converted(schema: type[Section], values: Mapping[str, Any]) -> Section:
    """Make a section from plain values, such as those that Hydra composed.

    Args:
        schema: The section's class.
        values: The value of every field; a number may be given as text, and a whole number where any number can be.

    Raises:
        UserError: A field is unknown, missing, of another type or out of its bounds; the message begins with it.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    for item in fields(schema):
        value = values.get(item.name)
        if kind_of(item)[0].startswith("dict") and isinstance(value, list | tuple):
            raise UserError(objection(item, value))  # OmegaConf refuses it too, and does not say of which field
    try:
        made: Section = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), values))  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        key = (error.full_key or "").partition("[")[0]
        known = {item.name: item for item in fields(schema)}
        if key not in known:
            raise UserError(f"{key} is unknown; choose from: {', '.join(known)}") from error
        if isinstance(error, MissingMandatoryValue):
            raise UserError(
                f"{key} is missing; give {allowed(known[key])} ({known[key].metadata['meaning']})"
            ) from error
        raise UserError(objection(known[key], values[key])) from error
    return made
