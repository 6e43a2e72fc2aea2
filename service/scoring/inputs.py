"""Files of logits and targets as chunks of rows, in constant memory where the format allows it."""

from __future__ import annotations

import glob
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
from safetensors import SafetensorError, safe_open

from service.scoring.columns import Array, ColumnNames, matrix, vector
from service.scoring.errors import DataError, UsageError

FORMATS = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".npz": "npz",
    ".safetensors": "safetensors",
}
STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Source:
    """One input.

    Args:
        path: A file, or `-` for standard input.
        format: One of the values of FORMATS.
    """

    path: str
    format: str

    @property
    def fingerprint(self) -> list[Any]:
        """What changes when the file does."""
        if self.path == STANDARD_INPUT:
            return [self.path]
        status = Path(self.path).stat()
        return [str(Path(self.path).resolve()), status.st_size, status.st_mtime_ns]


@dataclass(frozen=True, eq=False)
class Chunk:
    """Rows that lie behind each other in one file.

    Args:
        source: Where they are from.
        first_row: Position of the first in its file, from 0.
        logits: (N, C) or (N,).
        targets: (N,) or (N, L).
        ids: One per row, or None.
    """

    source: Source
    first_row: int
    logits: Array
    targets: Array
    ids: list[str | int] | None


def find_sources(inputs: Sequence[str], input_format: str | None) -> list[Source]:
    """The files that names, folders and globs stand for, each in its sorted order.

    Raises:
        UsageError: Nothing is there, or a format is not known.
    """
    sources = []
    for given in inputs:
        if given == STANDARD_INPUT:
            if input_format is None:
                raise UsageError("standard input has no name to tell its format by: give --format")
            sources.append(Source(given, input_format))
            continue
        if Path(given).is_dir():
            paths = sorted(str(path) for path in Path(given).rglob("*") if path.suffix.lower() in FORMATS)
        else:
            paths = [given] if Path(given).exists() else sorted(glob.glob(given, recursive=True))
        if not paths:
            raise UsageError(f"{given}: no such file, and no file of a known format in it")
        sources += [Source(path, input_format or _format_of(path)) for path in paths]
    return sources


def _format_of(path: str) -> str:
    ending = Path(path).suffix.lower()
    if ending not in FORMATS:
        raise UsageError(f"{path}: ending {ending!r} is not known; give --format, or one of {', '.join(FORMATS)}")
    return FORMATS[ending]


def count_rows(sources: Sequence[Source]) -> int | None:
    """How many rows there are, where the formats tell without being read."""
    total = 0
    for source in sources:
        if source.path == STANDARD_INPUT or source.format != "parquet":
            return None
        total += pyarrow.parquet.ParquetFile(source.path).metadata.num_rows
    return total


def read_chunks(source: Source, names: ColumnNames, rows: int) -> Iterator[Chunk]:
    """The rows of a source, `rows` at a time, the last chunk smaller; always cut at the same places.

    Raises:
        DataError: The file is not of its format, or a value is no number; names file, row and column.
        UsageError: The columns are not there.
    """
    try:
        if source.format in ("npz", "safetensors"):
            yield from _array_chunks(source, names, rows)
        else:
            yield from _table_chunks(source, names, rows)
    except (pa.ArrowException, SafetensorError, OSError, ValueError, KeyError) as err:
        raise DataError(f"{source.path}: {err}") from err


def _opened(source: Source) -> BinaryIO:
    if source.path != STANDARD_INPUT:
        return open(source.path, "rb")
    if source.format in ("csv", "jsonl", "arrow"):
        return sys.stdin.buffer
    # These are read from their end.
    return io.BytesIO(sys.stdin.buffer.read())


def _table_chunks(source: Source, names: ColumnNames, rows: int) -> Iterator[Chunk]:
    with _opened(source) as file:
        schema, batches = _record_batches(source, file)
        columns = names.resolve(schema.names, source.path)
        first_row = 0
        for table in _recut(schema, batches, columns.all, rows):
            parts = [table.column(name).combine_chunks() for name in columns.logits]
            logits = matrix(parts, columns.logits, source.path, first_row)
            targets = vector(table.column(columns.targets).combine_chunks(), columns.targets, source.path, first_row)
            ids = table.column(columns.id).to_pylist() if columns.id else None
            yield Chunk(source, first_row, logits, targets, ids)
            first_row += len(table)


def _record_batches(source: Source, file: BinaryIO) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    match source.format:
        case "parquet":
            parquet = pyarrow.parquet.ParquetFile(file)
            return parquet.schema_arrow, parquet.iter_batches()
        case "csv":
            # One thread: only then does an error tell its row.
            options = pyarrow.csv.ReadOptions(use_threads=False)
            csv = pyarrow.csv.open_csv(file, read_options=options)
            return csv.schema, iter(csv)
        case "jsonl":
            jsonl = pyarrow.json.open_json(file)
            return jsonl.schema, iter(jsonl)
        case _:
            return _arrow_batches(file)


def _arrow_batches(file: BinaryIO) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    head = file.read(8)
    rest = _Rejoined(head, file)
    if not head.startswith(b"ARROW1"):
        stream = pa.ipc.open_stream(pa.PythonFile(rest, mode="r"))
        return stream.schema, iter(stream)
    opened = pa.ipc.open_file(file if file.seekable() else io.BytesIO(head + file.read()))
    return opened.schema, (opened.get_batch(number) for number in range(opened.num_record_batches))


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


def _recut(schema: pa.Schema, batches: Iterator[pa.RecordBatch], names: Sequence[str], rows: int) -> Iterator[pa.Table]:
    """Tables of exactly `rows` rows, whatever the batches of the file are."""
    fields = pa.schema([schema.field(name) for name in dict.fromkeys(names)])
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        waiting.append(batch.select(fields.names))
        count += len(batch)
        if count >= rows:
            table = pa.Table.from_batches(waiting)
            for start in range(0, count - rows + 1, rows):
                yield table.slice(start, rows)
            rest = table.slice(count - count % rows)
            waiting, count = rest.to_batches(), len(rest)
    if count:
        yield pa.Table.from_batches(waiting)


def _array_chunks(source: Source, names: ColumnNames, rows: int) -> Iterator[Chunk]:
    arrays = _arrays(source, names)
    logits, targets, ids = arrays
    if len(logits) != len(targets) or (ids is not None and len(ids) != len(logits)):
        raise DataError(f"{source.path}: {len(logits)} rows of logits, {len(targets)} targets")
    for start in range(0, len(logits), rows):
        part = slice(start, start + rows)
        chunk_ids = None if ids is None else ids[part].tolist()
        yield Chunk(source, start, logits[part], targets[part], chunk_ids)


def _arrays(source: Source, names: ColumnNames) -> tuple[Array, Array, Array | None]:
    if source.format == "npz":
        with _opened(source) as file, np.load(file, allow_pickle=False) as archive:
            columns = names.resolve(archive.files, source.path)
            ids = archive[columns.id] if columns.id else None
            return archive[columns.logits[0]], archive[columns.targets], ids
    if source.path == STANDARD_INPUT:
        raise UsageError("safetensors is read from a file, not from standard input")
    with safe_open(source.path, framework="numpy") as tensors:
        columns = names.resolve(list(tensors.keys()), source.path)
        ids = tensors.get_tensor(columns.id) if columns.id else None
        return tensors.get_tensor(columns.logits[0]), tensors.get_tensor(columns.targets), ids
