"""Chunks of the rows of tables: Parquet, Arrow, CSV, JSONL."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from service.cli.score.chunks import Chunk, Reading
from service.cli.score.column_values import ArrowValues, JsonValues, Values
from service.cli.score.readers import READERS
from service.cli.score.sources import Source
from service.cli.score.table_rows import NestedRows, PlainRows, Rows
from service.formats.arrow_types import innermost, innermost_type, is_list, plain
from service.formats.column_names import ResolvedColumns
from service.formats.columns import Array
from service.schema.structure import Layout


def table_chunks(source: Source, reading: Reading) -> Iterator[Chunk]:
    """Read the chunks of a table.

    Raises:
        ColumnError: A value is invalid.
        Also the errors of the reader of the format.
    """
    with source.open() as file:
        columns, batches = READERS[source.format](file, reading.names, source)
        values: Values = (JsonValues if source.format == "jsonl" else ArrowValues)(columns, reading)
        rows: Rows = (PlainRows if reading.layout == "rows" else NestedRows)(source, columns, reading)
        first_row = 0
        for table in _recut(batches, columns, reading):
            batch = rows.batch(table, values, first_row)
            ids = values.ids(table.column(columns.id), columns.id, first_row) if columns.id else None
            attributes = {name: values.attribute(table.column(name)) for name in columns.attributes}
            yield Chunk(
                source, first_row, batch.logits, batch.targets, ids, attributes, batch.offsets, batch.statistics
            )
            first_row += len(table)


def _recut(batches: Iterator[pa.RecordBatch], columns: ResolvedColumns, reading: Reading) -> Iterator[pa.Table]:
    """Regroup the batches of a file into tables of the size of chunks."""
    pending: list[pa.RecordBatch] = []
    count = nbytes = 0
    for batch in batches:
        part = batch.select(list(dict.fromkeys(columns.all)))
        sizes = _row_bytes(part, columns, reading.layout)
        start = 0
        while start < len(sizes):
            fitting = reading.num_fitting(sizes[start:], count, nbytes)
            if fitting:
                pending.append(part.slice(start, fitting))
                count += fitting
                nbytes += int(sizes[start : start + fitting].sum())
                start += fitting
            if start < len(sizes):
                yield pa.Table.from_batches(pending)
                pending, count, nbytes = [], 0, 0
    if count:
        yield pa.Table.from_batches(pending)


def _row_bytes(batch: pa.RecordBatch, columns: ResolvedColumns, layout: Layout) -> Array:
    """(N,) bytes of the logits or statistics of each row, as NumPy arrays have them."""
    sizes = np.zeros(len(batch), np.int64)
    for name in columns.numbers:
        column = batch.column(name)
        kind = innermost_type(column.type)
        # All numbers but floats become float64.
        itemsize = kind.bit_width // 8 if pa.types.is_floating(kind) else 8
        sizes += itemsize * _row_values(plain(column), layout)
    return sizes


def _row_values(column: pa.Array, layout: Layout) -> Array | int:
    """Number of values in the lists of a row: (N,) of ragged rows; the others have as many as the first one."""
    present = column.drop_null()
    if not is_list(column.type) or not len(present):
        return 1
    if layout != "ragged":
        return len(innermost(present.slice(0, 1)))
    lengths: Array = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    lengths *= len(innermost(plain(present.flatten()).slice(0, 1)))
    return lengths
