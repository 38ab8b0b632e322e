"""Choices that state their own facts: tables of rows by name, whose look-up cannot fall through.

A data set, a reward and an algorithm are each one row of a table: a frozen dataclass with every fact that any part of
the program asks for. A row from outside the package is named in a configuration file by `row: package.module.NAME`, and
registered when that configuration is composed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

from rlreason.errors import UserError
from rlreason.own import imported


class HasSettings(Protocol):
    """What every row has, whatever it is of."""

    @property
    def settings(self) -> type:
        """The dataclass of its section of the configuration."""


Row = TypeVar("Row", bound=HasSettings)


class Table(Mapping[str, Row], Generic[Row]):
    """Rows by name.

    Args:
        group: The configuration group that chooses among them, such as "algo".
        kind: The dataclass of the rows.
        settings: What the dataclass of the section, a row's `settings`, must extend.
        rows: Those of the package.
    """

    def __init__(self, group: str, kind: type[Row], settings: type, rows: Mapping[str, Row]) -> None:
        self.group = group
        self.kind = kind
        self.settings = settings
        self.rows = dict(rows)

    def __getitem__(self, name: str) -> Row:
        """The row of a name.

        Raises:
            UserError: Nobody has declared it.
        """
        if name not in self.rows:
            raise UserError(
                f"{self.group}={name} is not declared; choose from: {', '.join(self.rows)}, or name a row of your own "
                f"in its configuration file: row: PACKAGE.MODULE.NAME"
            )
        return self.rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def standard(self) -> str:
        """The name of the first row, for where the choice makes no difference."""
        return next(iter(self.rows))

    def of(self, section: Mapping[str, Any]) -> Row:
        """The row that a section of a composed configuration chooses, registered first if it comes from outside.

        Args:
            section: With `name`, and for a row from outside with `row`, where to import it from.

        Raises:
            UserError: There is no such row, it lacks a fact, or its name is taken.
        """
        path = section.get("row")
        if path is not None:
            key = f"{self.group}.row"
            try:
                row = imported(key, str(path)).value
            except UserError as error:
                if not isinstance(error.__cause__, TypeError):
                    raise
                # A dataclass names the fields that a row leaves out.
                raise UserError(f"{key}={path} is not a whole row: {error.__cause__}") from error
            self.register(str(section["name"]), row)
        return self[str(section.get("name"))]

    def register(self, name: str, row: Any) -> None:
        """Add a row.

        Raises:
            UserError: It is no row of this table, or another one has its name.
        """
        if not isinstance(row, self.kind):
            raise UserError(f"{self.group}={name}: its row is of type {type(row).__name__}, not {self.kind.__name__}")
        if not (isinstance(row.settings, type) and issubclass(row.settings, self.settings)):
            raise UserError(f"{self.group}={name}: the settings of its row must extend {self.settings.__name__}")
        if self.rows.setdefault(name, row) != row:
            raise UserError(f"{self.group}={name} is declared already; give the row another name")
