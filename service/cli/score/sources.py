"""Input files: their formats by extension, files of folders and globs, and standard input."""

from __future__ import annotations

import glob
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet

from service.cli.errors import UsageError
from service.cli.files import extension_of, is_compressed, open_input
from service.formats.csv_dialect import DialectError, encoding_of, separator_of

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
# Formats that are read from their first byte to the last; readers of the others start at the end of the file.
SEQUENTIAL = ("csv", "jsonl", "arrow")
STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Source:
    """An input file.

    Args:
        path: A file, or `-` for standard input.
        format: One of the values of FORMATS.
        separator: Separator of a CSV file; None: by its header line.
        encoding: Encoding of a CSV file; None: by its byte order mark, else UTF-8.
    """

    path: str
    format: str
    separator: str | None = None
    encoding: str | None = None

    @property
    def fingerprint(self) -> list[str | int]:
        """Path, size and modification time of the file."""
        if self.path == STANDARD_INPUT:
            return [self.path]
        status = Path(self.path).stat()
        return [str(Path(self.path).resolve()), status.st_size, status.st_mtime_ns]

    @property
    def is_stream(self) -> bool:
        """True if the file can be read only once, from its first byte on."""
        return self.path == STANDARD_INPUT or is_compressed(self.path)

    def open(self) -> BinaryIO:
        """Open the file. A stream is read into memory first, unless its format is in SEQUENTIAL."""
        file = sys.stdin.buffer if self.path == STANDARD_INPUT else open_input(self.path)
        if not self.is_stream or self.format in SEQUENTIAL:
            return file
        with file:
            return io.BytesIO(file.read())


def find_sources(
    inputs: Sequence[str], input_format: str | None, separator: str | None = None, encoding: str | None = None
) -> list[Source]:
    """Find the files of names, folders and globs; the files of each folder and glob are sorted.

    Args:
        inputs: Names, or `-`.
        input_format: Format of all inputs; None: by the extension.
        separator: Separator of CSV files: its name or the character; None: by the header line.
        encoding: Encoding of CSV files; None: by the byte order mark, else UTF-8.

    Raises:
        UsageError: A name matches no file, or a format, separator or encoding is unknown.
    """
    try:
        separator = separator and separator_of(separator)
        encoding = encoding and encoding_of(encoding)
    except DialectError as err:
        raise UsageError(str(err)) from err
    if input_format is not None and input_format not in FORMATS.values():
        raise UsageError(f"--format {input_format}: expected one of {', '.join(dict.fromkeys(FORMATS.values()))}")
    sources = []
    for name in inputs:
        if name == STANDARD_INPUT:
            if input_format is None:
                raise UsageError("standard input has no file extension: use --format")
            sources.append(Source(name, input_format, separator, encoding))
            continue
        if Path(name).is_dir():
            paths = sorted(str(path) for path in Path(name).rglob("*") if extension_of(path) in FORMATS)
        else:
            found = [name] if Path(name).exists() else sorted(glob.glob(name, recursive=True))
            paths = [path for path in found if not Path(path).is_dir()]
        if not paths:
            raise UsageError(f"{name}: no such file, or no file of a known format in this folder")
        sources += [Source(path, input_format or _format_of(path), separator, encoding) for path in paths]
    return sources


def _format_of(path: str) -> str:
    extension = extension_of(path)
    if extension not in FORMATS:
        raise UsageError(f"{path}: unknown extension {extension!r}: use --format, or one of {', '.join(FORMATS)}")
    return FORMATS[extension]


def count_rows(sources: Sequence[Source]) -> int | None:
    """Count the rows of Parquet files by their metadata; None if there are other inputs, or a damaged file."""
    total = 0
    for source in sources:
        if source.is_stream or source.format != "parquet":
            return None
        try:
            total += pyarrow.parquet.read_metadata(source.path).num_rows
        except (pa.ArrowException, OSError):
            return None
    return total
