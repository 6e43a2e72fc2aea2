"""Readers of files with logits and targets: chunks of rows, in constant memory if the format allows it."""

from __future__ import annotations

import glob
import io
import json
import mmap
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from service.cli.errors import DataError, UsageError
from service.cli.files import READ_ERRORS, extension_of, is_compressed, open_input
from service.cli.score.columns import ColumnNames
from service.cli.score.readers import READERS
from service.formats.columns import Array, ColumnError, ResolvedColumns, matrix, vector
from service.formats.safetensors import as_numbers, read_safetensors

FORMATS = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".npz": "npz",
    ".safetensors": "safetensors",
}
STANDARD_INPUT = "-"
# Maximum size of the logits of a chunk, well below the largest request of a service.
CHUNK_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Source:
    """An input file.

    Args:
        path: A file, or `-` for standard input.
        format: One of the values of FORMATS.
    """

    path: str
    format: str

    @property
    def fingerprint(self) -> list[str | int]:
        """Path, size and modification time of the file."""
        if self.path == STANDARD_INPUT:
            return [self.path]
        status = Path(self.path).stat()
        return [str(Path(self.path).resolve()), status.st_size, status.st_mtime_ns]


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive rows of a file.

    Args:
        source: The file.
        first_row: Position of the first row in the file, from 0.
        logits: (N, C) or (N,).
        targets: (N,) or (N, L).
        ids: One id per row, or None.
        attributes: For each attribute, one value per row.
    """

    source: Source
    first_row: int
    logits: Array
    targets: Array
    ids: list[str | int] | None
    attributes: dict[str, list[Any]] = field(default_factory=dict)


def find_sources(inputs: Sequence[str], input_format: str | None) -> list[Source]:
    """Find the files of names, folders and globs; the files of each folder and glob are sorted.

    Raises:
        UsageError: A name matches no file, or a format is unknown.
    """
    sources = []
    for name in inputs:
        if name == STANDARD_INPUT:
            if input_format is None:
                raise UsageError("standard input has no file extension: use --format")
            sources.append(Source(name, input_format))
            continue
        if Path(name).is_dir():
            paths = sorted(str(path) for path in Path(name).rglob("*") if extension_of(path) in FORMATS)
        else:
            paths = [name] if Path(name).exists() else sorted(glob.glob(name, recursive=True))
        if not paths:
            raise UsageError(f"{name}: no such file, or no file of a known format in this folder")
        sources += [Source(path, input_format or _format_of(path)) for path in paths]
    return sources


def _format_of(path: str) -> str:
    extension = extension_of(path)
    if extension not in FORMATS:
        raise UsageError(f"{path}: unknown extension {extension!r}: use --format, or one of {', '.join(FORMATS)}")
    return FORMATS[extension]


def count_rows(sources: Sequence[Source]) -> int | None:
    """Count the rows of Parquet files by their metadata; None if there are inputs of other formats."""
    total = 0
    for source in sources:
        if source.path == STANDARD_INPUT or source.format != "parquet" or is_compressed(source.path):
            return None
        total += pyarrow.parquet.ParquetFile(source.path).metadata.num_rows
    return total


@dataclass(frozen=True)
class Reading:
    """Options of reading files.

    Args:
        names: Names of the columns.
        rows: Maximum number of rows of a chunk; chunks of wide rows have fewer.
        whole_targets: Targets are classes: convert whole floats to integers.
        keep_missing: Convert missing values to values that are invalid for the loss (NaN, NO_TARGET); otherwise they
            raise an error.
    """

    names: ColumnNames
    rows: int
    whole_targets: bool = True
    keep_missing: bool = False

    def rows_of(self, width: int, itemsize: int) -> int:
        """Number of rows of a chunk.

        Args:
            width: Logits of a row.
            itemsize: Bytes of a logit.
        """
        return min(self.rows, max(1, CHUNK_BYTES // max(1, width * itemsize)))


def read_chunks(source: Source, reading: Reading) -> Iterator[Chunk]:
    """Read the chunks of a source. The same options always give the same chunks; the last chunk is smaller.

    Raises:
        DataError: The file is not of its format, or a value is not a number; names file, row and column.
        UsageError: The file lacks a column.
    """
    try:
        if source.format in ("npz", "safetensors"):
            yield from _array_chunks(source, reading)
        else:
            yield from _table_chunks(source, reading)
    except ColumnError as err:
        raise DataError(f"{source.path}{err.place and ', '}{err.place}: {err.msg}") from err
    except (*READ_ERRORS, BadZipFile, ValueError, KeyError, OverflowError, NotImplementedError, RuntimeError) as err:
        raise DataError(f"{source.path}: {err}") from err


def _open(source: Source) -> BinaryIO:
    is_stream = source.path == STANDARD_INPUT or is_compressed(source.path)
    file = sys.stdin.buffer if source.path == STANDARD_INPUT else open_input(source.path)
    if not is_stream or source.format in ("csv", "jsonl", "arrow"):
        return file
    # The readers of these formats start at the end of the file.
    with file:
        return io.BytesIO(file.read())


def _table_chunks(source: Source, reading: Reading) -> Iterator[Chunk]:
    with _open(source) as file:
        columns, batches = READERS[source.format](file, reading.names, source.path)
        first_row, width = 0, None
        for table in _recut(batches, columns, reading):
            parts = [table.column(name).combine_chunks() for name in columns.logits]
            logits = matrix(parts, columns.logits, first_row, keep_missing=reading.keep_missing)
            targets = vector(
                table.column(columns.targets).combine_chunks(),
                columns.targets,
                first_row,
                whole=reading.whole_targets,
                keep_missing=reading.keep_missing,
            )
            ids = table.column(columns.id).to_pylist() if columns.id else None
            width = logits.shape[1:] if width is None else width
            if logits.shape[1:] != width:
                raise ColumnError(f"{logits.shape[1]} values, row 0 has {width[0]}", first_row, columns.logits[0])
            yield Chunk(source, first_row, logits, targets, ids, _attributes(table, columns, source.format))
            first_row += len(table)


def _attributes(table: pa.Table, columns: ResolvedColumns, file_format: str) -> dict[str, list[Any]]:
    values = {name: table.column(name).to_pylist() for name in columns.attributes}
    if file_format != "jsonl":
        return values
    return {name: [None if text is None else json.loads(text) for text in texts] for name, texts in values.items()}


def _recut(batches: Iterator[pa.RecordBatch], columns: ResolvedColumns, reading: Reading) -> Iterator[pa.Table]:
    """Cut the batches of a file anew, into tables with the same number of rows."""
    pending: list[pa.RecordBatch] = []
    count = rows = 0
    for batch in batches:
        if not len(batch):
            continue
        rows = rows or reading.rows_of(*_width(batch, columns))
        pending.append(batch.select(list(dict.fromkeys(columns.all))))
        count += len(batch)
        if count >= rows:
            table = pa.Table.from_batches(pending)
            for start in range(0, count - rows + 1, rows):
                yield table.slice(start, rows)
            rest = table.slice(count - count % rows)
            pending, count = rest.to_batches(), len(rest)
    if count:
        yield pa.Table.from_batches(pending)


def _width(batch: pa.RecordBatch, columns: ResolvedColumns) -> tuple[int, int]:
    """Number of logits of the first row, and bytes of each logit."""
    kind = batch.schema.field(columns.logits[0]).type
    first = batch.column(columns.logits[0])[0]
    width = len(first) if hasattr(kind, "value_type") and first.is_valid else len(columns.logits)
    value = getattr(kind, "value_type", kind)
    return width, value.bit_width // 8 if pa.types.is_floating(value) or pa.types.is_integer(value) else 8


def _array_chunks(source: Source, reading: Reading) -> Iterator[Chunk]:
    logits, targets, ids, attributes = _arrays(source, reading.names)
    if {len(part) for part in (targets, *([] if ids is None else [ids]), *attributes.values())} != {len(logits)}:
        others = "".join(
            f", {len(part)} {name}" for name, part in ({"ids": ids} | attributes).items() if part is not None
        )
        raise DataError(f"{source.path}: {len(logits)} rows of logits, {len(targets)} targets{others}")
    rows = reading.rows_of(int(np.prod(logits.shape[1:])), as_numbers(logits[:1]).itemsize)
    for start in range(0, len(logits), rows):
        part = slice(start, start + rows)
        chunk_ids = None if ids is None else ids[part].tolist()
        of_rows = {name: values[part].tolist() for name, values in attributes.items()}
        yield Chunk(source, start, as_numbers(logits[part]), targets[part], chunk_ids, of_rows)


def _arrays(source: Source, names: ColumnNames) -> tuple[Array, Array, Array | None, dict[str, Array]]:
    if source.format == "npz":
        with _open(source) as file, np.load(file, allow_pickle=False) as archive:
            columns = names.resolve(archive.files, source.path)
            ids = archive[columns.id] if columns.id else None
            attributes = {name: archive[name] for name in columns.attributes}
            return archive[columns.logits[0]], archive[columns.targets], ids, attributes
    if source.path == STANDARD_INPUT:
        raise UsageError("safetensors is read from a file, not from standard input")
    with open(source.path, "rb") as file:
        # The kernel reads pages when their rows are scored. Private pages: writes do not reach the file.
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    tensors, _ = read_safetensors(content)
    columns = names.resolve(list(tensors), source.path)
    ids = tensors[columns.id] if columns.id else None
    attributes = {name: as_numbers(tensors[name]) for name in columns.attributes}
    return tensors[columns.logits[0]], as_numbers(tensors[columns.targets]), ids, attributes
