"""Rows of a user's file with the labels to use: what all formats share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from service.cli.errors import UsageError
from service.cli.relabel.corrections import Correction, Corrections
from service.cli.relabel.labels import Label, labels_to_use
from service.formats.column_names import find_targets
from service.formats.columns import ColumnError
from service.formats.ids import IdError, id_list
from service.formats.labels import ClassNames
from service.formats.part_names import NamesError, find_name

ADDED = ("given_label", "status", "reviewers")
# An added column that the file has already.
PREFIX = "review_"
NAMES_SHOWN = 20


class Columns(NamedTuple):
    """The columns of a file that are read, and the names of the added ones.

    Args:
        id: Column of the ids; None: the number of a row, from 0, is its id.
        label: Column of the labels.
        added: Names of the columns of ADDED.
    """

    id: str | None
    label: str
    added: tuple[str, ...]


@dataclass(frozen=True)
class ColumnOptions:
    """The columns as the user names them; None: found by their usual names.

    Args:
        id: Column of the ids.
        label: Column of the labels.
        number_rows: Use the number of each row as its id.
    """

    id: str | None = None
    label: str | None = None
    number_rows: bool = False

    def find(self, names: Sequence[str]) -> Columns:
        """The columns of a file.

        Raises:
            UsageError: The file lacks a column, or its names are ambiguous.
        """
        listed = ", ".join(map(repr, names[:NAMES_SHOWN])) + (", ..." if len(names) > NAMES_SHOWN else "")
        for name in (self.id, self.label):
            if name is not None and names.count(name) != 1:
                raise UsageError(f"{names.count(name) or 'no'} columns {name!r}; the columns are {listed}")
        try:
            label = self.label or find_targets(names)
            identity = None if self.number_rows else self.id or find_name("ids", names)
        except NamesError as err:
            option = "--id" if err.part == "ids" else "--label"
            raise UsageError(f"name the column with {option}: {err.msg}; the columns are {listed}") from err
        if identity is None and not self.number_rows:
            raise UsageError(f"no column id: name it with --id, or use --number-rows; the columns are {listed}")
        return Columns(identity, label, added_names(names))


def added_names(names: Collection[str]) -> tuple[str, ...]:
    """The names of ADDED, with a prefix if the file has such a column."""
    return tuple(f"{PREFIX}{name}" if name in names else name for name in ADDED)


class Relabelled(NamedTuple):
    """The label to use of a row, None if there is none, and the values of the added columns after the given label."""

    label: Label
    status: str
    reviewers: str


@dataclass
class Relabeller:
    """Finds the label to use of each row of a file.

    Args:
        corrections: The labels of the examples of the run.
        names: Names of the classes; None if they have none.
        ignored: Label of elements without a class to use; None for no label.
        column: Name of the column of the labels, for errors.
        counts: Number of rows by status, of examples of the run.
        num_unknown: Number of rows that are no example of the run.
    """

    corrections: Corrections
    names: ClassNames | None
    ignored: int | None = None
    column: str = "label"
    counts: Counter[str] = field(default_factory=Counter)
    num_unknown: int = 0

    def relabel(self, row: int, identity: object, value: Label) -> Relabelled:
        """The label to use of a row.

        Args:
            row: Number of the row, from 0.
            identity: Its id.
            value: Its label in the file; None or an empty text if it is missing.

        Raises:
            ColumnError: The reviews are about another label than that of the file.
        """
        found = self.corrections.find(_id_text(identity, row))
        if found is None:
            self.num_unknown += 1
            return Relabelled(value, "unreviewed", "")
        self.counts[found.status] += 1
        if found.status != "unreviewed":
            value = self._label(found, value, row)
        return Relabelled(value, found.status, found.reviewers)

    def _label(self, found: Correction, value: Label, row: int) -> Label:
        try:
            return labels_to_use(value, found.given, found.label, self.names, self.ignored)
        except ValueError as err:
            named: object = found.given
            if isinstance(found.given, int) and self.names is not None:
                named = self.names.names[found.given]
            msg = f"{str(value)[:100]!r} is not the label of this example in the run, which is {str(named)[:100]!r}"
            raise ColumnError(msg, row, self.column) from err


def _id_text(value: object, row: int) -> str:
    if isinstance(value, str):
        return value
    try:
        (identity,) = id_list([value])
    except IdError as err:
        raise ColumnError(err.msg, row, "id") from err
    return str(identity)
