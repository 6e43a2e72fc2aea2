"""Parquet with other labels: all other columns keep their types and values, and each row group its own."""

from __future__ import annotations

from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from service.cli.relabel.labels import Label
from service.cli.relabel.rows import ColumnOptions, Columns, Relabeller

BLOCK_BYTES = 64 * 1024 * 1024
BLOCK_ROWS = 65_536
READ_BYTES = 1024 * 1024


def relabel_parquet(file: BinaryIO, out: BinaryIO, options: ColumnOptions, relabeller: Relabeller) -> None:
    """Copy a Parquet file with the labels to use and the added columns.

    Raises:
        ColumnError: A row is invalid.
        UsageError: The columns are not found.
        pa.ArrowException: The file is damaged.
    """
    # With pre_buffer pyarrow would hold every row group until the last batch.
    source = pq.ParquetFile(file, pre_buffer=False, buffer_size=READ_BYTES)
    columns = options.find(source.schema_arrow.names)
    relabeller.column = columns.label
    schema = _schema(source.schema_arrow, columns)
    row = 0
    with pq.ParquetWriter(out, schema, compression=_compression(source.metadata)) as writer:
        for group in range(source.num_row_groups):
            size = source.metadata.row_group(group)
            rows = max(1, min(BLOCK_ROWS, BLOCK_BYTES * size.num_rows // max(1, size.total_byte_size)))
            for batch in source.iter_batches(rows, row_groups=[group]):
                writer.write_batch(_relabelled(batch, row, columns, schema, relabeller))
                row += len(batch)


def _schema(schema: pa.Schema, columns: Columns) -> pa.Schema:
    """The schema with nullable labels and the added columns."""
    place = schema.get_field_index(columns.label)
    label = schema.field(place).with_nullable(True)
    schema = schema.set(place, label)
    fields = (label.with_name(columns.added[0]), *(pa.field(name, pa.string()) for name in columns.added[1:]))
    for field in fields:
        schema = schema.append(field)
    return schema


def _compression(metadata: pq.FileMetaData) -> dict[str, str] | str:
    """The compression of each column; of a file without rows the default."""
    if not metadata.num_row_groups:
        return "snappy"
    group = metadata.row_group(0)
    parts = [group.column(number) for number in range(group.num_columns)]
    return {part.path_in_schema: "none" if part.compression == "UNCOMPRESSED" else part.compression for part in parts}


def _relabelled(
    batch: pa.RecordBatch, first: int, columns: Columns, schema: pa.Schema, relabeller: Relabeller
) -> pa.RecordBatch:
    given = batch.column(columns.label)
    values = given.to_pylist()
    ids = range(first, first + len(batch)) if columns.id is None else batch.column(columns.id).to_pylist()
    rows = [
        relabeller.relabel(number, identity, value)
        for number, (identity, value) in enumerate(zip(ids, values, strict=True), start=first)
    ]
    labels = [row.label for row in rows]
    column = given if labels == values else _like(labels, given.type)
    others = [pa.array([getattr(row, name) for row in rows], pa.string()) for name in ("status", "reviewers")]
    arrays = [column if name == columns.label else batch.column(name) for name in batch.schema.names]
    return pa.record_batch([*arrays, given, *others], schema=schema)


def _like(labels: list[Label], kind: pa.DataType) -> pa.Array:
    """The labels in the type of a column, which may be a dictionary."""
    if pa.types.is_dictionary(kind):
        return pa.array(labels, kind.value_type).dictionary_encode().cast(kind)
    return pa.array(labels, kind)
