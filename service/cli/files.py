"""Input files of the commands: their formats by extension, and compressed files."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, cast
from zlib import error as ZlibError

import pyarrow as pa

Open = Callable[[str], BinaryIO]


def _open_zstd(path: str) -> BinaryIO:
    raw = pa.CompressedInputStream(pa.OSFile(path), "zstd")
    return cast("BinaryIO", io.BufferedReader(cast("io.RawIOBase", raw)))


COMPRESSIONS: Mapping[str, Open] = {
    ".gz": cast("Open", gzip.open),
    ".bz2": cast("Open", bz2.open),
    ".xz": cast("Open", lzma.open),
    ".zst": _open_zstd,
}
# Errors of compressed files that are damaged or end too early.
READ_ERRORS = (OSError, EOFError, ZlibError, lzma.LZMAError, pa.ArrowException)


def extension_of(path: str | Path) -> str:
    """The extension of a file in lower case, without that of a compression: `.csv` for `a.csv.gz`."""
    path = Path(path)
    return Path(path.stem).suffix.lower() if is_compressed(path) else path.suffix.lower()


def is_compressed(path: str | Path) -> bool:
    """True if the extension of the file is that of a compression."""
    return Path(path).suffix.lower() in COMPRESSIONS


def open_input(path: str | Path) -> BinaryIO:
    """Open a file for reading; a compressed one is decompressed while it is read."""
    return COMPRESSIONS.get(Path(path).suffix.lower(), _open_plain)(str(path))


def _open_plain(path: str) -> BinaryIO:
    return open(path, "rb")
