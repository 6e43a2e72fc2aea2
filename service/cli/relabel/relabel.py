"""Writes a file again with the labels to use; the new file appears when it is complete."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from service.cli.errors import DataError, UsageError
from service.cli.files import READ_ERRORS, extension_of, open_input
from service.cli.relabel.csv_file import relabel_csv
from service.cli.relabel.jsonl_file import relabel_jsonl
from service.cli.relabel.parquet_file import relabel_parquet
from service.cli.relabel.rows import ColumnOptions, Relabeller
from service.formats.columns import ColumnError
from service.formats.csv_dialect import DialectError, encoding_of, separator_of

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}


def format_of(like: Path, output: Path) -> str:
    """The format of a file that is written again.

    Raises:
        UsageError: The extension is unknown, or that of the output is of another format.
    """
    known = FORMATS.get(extension_of(like))
    if known is None:
        raise UsageError(f"{like}: unknown extension: --like takes {', '.join(FORMATS)}, also compressed")
    if FORMATS.get(extension_of(output)) != known:
        raise UsageError(f"{output}: --like writes the format of {like} again, {known}")
    return known


def relabel_file(
    like: Path,
    output: Path,
    options: ColumnOptions,
    relabeller: Relabeller,
    *,
    separator: str | None = None,
    encoding: str | None = None,
) -> None:
    """Write a file again with the labels to use.

    Args:
        like: The file; compressed if its extension says so.
        output: The new file, which may be the same.
        options: Names of the columns.
        relabeller: Finds the labels.
        separator: Separator of a CSV file: its name or the character; None: by the header line.
        encoding: Encoding of a CSV file; None: by the byte order mark, else UTF-8.

    Raises:
        UsageError: The file or its columns are not found, or separator or encoding are unknown.
        DataError: A value is invalid; the message names file, row and column.
    """
    kind = format_of(like, output)
    try:
        separator = separator and separator_of(separator)
        encoding = encoding and encoding_of(encoding)
    except DialectError as err:
        raise UsageError(str(err)) from err
    with _replaced(output) as out:
        try:
            with open_input(like) as file:
                if kind == "csv":
                    relabel_csv(file, out, options, relabeller, separator=separator, encoding=encoding)
                else:
                    (relabel_jsonl if kind == "jsonl" else relabel_parquet)(file, out, options, relabeller)
        except UsageError as err:
            raise UsageError(f"{like}: {err}") from err
        except ColumnError as err:
            raise DataError(f"{like}{err.place and ', '}{err.place}: {err.msg}") from err
        except (*READ_ERRORS, DialectError, UnicodeError) as err:
            raise (DataError if like.is_file() else UsageError)(f"{like}: {err}") from err


@contextmanager
def _replaced(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes a path at the end, and is deleted at an error."""
    new = path.with_name(f".{path.name[:100]}-{os.getpid()}")
    try:
        with _new_file(new, path.suffix.lower()) as out:
            yield out
        new.replace(path)
    except BaseException:
        with suppress(OSError):
            new.unlink()
        raise


def _new_file(path: Path, extension: str) -> BinaryIO:
    """A file to write to; compressed if the extension is that of a compression."""
    match extension:
        case ".gz":
            # Without a time, so that the same content gives the same bytes.
            return cast("BinaryIO", gzip.GzipFile(path, "wb", mtime=0))
        case ".bz2":
            return cast("BinaryIO", bz2.open(path, "wb"))
        case ".xz":
            return cast("BinaryIO", lzma.open(path, "wb"))
        case ".zst":
            compressed = pa.CompressedOutputStream(pa.OSFile(str(path), "wb"), "zstd")
            return cast("BinaryIO", io.BufferedWriter(cast("io.RawIOBase", compressed)))
    return path.open("wb")
