"""Readers of table files: Arrow record batches of the needed columns, in constant memory."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, BinaryIO

import orjson
import pyarrow as pa
import pyarrow.parquet

from service.cli.errors import DataError, UsageError
from service.cli.score.columns import ColumnNames
from service.formats.columns import ResolvedColumns
from service.formats.csv_rows import csv_rows, open_csv

Batches = Iterator[pa.RecordBatch]
Reader = Callable[[BinaryIO, ColumnNames, str], tuple[ResolvedColumns, Batches]]

BLOCK_BYTES = 8 * 1024 * 1024
BLOCK_ROWS = 16_384
READ_BYTES = 1024 * 1024


def read_parquet(file: BinaryIO, names: ColumnNames, where: str) -> tuple[ResolvedColumns, Batches]:
    """Read a Parquet file, about BLOCK_BYTES at a time."""
    # With pre_buffer pyarrow would hold every row group until the last batch.
    parquet = pyarrow.parquet.ParquetFile(file, pre_buffer=False, buffer_size=READ_BYTES)
    columns = names.resolve(parquet.schema_arrow.names, where)
    metadata = parquet.metadata
    nbytes = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    rows = min(BLOCK_ROWS, max(1, BLOCK_BYTES * metadata.num_rows // max(1, nbytes)))
    return columns, parquet.iter_batches(batch_size=rows, columns=columns.all)


def read_arrow(file: BinaryIO, names: ColumnNames, where: str) -> tuple[ResolvedColumns, Batches]:
    """Read an Arrow IPC stream or file; the first bytes decide."""
    start = file.read(8)
    if start.startswith(b"ARROW1"):
        reader = pa.ipc.open_file(file if file.seekable() else io.BytesIO(start + file.read()))
        batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
        return names.resolve(reader.schema.names, where), batches
    stream = pa.ipc.open_stream(pa.PythonFile(_RejoinedFile(start, file), mode="r"))
    return names.resolve(stream.schema.names, where), iter(stream)


def read_csv(file: BinaryIO, names: ColumnNames, where: str) -> tuple[ResolvedColumns, Batches]:
    """Read a CSV file: numbers as float64, labels, ids and attributes as text."""

    def fits(header: Sequence[str]) -> bool:
        try:
            names.resolve(header, where)
        except UsageError:
            return False
        return True

    csv = open_csv(file, fits)
    columns = names.resolve(csv.header, where)
    return columns, csv_rows(csv, columns)


def read_jsonl(file: BinaryIO, names: ColumnNames, where: str) -> tuple[ResolvedColumns, Batches]:
    """Read a JSONL file line by line; the column of an attribute has JSON texts.

    pyarrow's reader would convert ids that look like dates, and its errors do not name the row of the file.
    """
    rows = _json_rows(file, where, names)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{where}: no rows")
    columns = names.resolve(list(first[0]), where)
    types = {name: _number_type(first[0][name]) for name in columns.logits}
    if columns.id:
        types[columns.id] = pa.int64() if type(first[0][columns.id]) is int else pa.string()

    def batches() -> Batches:
        block, nbytes, start = [first[0]], first[1], 0
        for row, size in rows:
            if nbytes + size > BLOCK_BYTES or len(block) >= BLOCK_ROWS:
                yield _json_batch(block, columns, types, where, start)
                start += len(block)
                block, nbytes = [], 0
            block.append(row)
            nbytes += size
        yield _json_batch(block, columns, types, where, start)

    return columns, batches()


def _json_rows(file: BinaryIO, where: str, names: ColumnNames) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield each row with the size of its line. Booleans become text: Arrow would convert them to numbers."""
    as_is: Collection[str] = ()
    number = 0
    for line in file:
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            row = _with_nan(line, where, number)
        if not isinstance(row, dict):
            raise DataError(f"{where}, row {number}: not a JSON object")
        if not number and names.attributes != ():
            as_is = names.resolve(list(row), where).attributes
        if _may_hold_booleans(line):
            row = {name: row[name] if name in as_is else _without_booleans(row[name]) for name in row}
        yield row, len(line)
        number += 1


def _may_hold_booleans(line: bytes) -> bool:
    return b"true" in line or b"false" in line


def _without_booleans(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_booleans(item) for item in value]
    return json.dumps(value) if isinstance(value, bool) else value


def _with_nan(line: bytes, where: str, number: int) -> Any:
    """Parse a line with NaN or Infinity, which Python writes into JSON. The loss names such values in its errors."""
    try:
        return json.loads(line)
    except ValueError as err:
        raise DataError(f"{where}, row {number}: not JSON: {err}") from err


def _number_type(value: Any) -> pa.DataType:
    return pa.list_(pa.float64()) if isinstance(value, list) else pa.float64()


def _json_batch(
    block: list[dict[str, Any]], columns: ResolvedColumns, types: dict[str, pa.DataType], where: str, start: int
) -> pa.RecordBatch:
    arrays = {}
    for name in columns.all:
        values = [row.get(name) for row in block]
        if name in columns.attributes:
            arrays[name] = pa.array([None if value is None else json.dumps(value) for value in values], pa.string())
            continue
        # Targets are numbers in some files and lists of numbers in others; a chunk has one type.
        kind = types.get(name)
        try:
            arrays[name] = pa.array(values, kind or _target_type(values))
        except (pa.ArrowException, OverflowError) as err:
            raise _json_error(values, name, kind or _target_type(values), where, start) from err
    return pa.record_batch(arrays)


def _target_type(values: list[Any]) -> pa.DataType:
    nested = any(isinstance(value, list) for value in values)
    return pa.list_(pa.float64()) if nested else pa.float64()


def _json_error(values: list[Any], name: str, kind: pa.DataType, where: str, start: int) -> DataError:
    """The error about the first value that is not of the column's type."""
    for row, value in enumerate(values, start=start):
        try:
            pa.array([value], kind)
        except (pa.ArrowException, OverflowError):
            spelled = json.dumps(value)[:100]
            return DataError(f"{where}, row {row}, column {name!r}: {spelled} is not {_expected(kind)}")
    raise AssertionError(f"{where}: each value of {name!r} alone is of type {kind}")


def _expected(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return "a list of numbers"
    return {pa.int64(): "an integer like the ids before it", pa.string(): "text like the ids before it"}.get(
        kind, "a number"
    )


class _RejoinedFile:
    """A file whose first bytes were read before.

    Args:
        start: These bytes.
        file: The file after them.
    """

    def __init__(self, start: bytes, file: BinaryIO) -> None:
        self._start = start
        self._file = file
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        content, self._start = (self._start, b"") if size < 0 else (self._start[:size], self._start[size:])
        return content + self._file.read(size - len(content) if size >= 0 else -1)

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


READERS: dict[str, Reader] = {"parquet": read_parquet, "arrow": read_arrow, "csv": read_csv, "jsonl": read_jsonl}
