"""Rows of table files as objects: CSV as exports and spreadsheets write it, JSONL, JSON and Parquet."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from service.formats.columns import ColumnError
from service.formats.spreadsheets import unguard

Row = Mapping[str, object]

DELIMITERS = ",;\t|"
# csv limits a field to 128 KiB by default; a cell may hold all attributes of a row.
MAX_FIELD = 2**31 - 1


def csv_rows(content: bytes, known: Sequence[str]) -> Iterator[Row]:
    """Rows of a CSV file as texts, as spreadsheets leave it: UTF-8 or UTF-16 with a byte order mark, separated by
    commas, semicolons, tabs or bars, with empty lines and columns.

    Texts that begin with the `'` of exports are restored.

    Args:
        content: The file.
        known: Names of columns; of the separators that split the first line into more than one name the one that finds
            most of them is that of the file.

    Raises:
        ColumnError: Not CSV, a name that two columns have, or a row with more values than the header.
    """
    text = _decode(content)
    csv.field_size_limit(MAX_FIELD)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text, known), strict=True)
    try:
        header = [unguard(name.strip()) for name in next(rows, [])]
        for name, count in Counter(header).items():
            if name and count > 1:
                raise ColumnError(f"{count} columns have this name", None, name)
        for number, cells in enumerate(cells for cells in rows if any(cells)):
            if any(cells[len(header) :]):
                raise ColumnError(f"{len(cells)} values, the header has {len(header)} names", number, None)
            yield {name: unguard(cell) for name, cell in zip(header, cells, strict=False) if name}
    except csv.Error as err:
        raise ColumnError(f"line {rows.line_num}: {err}", None, None) from err


def _decode(content: bytes) -> str:
    marked = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        return content.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as err:
        name = "UTF-16" if marked else "UTF-8"
        raise ColumnError(f"byte {err.start} is not {name}: save the file as CSV UTF-8", None, None) from err


def _delimiter(text: str, known: Sequence[str]) -> str:
    line = text.split("\n", 1)[0]

    def num_found(delimiter: str) -> int:
        try:
            names = next(csv.reader([line], delimiter=delimiter), [])
        except csv.Error:
            return 0
        return len({name.strip() for name in names} & {*known})

    return max(DELIMITERS, key=num_found)


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
