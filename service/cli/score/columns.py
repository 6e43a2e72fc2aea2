"""The columns of a file that hold logits, targets and ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service.cli.errors import UsageError
from service.formats.column_names import ResolvedColumns, find_numbers, find_targets
from service.formats.part_names import NamesError, find_name

NAMES_SHOWN = 20


@dataclass(frozen=True)
class ColumnNames:
    """Names of the columns as the user gives them; None: found by their usual names.

    Args:
        logits: A list column, or a column per class in the order of the classes. None: found, or statistics in their
            place.
        targets: The column of the labels.
        id: The column of the ids; None: a file without one is valid.
        attributes: Further columns to read; None: all other columns.
    """

    logits: tuple[str, ...] | None = None
    targets: str | None = None
    id: str | None = None
    attributes: tuple[str, ...] | None = ()

    @classmethod
    def parse(
        cls, logits: str | None, targets: str | None, identity: str | None, attributes: tuple[str, ...] | None = ()
    ) -> ColumnNames:
        """Read the options of a command; `logits` is one name, or several separated by commas."""
        return cls(tuple(logits.split(",")) if logits else None, targets, identity, attributes)

    def resolve(self, names: Sequence[str], where: str) -> ResolvedColumns:
        """Find the columns of a file.

        Args:
            names: All columns of the file.
            where: The file, for messages.

        Raises:
            UsageError: The file lacks a named column, or the names of its columns are ambiguous.
        """
        for name in (*(self.logits or ()), self.targets, self.id, *(self.attributes or ())):
            if name is not None and name not in names:
                raise UsageError(f"{where}: no column {name!r}; the columns are {', '.join(map(repr, names))}")
        try:
            logits, statistics = (self.logits, ()) if self.logits else find_numbers(names)
            targets = self.targets or find_targets(names)
            identity = self.id or find_name("ids", names)
        except NamesError as err:
            option = {"ids": "id"}.get(err.part, err.part)
            listed = ", ".join(map(repr, names[:NAMES_SHOWN])) + (", ..." if len(names) > NAMES_SHOWN else "")
            raise UsageError(
                f"{where}: name the {err.part} with --{option}: {err.msg}; the columns are {listed}"
            ) from err
        used = {*logits, *statistics, targets, identity}
        attributes = names if self.attributes is None else self.attributes
        others = tuple(name for name in attributes if name not in used)
        return ResolvedColumns(logits, targets, identity, others, statistics)
