"""Encodes a table as each kind of file."""

from __future__ import annotations

import csv
import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from service.codecs.base import Reader
from service.codecs.tables.arrow_file import ArrowFileReader
from service.codecs.tables.csv import CsvReader
from service.codecs.tables.parquet import ParquetReader

ARROW, PARQUET, CSV = ArrowFileReader(), ParquetReader(), CsvReader()


def arrow_file(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def arrow_stream(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def parquet_file(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def csv_file(table: pa.Table) -> bytes:
    """Encode with the csv module; a list becomes one column per value."""
    flat: dict[str, list[Any]] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        values = column.to_pylist()
        if name == "logits":
            flat |= {f"logit_{number}": [row[number] for row in values] for number in range(len(values[0]))}
        else:
            flat[name] = values
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(flat)
    writer.writerows(zip(*flat.values(), strict=True))
    return text.getvalue().encode()


def body_of(reader: Reader, table: pa.Table) -> bytes:
    return {ARROW: arrow_file, PARQUET: parquet_file, CSV: csv_file}[reader](table)
