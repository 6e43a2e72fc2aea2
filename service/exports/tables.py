"""CSV, JSONL and Parquet: every column of the row, under the names of `ExportRow`.

Attributes differ from row to row, and rows are written as they come: they are one column, a JSON text in CSV and
Parquet and an object in JSONL. Numbers that are not finite stay what they are in CSV and Parquet and are null in JSONL.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from itertools import islice
from operator import attrgetter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from service.exports.json_stream import blocks, dump, lines
from service.exports.rows import ExportOptions, ExportRow

COLUMNS = tuple(field.name for field in fields(ExportRow))
ATTRIBUTES = COLUMNS.index("attributes")
# Fewer than the 65 536 that readers like, since each of them is held with its attributes until its group is written.
ROW_GROUP_ROWS = 16_384
METADATA_KEY = b"focal_loss"

NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
# The characters that make a cell a formula, full-width ones included; OWASP, "CSV Injection".
FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")

_INTEGERS = ("rank", "target", "prediction", "suggested")
_TEXTS = ("id", "given_label", "suggested_label", "strategy", "reason", "attributes", "verdict", "verdict_label")
_NULLABLE = ("suggested", "suggested_label", "suggested_p", "verdict", "verdict_label")
_values = attrgetter(*COLUMNS)


def _type(name: str) -> Any:
    if name in _INTEGERS:
        return pa.int64()
    return pa.string() if name in _TEXTS else pa.float64()


SCHEMA = pa.schema([pa.field(name, _type(name), nullable=name in _NULLABLE) for name in COLUMNS])


def write_jsonl(rows: Iterable[ExportRow], options: ExportOptions) -> Iterator[bytes]:
    """One object a line."""
    return lines(dict(zip(COLUMNS, _values(row), strict=True)) for row in rows)


def write_csv(rows: Iterable[ExportRow], options: ExportOptions) -> Iterator[bytes]:
    """RFC 4180 with a header, UTF-8 without a byte order mark, None as the empty cell.

    A spreadsheet takes a text for a formula that begins with `=`, `+`, `-`, `@`, a tab or a line end, and the texts may
    come from anybody: such a cell gets a leading `'`. Numbers are left alone, `-5` as an id too. A cell that has `'`
    before such a beginning gets one more, so that a reader who takes one `'` from every cell that matches `FORMULA` and
    begins with `'` has the text again. JSONL and Parquet hold every text as it is.
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
        writer.writerow([_cell(value) for value in _with_attributes_text(row)])
        yield text.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, str) and FORMULA.match(value) and not NUMBER.fullmatch(value):
        return "'" + value
    return value


def _with_attributes_text(row: ExportRow) -> list[Any]:
    values = list(_values(row))
    values[ATTRIBUTES] = dump(row.attributes).decode()
    return values


def write_parquet(rows: Iterable[ExportRow], options: ExportOptions) -> Iterator[bytes]:
    """Row groups of at most `ROW_GROUP_ROWS`, sent as they are done; the run is named in the schema's metadata."""
    named = {"run": options.run, "queue": options.queue, "config_id": options.config_id, "epoch": options.epoch}
    schema = SCHEMA.with_metadata({METADATA_KEY: dump(named | {"class_names": options.class_names})})
    sink = _Sink()
    remaining = iter(rows)
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        while group := list(islice(remaining, ROW_GROUP_ROWS)):
            columns = zip(*map(_with_attributes_text, group), strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
            yield from sink.taken()
    yield from sink.taken()


class _Sink(io.RawIOBase):
    """A file that can only be written; what it got is handed on, not kept."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._held.append(bytes(data))
        return len(self._held[-1])

    def taken(self) -> Iterator[bytes]:
        """What was written since the last call."""
        if held := b"".join(self._held):
            yield held
        self._held.clear()
