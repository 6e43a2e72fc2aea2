"""The numbers in the rows of a table: one element a row, or many in nested lists."""

from __future__ import annotations

from typing import Protocol

import pyarrow as pa

from service.cli.errors import DataError, place_in_file
from service.cli.score.chunks import Reading
from service.cli.score.column_values import Values, one_array
from service.cli.score.sources import Source
from service.errors import ShapeError
from service.formats.arrow_types import num_levels
from service.formats.column_names import ResolvedColumns
from service.formats.columns import Array, ColumnError, matrix
from service.formats.nested import nested_columns, nested_labels, nested_logits
from service.schema.request import NO_LOGITS, Batch


class Rows(Protocol):
    """Converts the tables of one file, whose rows have one shape."""

    def batch(self, table: pa.Table, values: Values, first_row: int) -> Batch:
        """The logits or statistics, and the targets, in the rows of a table.

        Args:
            table: The next rows of the file.
            values: Conversion of the targets.
            first_row: Position of its first row in the file.

        Raises:
            ColumnError: A value is invalid, or a row has another shape than those before it; names row and element.
            DataError: A row has another number of elements in its targets than in its logits.
        """
        ...


class PlainRows:
    """Converts the tables of one file of the layout `rows`.

    Args:
        source: The file.
        columns: Its columns.
        reading: Options.
    """

    def __init__(self, source: Source, columns: ResolvedColumns, reading: Reading) -> None:
        self._columns = columns
        self._reading = reading
        self._width: tuple[int, ...] | None = None

    def batch(self, table: pa.Table, values: Values, first_row: int) -> Batch:
        """See `Rows.batch`."""
        columns, logits = self._columns, NO_LOGITS
        if columns.logits:
            logits = self._numbers(table, columns.logits, first_row, keep_missing=self._reading.keep_missing)
            width = logits.shape[1:] if self._width is None else self._width
            if logits.shape[1:] != width:
                raise ColumnError(f"{logits.shape[1]} values, row 0 has {width[0]}", first_row, columns.logits[0])
            self._width = width
        statistics = {name: self._numbers(table, (name,), first_row, keep_missing=True) for name in columns.statistics}
        targets = values.targets(table.column(columns.targets), first_row)
        return Batch(logits, targets, statistics=statistics or None)

    def _numbers(self, table: pa.Table, names: tuple[str, ...], first_row: int, *, keep_missing: bool) -> Array:
        parts = [one_array(table.column(name)) for name in names]
        return matrix(parts, names, first_row, keep_missing=keep_missing)


class NestedRows:
    """Converts the tables of one file, whose rows have logits or statistics of one shape.

    Args:
        source: The file.
        columns: Its columns.
        reading: Options; the layout is `dense` or `ragged`.

    Raises:
        ColumnError: The file has a column for each class.
    """

    def __init__(self, source: Source, columns: ResolvedColumns, reading: Reading) -> None:
        if len(columns.logits) > 1:
            msg = f"the layout {reading.layout} needs one column of lists, not a column for each class"
            raise ColumnError(msg, None, columns.logits[0])
        self._source = source
        self._columns = columns
        self._reading = reading
        self._shapes: dict[str, tuple[int, ...]] = {}

    def batch(self, table: pa.Table, values: Values, first_row: int) -> Batch:
        """See `Rows.batch`."""
        columns, reading = self._columns, self._reading
        arrays = {name: table.column(name) for name in columns.numbers}
        arrays[columns.targets] = values.nested_targets(table.column(columns.targets), first_row)
        try:
            lists, labels = nested_columns(arrays, columns, reading.layout, 0)
            keep_missing = reading.keep_missing or bool(columns.statistics)
            numbers = {name: nested_logits(lists[name], name, keep_missing=keep_missing) for name in columns.numbers}
        except ColumnError as err:
            if err.row is not None:
                err.row += first_row
            raise
        except ShapeError as err:
            raise DataError(f"{self._source.path}{place_in_file(err, first_row)}") from err
        numbers = {name: self._checked(array, name, first_row) for name, array in numbers.items()}
        logits = numbers[columns.logits[0]] if columns.logits else NO_LOGITS
        sent = nested_labels(labels)
        if not len(sent) and not reading.whole_targets and columns.targets not in self._shapes:
            # Sigmoid labels have as many axes as the logits, of which the type of the column tells them.
            axes = num_levels(table.column(columns.numbers[0]).type) - 1
            sent = sent.reshape(0, *[1] * axes)
        sent = self._checked(sent, columns.targets, first_row)
        soft = sent.ndim == logits.ndim > 1
        whole = reading.element_labels(sent, columns.targets, first_row, labels.offsets, soft=soft)
        statistics = {name: numbers[name] for name in columns.statistics}
        return Batch(logits, whole, offsets=labels.offsets, statistics=statistics or None)

    def _checked(self, values: Array, name: str, first_row: int) -> Array:
        """The values, of which a row or element has the shape of those before it; no elements have any shape."""
        shape = self._shapes.get(name, values.shape[1:])
        if not len(values):
            return values.reshape(0, *shape)
        if values.shape[1:] != shape:
            msg = f"shape {list(values.shape[1:])}, in the rows before {list(shape)}"
            raise ColumnError(msg, first_row, name)
        self._shapes[name] = shape
        return values
