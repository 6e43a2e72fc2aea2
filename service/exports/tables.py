"""CSV, JSONL and Parquet, with every member of `ExportRow` as a column.

Attributes differ from row to row, and rows are written one after another, so all attributes are in one column: a JSON
text in CSV and Parquet, an object in JSONL. NaN and infinities are unchanged in CSV and Parquet, and null in JSONL.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import fields
from itertools import islice
from operator import attrgetter

import pyarrow as pa
import pyarrow.parquet as pq
from typing_extensions import Buffer

from service.exports.json_stream import blocks, dump, lines
from service.exports.rows import ExportOptions, ExportRow
from service.formats.spreadsheets import guard_cell

COLUMNS = tuple(field.name for field in fields(ExportRow))
ATTRIBUTES = COLUMNS.index("attributes")
# Less than the usual 65 536, as all rows of a group with their attributes are in memory until it is written.
ROW_GROUP_ROWS = 16_384
METADATA_KEY = b"focal_loss"

_INTEGERS = ("rank", "target", "prediction", "suggested")
_TEXTS = ("id", "given_label", "suggested_label", "strategy", "reason", "attributes", "verdict", "verdict_label")
_NULLABLE = ("suggested", "suggested_label", "verdict", "verdict_label")
_values = attrgetter(*COLUMNS)


def _type(name: str) -> pa.DataType:
    if name in _INTEGERS:
        return pa.int64()
    return pa.string() if name in _TEXTS else pa.float64()


def _field(name: str) -> pa.Field:
    # An infinite score of a queue is None.
    kind = _type(name)
    return pa.field(name, kind, nullable=name in _NULLABLE or pa.types.is_floating(kind))


SCHEMA = pa.schema([_field(name) for name in COLUMNS])


def write_jsonl(rows: Iterable[ExportRow], options: ExportOptions) -> Iterator[bytes]:
    """One object per line."""
    return lines(dict(zip(COLUMNS, _values(row), strict=True)) for row in rows)


def write_csv(rows: Iterable[ExportRow], options: ExportOptions) -> Iterator[bytes]:
    """RFC 4180 with a header, in UTF-8 without a byte order mark; None is an empty cell.

    Texts that a spreadsheet would evaluate as a formula get a leading `'` (see `service.formats.spreadsheets`). JSONL
    and Parquet contain unchanged texts.
    """
    return blocks(_csv_lines(rows))


def _csv_lines(rows: Iterable[ExportRow]) -> Iterator[bytes]:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    yield text.getvalue().encode()
    for row in rows:
        text.seek(0)
        text.truncate()
        writer.writerow(map(guard_cell, _with_attributes_text(row)))
        yield text.getvalue().encode()


def _with_attributes_text(row: ExportRow) -> list[object]:
    values = list(_values(row))
    values[ATTRIBUTES] = dump(row.attributes).decode()
    return values


def write_parquet(rows: Iterable[ExportRow], options: ExportOptions) -> Iterator[bytes]:
    """Row groups of at most `ROW_GROUP_ROWS`, yielded one by one; the metadata of the schema names the run."""
    metadata = {
        "run": options.run,
        "queue": options.queue,
        "config_id": options.config_id,
        "epoch": options.epoch,
        "class_names": options.class_names,
    }
    schema = SCHEMA.with_metadata({METADATA_KEY: dump(metadata)})
    sink = _Sink()
    remaining = iter(rows)
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        while group := list(islice(remaining, ROW_GROUP_ROWS)):
            columns = zip(*map(_with_attributes_text, group), strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
            yield from sink.drain()
    yield from sink.drain()


class _Sink(io.RawIOBase):
    """Write-only file in memory; `drain` returns and removes its content."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def drain(self) -> Iterator[bytes]:
        """Yield the bytes written since the last call, if any."""
        if content := b"".join(self._parts):
            yield content
        self._parts.clear()
