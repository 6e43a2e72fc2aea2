"""Reads files with logits and targets: chunks of rows, in constant memory if the format allows it."""

from __future__ import annotations

from collections.abc import Iterator
from zipfile import BadZipFile

from service.cli.errors import DataError, UsageError
from service.cli.files import READ_ERRORS
from service.cli.score.array_chunks import array_chunks
from service.cli.score.chunks import Chunk, Reading
from service.cli.score.sources import Source
from service.cli.score.table_chunks import table_chunks
from service.formats.columns import ColumnError

# Errors of the readers of damaged files.
DAMAGED = (
    *READ_ERRORS,
    BadZipFile,
    ValueError,
    KeyError,
    OverflowError,
    RuntimeError,
    MemoryError,
)


def read_chunks(source: Source, reading: Reading) -> Iterator[Chunk]:
    """Read the chunks of a source. The same options always give the same chunks; the last chunk is smaller.

    Raises:
        DataError: The file is not of its format, or a value is not a number; names file, row and column.
        UsageError: The file lacks a column, or is CSV and the layout needs lists.
    """
    if source.format == "csv" and reading.layout != "rows":
        msg = f"CSV has no nested lists, which the layout {reading.layout} needs"
        raise UsageError(f"{source.path}: {msg}: use Parquet, Arrow, JSONL, .npz or safetensors")
    try:
        yield from (
            array_chunks(source, reading) if source.format in ("npz", "safetensors") else table_chunks(source, reading)
        )
    except ColumnError as err:
        raise DataError(f"{source.path}{err.place and ', '}{err.place}: {err.msg}") from err
    except DAMAGED as err:
        raise DataError(f"{source.path}: {err or type(err).__name__}") from err
