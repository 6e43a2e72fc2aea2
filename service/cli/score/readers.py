"""Readers of table files: Arrow record batches of the needed columns, in constant memory."""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet

from service.cli.errors import DataError, UsageError
from service.cli.score.columns import ColumnNames
from service.cli.score.sources import Source
from service.formats.arrays import MAX_DIMENSIONS
from service.formats.arrow_types import in_lists, num_levels
from service.formats.column_names import ResolvedColumns
from service.formats.columns import ColumnError
from service.formats.csv_dialect import DialectError
from service.formats.csv_rows import csv_rows, open_csv

Batches = Iterator[pa.RecordBatch]
Reader = Callable[[BinaryIO, ColumnNames, Source], tuple[ResolvedColumns, Batches]]

BLOCK_BYTES = 8 * 1024 * 1024
BLOCK_ROWS = 16_384
READ_BYTES = 1024 * 1024


def read_parquet(file: BinaryIO, names: ColumnNames, source: Source) -> tuple[ResolvedColumns, Batches]:
    """Read a Parquet file, about BLOCK_BYTES at a time."""
    # With pre_buffer pyarrow would hold every row group until the last batch.
    parquet = pyarrow.parquet.ParquetFile(file, pre_buffer=False, buffer_size=READ_BYTES)
    columns = names.resolve(parquet.schema_arrow.names, source.path)
    metadata = parquet.metadata
    nbytes = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    rows = min(BLOCK_ROWS, max(1, BLOCK_BYTES * metadata.num_rows // max(1, nbytes)))
    return columns, parquet.iter_batches(batch_size=rows, columns=columns.all)


def read_arrow(file: BinaryIO, names: ColumnNames, source: Source) -> tuple[ResolvedColumns, Batches]:
    """Read an Arrow IPC stream or file; the first bytes decide."""
    start = file.read(8)
    if start.startswith(b"ARROW1"):
        reader = pa.ipc.open_file(file if file.seekable() else io.BytesIO(start + file.read()))
        columns = names.resolve(reader.schema.names, source.path)
        return columns, _valid(map(reader.get_batch, range(reader.num_record_batches)), columns)
    stream = pa.ipc.open_stream(pa.PythonFile(_RejoinedFile(start, file), mode="r"))
    columns = names.resolve(stream.schema.names, source.path)
    return columns, _valid(iter(stream), columns)


def _valid(batches: Batches, columns: ResolvedColumns) -> Batches:
    """The columns of each batch, checked: the offsets of a damaged file may point anywhere in memory."""
    selected = list(dict.fromkeys(columns.all))
    for batch in batches:
        part = batch.select(selected)
        part.validate(full=True)
        yield part


def read_csv(file: BinaryIO, names: ColumnNames, source: Source) -> tuple[ResolvedColumns, Batches]:
    """Read a CSV file: numbers as float64, labels, ids and attributes as text."""

    def fits(header: Sequence[str]) -> bool:
        try:
            names.resolve(header, source.path)
        except UsageError:
            return False
        return True

    try:
        csv = open_csv(file, fits, encoding=source.encoding, separator=source.separator)
    except DialectError as err:
        raise DataError(f"{source.path}: {err} (--separator, --encoding)") from err
    columns = names.resolve(csv.header, source.path)
    return columns, csv_rows(csv, columns)


def read_jsonl(file: BinaryIO, names: ColumnNames, source: Source) -> tuple[ResolvedColumns, Batches]:
    """Read a JSONL file line by line; all columns but logits and statistics hold JSON texts. A JSON list is read whole.

    pyarrow's reader would convert ids that look like dates, and its errors do not name the row of the file.
    """
    rows = _json_rows(file, source.path)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{source.path}: no rows")
    columns = names.resolve(list(first.value), source.path)
    kinds: dict[str, pa.DataType] = {}

    def batches() -> Batches:
        block, nbytes, start = [first], first.nbytes, 0
        for row in rows:
            if nbytes + row.nbytes > BLOCK_BYTES or len(block) >= BLOCK_ROWS:
                yield _json_batch(block, columns, kinds, start)
                start += len(block)
                block, nbytes = [], 0
            block.append(row)
            nbytes += row.nbytes
        yield _json_batch(block, columns, kinds, start)

    return columns, batches()


class _JsonRow(NamedTuple):
    """A row, the size of its text, and False if it certainly has no booleans."""

    value: Any
    nbytes: int
    may_have_booleans: bool


def _json_rows(file: BinaryIO, where: str) -> Iterator[_JsonRow]:
    for number, row in enumerate(_json_values(file, where)):
        if not isinstance(row.value, dict):
            raise DataError(f"{where}, row {number}: not a JSON object")
        yield row


def _json_values(file: BinaryIO, where: str) -> Iterator[_JsonRow]:
    number = 0
    for line in file:
        text = line.strip() if number else line.removeprefix(codecs.BOM_UTF8).strip()
        if not text:
            continue
        if not number and text.startswith(b"["):
            text += file.read()
            rows = _parse_json(text, where)
            yield from (_JsonRow(row, len(text) // len(rows), may_have_booleans=True) for row in rows)
            return
        yield _JsonRow(_parse_json(text, f"{where}, row {number}"), len(line), b"true" in line or b"false" in line)
        number += 1


def _parse_json(text: bytes, where: str) -> Any:
    """Parse a text that may have NaN or Infinity, which Python writes into JSON. The loss names them in its errors."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as err:
            raise DataError(f"{where}: not JSON: {err}") from err


def _number_type(values: Iterable[Any]) -> pa.DataType:
    """float64, in as many lists as the first value that is not empty."""
    levels = next((levels for levels in map(_levels, values) if levels is not None), 1)
    return in_lists(pa.float64(), min(levels, MAX_DIMENSIONS))


def _levels(value: Any) -> int | None:
    """The number of lists in each other around the first number; None without a number."""
    if not isinstance(value, list):
        return 0
    inside = _levels(value[0]) if value else None
    return None if inside is None else inside + 1


def _json_batch(
    block: list[_JsonRow], columns: ResolvedColumns, kinds: dict[str, pa.DataType], start: int
) -> pa.RecordBatch:
    for name in columns.numbers:
        if name not in kinds:
            kinds[name] = _number_type(row.value.get(name) for row in block)
    arrays = {}
    may_have_booleans = any(row.may_have_booleans for row in block)
    for name in dict.fromkeys(columns.all):
        values = [row.value.get(name) for row in block]
        if name in kinds:
            arrays[name] = array_of_rows(values, kinds[name], name, start, may_have_booleans=may_have_booleans)
        else:
            arrays[name] = pa.array(map(_json_text, values), pa.string())
    return pa.record_batch(arrays)


def _json_text(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # an integer of more than 64 bits
        return json.dumps(value)


def values_of_texts(texts: pa.ChunkedArray) -> list[Any]:
    """The values of a column of JSON texts."""
    values: list[Any] = orjson.loads(f"[{','.join(texts.to_pylist())}]")
    return values


def array_of_rows(
    values: Sequence[Any], kind: pa.DataType, name: str, first_row: int, *, may_have_booleans: bool = True
) -> pa.Array:
    """Numbers, or lists of numbers, as an Arrow array.

    Args:
        values: Values as JSON has them.
        kind: float64, or a list of it.
        name: Name of the column.
        first_row: Row of the first value in the file.
        may_have_booleans: False if there are certainly none, which saves their search.

    Raises:
        ColumnError: A value has another type; names its row.
    """
    try:
        if not may_have_booleans or not any(map(_has_boolean, values)):
            return pa.array(values, kind)
    except (pa.ArrowException, OverflowError):
        pass
    row = next(row for row, value in enumerate(values) if not _is_number(value, kind))
    expected = {0: "a number", 1: "a list of numbers"}.get(num_levels(kind), "nested lists of numbers like the others")
    raise ColumnError(f"{json.dumps(values[row])[:100]} is not {expected}", first_row + row, name)


def nested_array(values: Sequence[Any], name: str, first_row: int) -> pa.Array:
    """Labels in nested lists as an Arrow array; all numbers, all texts or all booleans.

    Args:
        values: Values as JSON has them.
        name: Name of the column.
        first_row: Row of the first value in the file.

    Raises:
        ColumnError: The values have several types; names the row if it has several.
    """
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        pass
    for row, value in enumerate(values, start=first_row):
        try:
            pa.array([value])
        except (pa.ArrowException, OverflowError) as err:
            raise ColumnError(f"labels of a file are all numbers, all texts or all booleans: {err}", row, name) from err
    raise ColumnError("labels of a file are all numbers, all texts or all booleans", None, name)


def _has_boolean(value: Any) -> bool:
    """True for booleans, which Arrow would convert to numbers."""
    return any(map(_has_boolean, value)) if isinstance(value, list) else isinstance(value, bool)


def _is_number(value: Any, kind: pa.DataType) -> bool:
    try:
        pa.array([value], kind)
    except (pa.ArrowException, OverflowError):
        return False
    return not _has_boolean(value)


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
