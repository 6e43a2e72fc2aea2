"""Files as Arrow record batches of the columns that are wanted, in constant memory."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Collection, Iterator
from typing import Any, BinaryIO, cast

import orjson
import pyarrow as pa
import pyarrow.parquet

from service.cli.errors import DataError
from service.cli.score.columns import ColumnNames
from service.formats.columns import ResolvedColumns
from service.formats.csv_rows import csv_rows, header_of

Batches = Iterator[pa.RecordBatch]
Reader = Callable[[BinaryIO, ColumnNames, str], tuple[ResolvedColumns, Batches]]

BLOCK_BYTES = 8 * 1024 * 1024
BLOCK_ROWS = 16_384
READ_BYTES = 1024 * 1024


def read_parquet(file: BinaryIO, names: ColumnNames, where: str) -> tuple[ResolvedColumns, Batches]:
    """Only the columns that are wanted, about BLOCK_BYTES at a time."""
    # Read ahead, pyarrow would hold every row group that it has read until the last batch.
    parquet = pyarrow.parquet.ParquetFile(file, pre_buffer=False, buffer_size=READ_BYTES)
    columns = names.resolve(parquet.schema_arrow.names, where)
    metadata = parquet.metadata
    nbytes = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    rows = min(BLOCK_ROWS, max(1, BLOCK_BYTES * metadata.num_rows // max(1, nbytes)))
    return columns, parquet.iter_batches(batch_size=rows, columns=columns.all)


def read_arrow(file: BinaryIO, names: ColumnNames, where: str) -> tuple[ResolvedColumns, Batches]:
    """An IPC stream or file, told apart by how it begins."""
    head = file.read(8)
    if head.startswith(b"ARROW1"):
        opened = pa.ipc.open_file(file if file.seekable() else io.BytesIO(head + file.read()))
        batches = (opened.get_batch(number) for number in range(opened.num_record_batches))
        return names.resolve(opened.schema.names, where), batches
    stream = pa.ipc.open_stream(pa.PythonFile(_Rejoined(head, file), mode="r"))
    return names.resolve(stream.schema.names, where), iter(stream)


def read_csv(file: BinaryIO, names: ColumnNames, where: str) -> tuple[ResolvedColumns, Batches]:
    """Numbers as float64, all else as text."""
    head = file.readline()
    header = header_of(head)
    columns = names.resolve(header, where)
    return columns, csv_rows(cast(BinaryIO, _Rejoined(head, file)), header, columns)


def read_jsonl(file: BinaryIO, names: ColumnNames, where: str) -> tuple[ResolvedColumns, Batches]:
    """Line by line: pyarrow's reader takes ids that look like a date for one, and knows rows by their block only.

    An attribute is whatever JSON it is, and its column the text of that.
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
    """Each row and the bytes of its line; a truth value becomes text, since Arrow would take it for a number."""
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
        return [_without_booleans(one) for one in value]
    return json.dumps(value) if isinstance(value, bool) else value


def _with_nan(line: bytes, where: str, number: int) -> Any:
    """Python writes NaN and Infinity into JSON, which has neither; the loss names them."""
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
        # Targets are integers in one file and lists of numbers in another; a chunk has one type.
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
    """The first value that is not of the column's type."""
    for row, value in enumerate(values, start=start):
        try:
            pa.array([value], kind)
        except (pa.ArrowException, OverflowError):
            spelled = json.dumps(value)[:100]
            return DataError(f"{where}, row {row}, column {name!r}: {spelled} is not {_wanted(kind)}")
    raise AssertionError(f"{where}: each value of {name!r} alone is of type {kind}")


def _wanted(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return "a list of numbers"
    return {pa.int64(): "an integer, as the ids before it", pa.string(): "text, as the ids before it"}.get(
        kind, "a number"
    )


class _Rejoined:
    """A file whose first bytes have been read already."""

    def __init__(self, head: bytes, file: BinaryIO) -> None:
        self._head = head
        self._file = file
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        taken, self._head = (self._head, b"") if size < 0 else (self._head[:size], self._head[size:])
        return taken + self._file.read(size - len(taken) if size >= 0 else -1)

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


READERS: dict[str, Reader] = {"parquet": read_parquet, "arrow": read_arrow, "csv": read_csv, "jsonl": read_jsonl}
