"""The columns of a file that hold logits, targets and ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service.cli.errors import UsageError
from service.formats.columns import TARGET_NAMES, ResolvedColumns, guess_id, guess_logits, guess_targets


@dataclass(frozen=True)
class ColumnNames:
    """Names of the columns as the user gives them; None: found by their usual names.

    Args:
        logits: A list column, or a column per class in the order of the classes.
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
        logits = self.logits or _logits(names, where)
        targets = self.targets or _targets(names, where)
        identity = self.id or guess_id(names)
        used = {*logits, targets, identity}
        attributes = names if self.attributes is None else self.attributes
        return ResolvedColumns(logits, targets, identity, tuple(name for name in attributes if name not in used))


def _logits(names: Sequence[str], where: str) -> tuple[str, ...]:
    columns = guess_logits(names)
    if not columns:
        raise UsageError(
            f"{where}: name the logits with --logits: no column 'logits' and no logit_0, logit_1, ... among "
            f"{', '.join(map(repr, names))}"
        )
    return columns


def _targets(names: Sequence[str], where: str) -> str:
    columns = guess_targets(names)
    if len(columns) == 1:
        return columns[0]
    fault = (
        f"columns {columns[0]!r} and {columns[1]!r} are both candidates"
        if columns
        else f"no column {', '.join(TARGET_NAMES)}"
    )
    raise UsageError(f"{where}: name the targets with --targets: {fault}")
