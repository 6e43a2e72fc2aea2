"""Rows of table files as objects: CSV as exports and spreadsheets write it, JSONL, JSON and Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from service.formats.columns import ColumnError
from service.formats.csv_dialect import DialectError, read_header, utf8_file
from service.formats.part_names import first_duplicate
from service.formats.spreadsheets import unguard

Row = Mapping[str, object]


def csv_rows(content: bytes, needed: Sequence[Collection[str]]) -> Iterator[Row]:
    """Rows of a CSV file of any dialect as texts; those that begin with the `'` of exports are restored.

    Args:
        content: The file, also as a spreadsheet leaves it, with empty lines and columns at the end.
        needed: Groups of names; the separator is the one with which the first line has a name of each group.

    Raises:
        ColumnError: Not CSV, a name that two columns have, or a row with more values than the header.
    """
    lines = utf8_file(io.BytesIO(content), None)
    try:
        header, dialect = read_header(lines, lambda names: all(set(names) & {*group} for group in needed), None)
        texts = (line.decode() for line in lines)
        yield from _rows(
            csv.reader(texts, delimiter=dialect.separator, skipinitialspace=dialect.spaces, strict=True), header
        )
    except (DialectError, UnicodeDecodeError) as err:
        raise ColumnError(f"{err}: save the file as CSV UTF-8", None, None) from err


def _rows(rows: Iterator[list[str]], header: Sequence[str]) -> Iterator[Row]:
    names = [unguard(name) for name in header]
    doubled = first_duplicate(name for name in names if name)
    if doubled is not None:
        raise ColumnError("two columns have this name", None, doubled)
    number = -1
    try:
        for number, cells in enumerate(rows):
            if any(cells[len(names) :]):
                raise ColumnError(f"{len(cells)} values, the header has {len(names)} names", number, None)
            yield {name: unguard(cell) for name, cell in zip(names, cells, strict=False) if name}
    except csv.Error as err:
        raise ColumnError(str(err), number + 1, None) from err


def json_rows(content: bytes) -> Iterator[Row]:
    """Rows of a JSON list, of the list `rows` of an object such as a queue, or of JSONL.

    Raises:
        ColumnError: Not JSON, or a row that is not an object.
    """
    for number, row in enumerate(_json_values(content)):
        if not isinstance(row, dict):
            raise ColumnError("not a JSON object", number, None)
        yield row


def _json_values(content: bytes) -> Iterator[Any]:
    content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        pass
    else:
        rows = document.get("rows", [document]) if isinstance(document, dict) else document
        yield from rows if isinstance(rows, list) else [rows]
        return
    for number, line in enumerate(line for line in content.splitlines() if line.strip()):
        try:
            yield orjson.loads(line)
        except orjson.JSONDecodeError as err:
            raise ColumnError(f"not JSON: {err}", number, None) from err


def parquet_rows(content: bytes, known: Sequence[str]) -> Iterator[Row]:
    """Rows of a Parquet file, with the known columns.

    Raises:
        ColumnError: Not a Parquet file.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        columns = [name for name in file.schema_arrow.names if name in known]
        for batch in file.iter_batches(columns=columns):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as err:
        raise ColumnError(str(err), None, None) from err
