"""Chunks of the rows of tables: Parquet, Arrow, CSV, JSONL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import pyarrow as pa

from service.cli.score.chunks import Chunk, Reading
from service.cli.score.readers import READERS, array_of_rows, values_of_texts
from service.cli.score.sources import Source
from service.formats.arrow_types import is_list, plain, plain_type
from service.formats.columns import Array, ColumnError, ResolvedColumns, ids_of, ids_of_column, matrix, vector
from service.formats.ids import described


def table_chunks(source: Source, reading: Reading) -> Iterator[Chunk]:
    """Read the chunks of a table.

    Raises:
        ColumnError: A value is invalid.
        Also the errors of the reader of the format.
    """
    with source.open() as file:
        columns, batches = READERS[source.format](file, reading.names, source)
        values: _Values = (_JsonValues if source.format == "jsonl" else _ArrowValues)(columns, reading)
        first_row, width = 0, None
        for table in _recut(batches, columns, reading):
            parts = [_one_array(table.column(name)) for name in columns.logits]
            logits = matrix(parts, columns.logits, first_row, keep_missing=reading.keep_missing)
            width = logits.shape[1:] if width is None else width
            if logits.shape[1:] != width:
                raise ColumnError(f"{logits.shape[1]} values, row 0 has {width[0]}", first_row, columns.logits[0])
            targets = values.targets(table.column(columns.targets), first_row)
            ids = values.ids(table.column(columns.id), columns.id, first_row) if columns.id else None
            attributes = {name: values.attribute(table.column(name)) for name in columns.attributes}
            yield Chunk(source, first_row, logits, targets, ids, attributes)
            first_row += len(table)


class _Values(Protocol):
    """Conversion of the columns other than the logits; each method gets the first row of its column in the file."""

    def targets(self, column: pa.ChunkedArray, first_row: int) -> Array: ...

    def ids(self, column: pa.ChunkedArray, name: str, first_row: int) -> list[str | int]: ...

    def attribute(self, column: pa.ChunkedArray) -> list[Any]: ...


class _ArrowValues:
    """Columns of Parquet, Arrow and CSV, with the types of the file."""

    def __init__(self, columns: ResolvedColumns, reading: Reading) -> None:
        self._name = columns.targets
        self._reading = reading

    def targets(self, column: pa.ChunkedArray, first_row: int) -> Array:
        reading = self._reading
        return vector(
            _one_array(column),
            self._name,
            first_row,
            whole=reading.whole_targets,
            keep_missing=reading.keep_missing,
            class_names=reading.class_names,
        )

    def ids(self, column: pa.ChunkedArray, name: str, first_row: int) -> list[str | int]:
        return ids_of_column(_one_array(column), name, first_row)

    def attribute(self, column: pa.ChunkedArray) -> list[Any]:
        values: list[Any] = column.to_pylist()
        return values


class _JsonValues:
    """Columns of JSONL, each value as JSON text."""

    def __init__(self, columns: ResolvedColumns, reading: Reading) -> None:
        self._name = columns.targets
        self._reading = reading
        self._id_kind: type | None = None

    def targets(self, column: pa.ChunkedArray, first_row: int) -> Array:
        values = self.attribute(column)
        if any(isinstance(value, list) for value in values):
            lists = array_of_rows(values, pa.list_(pa.float64()), self._name, first_row)
            return vector(lists, self._name, first_row, whole=False, keep_missing=self._reading.keep_missing)
        return self._reading.labels(values, self._name, first_row)

    def ids(self, column: pa.ChunkedArray, name: str, first_row: int) -> list[str | int]:
        values = ids_of(self.attribute(column), name, first_row)
        self._id_kind = self._id_kind or type(values[0])
        for row, value in enumerate(values, start=first_row):
            if type(value) is not self._id_kind:
                kind = "an integer" if self._id_kind is int else "a text"
                raise ColumnError(f"{described(value)} is not {kind} like the ids before it", row, name)
        return values

    def attribute(self, column: pa.ChunkedArray) -> list[Any]:
        return values_of_texts(column)


def _recut(batches: Iterator[pa.RecordBatch], columns: ResolvedColumns, reading: Reading) -> Iterator[pa.Table]:
    """Regroup the batches of a file into tables with the same number of rows."""
    pending: list[pa.RecordBatch] = []
    count = rows = 0
    for batch in batches:
        if not len(batch):
            continue
        rows = rows or reading.rows_of(*_width(batch, columns))
        pending.append(batch.select(list(dict.fromkeys(columns.all))))
        count += len(batch)
        if count >= rows:
            table = pa.Table.from_batches(pending)
            for start in range(0, count - rows + 1, rows):
                yield table.slice(start, rows)
            rest = table.slice(count - count % rows)
            pending, count = rest.to_batches(), len(rest)
    if count:
        yield pa.Table.from_batches(pending)


def _width(batch: pa.RecordBatch, columns: ResolvedColumns) -> tuple[int, int]:
    """Number of logits of the first row, and bytes of each logit."""
    column = batch.column(columns.logits[0])
    kind = plain_type(column.type)
    if not is_list(kind):
        return len(columns.logits), _itemsize(kind)
    first = plain(column.slice(0, 1)).to_pylist()[0]
    return len(columns.logits) if first is None else len(first), _itemsize(plain_type(kind.value_type))


def _itemsize(kind: pa.DataType) -> int:
    """Bytes of a logit as a NumPy array has it: all numbers but floats become float64."""
    return kind.bit_width // 8 if pa.types.is_floating(kind) else 8


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    """The column in one array; only a tensor keeps its type, whose shape is checked later."""
    if column.num_chunks == 1:
        return column.chunk(0)
    return column.combine_chunks() if isinstance(column.type, pa.FixedShapeTensorType) else plain(column)
