"""CSV, JSONL and Parquet, with every member of `ExportRow` as a column but `elements`.

Attributes differ from row to row, and rows are written one after another, so all attributes are in one column: a JSON
text in CSV and Parquet, an object in JSONL; so are the unit and its box. NaN and infinities are unchanged in CSV and
Parquet, and null in JSONL.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from itertools import islice
from operator import attrgetter

import pyarrow as pa
import pyarrow.parquet as pq
from typing_extensions import Buffer

from service.exports.json_stream import blocks, dump, lines
from service.exports.row_verdicts import RowVerdict
from service.exports.rows import ExportOptions, ExportRow
from service.formats.spreadsheets import guard_cell
from service.schema.structure import Task

# Columns of structured examples only, after the id.
UNIT_COLUMNS = ("unit", "unit_name", "num_elements", "box")
COLUMNS = tuple(field.name for field in fields(ExportRow) if field.name not in (*UNIT_COLUMNS, "elements"))
STRUCTURED_COLUMNS = (*COLUMNS[:2], *UNIT_COLUMNS, *COLUMNS[2:])
# Less than the usual 65 536, as all rows of a group with their attributes are in memory until it is written.
ROW_GROUP_ROWS = 16_384
METADATA_KEY = b"focal_loss"

_INTEGERS = ("rank", "target", "prediction", "suggested", "num_elements")
_JSON_TEXTS = ("attributes", "unit", "box")
_TEXTS = ("id", "given_label", "suggested_label", "strategy", "reason", *RowVerdict._fields, "suggestion", "unit_name")
_NULLABLE = ("prediction", "suggested", "suggested_label", *RowVerdict._fields, "suggestion", *UNIT_COLUMNS)
# A whole structured example has no classes.
_NULLABLE_IF_STRUCTURED = ("target", "given_label")


def columns_of(task: Task) -> tuple[str, ...]:
    """Names of the columns of the tables of a run."""
    return COLUMNS if task == "classification" else STRUCTURED_COLUMNS


def _type(name: str) -> pa.DataType:
    if name in _INTEGERS:
        return pa.int64()
    return pa.string() if name in (*_TEXTS, *_JSON_TEXTS) else pa.float64()


def _schema(task: Task) -> pa.Schema:
    nullable = _NULLABLE if task == "classification" else (*_NULLABLE, *_NULLABLE_IF_STRUCTURED)
    kinds = {name: _type(name) for name in columns_of(task)}
    # An infinite score of a queue is None.
    return pa.schema(
        [pa.field(name, kind, nullable=name in nullable or pa.types.is_floating(kind)) for name, kind in kinds.items()]
    )


def write_jsonl(rows: Iterable[ExportRow], options: ExportOptions) -> Iterator[bytes]:
    """One object per line."""
    columns = columns_of(options.task)
    values = attrgetter(*columns)
    return lines(dict(zip(columns, values(row), strict=True)) for row in rows)


def write_csv(rows: Iterable[ExportRow], options: ExportOptions) -> Iterator[bytes]:
    """RFC 4180 with a header, in UTF-8 without a byte order mark; None is an empty cell.

    Texts that a spreadsheet would evaluate as a formula get a leading `'` (see `service.formats.spreadsheets`). JSONL
    and Parquet contain unchanged texts.
    """
    return blocks(_csv_lines(rows, columns_of(options.task)))


def _csv_lines(rows: Iterable[ExportRow], columns: Sequence[str]) -> Iterator[bytes]:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    cells = _cells_of(columns)
    yield text.getvalue().encode()
    for row in rows:
        text.seek(0)
        text.truncate()
        writer.writerow(map(guard_cell, cells(row)))
        yield text.getvalue().encode()


def _cells_of(columns: Sequence[str]) -> Callable[[ExportRow], list[object]]:
    """A function that returns the values of a row, with JSON texts in place of objects and lists."""
    values = attrgetter(*columns)
    places = [columns.index(name) for name in _JSON_TEXTS if name in columns]

    def cells(row: ExportRow) -> list[object]:
        found = list(values(row))
        for place in places:
            # The unit and the box of a whole example are None.
            if found[place] is not None:
                found[place] = dump(found[place]).decode()
        return found

    return cells


def write_parquet(rows: Iterable[ExportRow], options: ExportOptions) -> Iterator[bytes]:
    """Row groups of at most `ROW_GROUP_ROWS`, yielded one by one; the metadata of the schema names the run."""
    metadata = {
        "run": options.run,
        "queue": options.queue,
        "config_id": options.config_id,
        "epoch": options.epoch,
        "class_names": options.class_names,
    }
    schema = _schema(options.task).with_metadata({METADATA_KEY: dump(metadata)})
    cells = _cells_of(schema.names)
    sink = _Sink()
    remaining = iter(rows)
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        while group := list(islice(remaining, ROW_GROUP_ROWS)):
            columns = zip(*map(cells, group), strict=True)
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
