"""The dialect of a CSV file: its encoding by the first bytes, its separator by the header line.

Both follow from fixed rules, so that the same file is always read in the same way.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from typing import BinaryIO, Protocol

from service.formats.chunk_files import chunk_file

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
# Python's names of the encodings that can be declared; the last three have one byte for each character.
ENCODINGS = ("utf-8", "utf-16", "utf-16-le", "utf-16-be", "ascii", "iso8859-1", "cp1252")
BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
BLOCK_BYTES = 1024 * 1024
# Names of 10 000 columns with 200 bytes each.
MAX_HEADER_BYTES = 2 * 1024 * 1024
# csv limits a field to 128 KiB by default; a cell may hold the logits or all attributes of a row.
csv.field_size_limit(2**31 - 1)
# First line of files for Excel, which names the separator: sep=;
SEPARATOR_LINE = "sep="


class ByteSource(Protocol):
    """Anything with bytes to read: a file, a request body, standard input."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes; none at the end."""


class DialectError(ValueError):
    """A file whose dialect is ambiguous or not supported."""


@dataclass(frozen=True)
class Dialect:
    """The dialect of a file.

    Args:
        separator: One of SEPARATORS.
        spaces: Spaces after separators are not part of the values.
    """

    separator: str
    spaces: bool

    @property
    def decimal_comma(self) -> bool:
        """True if the comma is free to be a decimal mark."""
        return self.separator != ","


def encoding_of(name: str) -> str:
    """Python's name of an encoding that can be declared.

    Raises:
        DialectError: Another encoding; lists those that can.
    """
    try:
        known = codecs.lookup(name).name
    except (LookupError, ValueError):
        known = name
    if known not in ENCODINGS:
        listed = "utf-8, utf-16, utf-16le, utf-16be, us-ascii, iso-8859-1, windows-1252"
        raise DialectError(f"encoding {name[:50]!r} is not supported; known are {listed}")
    return known


def separator_of(name: str) -> str:
    """The separator of this name: `comma`, `semicolon`, `tab` or `pipe`, or the character itself.

    Raises:
        DialectError: Another name.
    """
    separator = SEPARATORS.get(name.strip().lower(), name)
    if separator not in SEPARATORS.values():
        raise DialectError(f"separator {name[:20]!r} is not supported; known are {', '.join(SEPARATORS)}")
    return separator


def utf8_file(source: ByteSource, encoding: str | None) -> BufferedReader:
    """A file as UTF-8 without a byte order mark.

    Args:
        source: The bytes as sent.
        encoding: The declared encoding; None: by the byte order mark, else UTF-8.

    Raises:
        UnicodeDecodeError: While reading, if the bytes are not of this encoding; UTF-8 is not checked.
    """
    start = source.read(BLOCK_BYTES)
    marks = [known for mark, known in BYTE_ORDER_MARKS.items() if start.startswith(mark)]
    encoding = marks[0] if marks and encoding in (None, "utf-8", "utf-16") else encoding or "utf-8"
    return chunk_file(_utf8_chunks(start.removeprefix(codecs.BOM_UTF8), source, encoding.removesuffix("-sig")))


def _utf8_chunks(start: bytes, source: ByteSource, encoding: str) -> Iterator[bytes]:
    decoder = None if encoding in ("utf-8", "ascii") else codecs.getincrementaldecoder(encoding)()
    chunk = start
    while chunk:
        yield bytes(chunk) if decoder is None else decoder.decode(chunk).encode()
        chunk = source.read(BLOCK_BYTES)
    if decoder is not None:
        yield decoder.decode(b"", final=True).encode()


def read_header(
    lines: BinaryIO, fits: Callable[[Sequence[str]], bool], separator: str | None
) -> tuple[list[str], Dialect]:
    """Read the names in the first line, and tell the dialect from it.

    The separator is the one of comma, semicolon, tab and pipe with which the line has the needed columns.

    Args:
        lines: The file; afterwards at its first row.
        fits: True if these names include the needed columns.
        separator: The declared separator; None: by the header line.

    Raises:
        DialectError: The line is not UTF-8 or not CSV or too long, or several separators fit.
    """
    line = _header_line(lines)
    if separator is None and line.lower().startswith(SEPARATOR_LINE):
        separator = separator_of(line.rstrip("\r\n")[len(SEPARATOR_LINE) :])
        line = _header_line(lines)
    occurring = [candidate for candidate in SEPARATORS.values() if candidate in line]
    candidates = [separator] if separator else occurring or [","]
    names = {candidate: _names(line, candidate) for candidate in candidates}
    fitting = [candidate for candidate in candidates if fits(names[candidate])]
    if len(fitting) > 1:
        listed = " and ".join(repr(candidate) for candidate in fitting)
        raise DialectError(f"the separators {listed} both fit the first line: declare one as the delimiter")
    # If none fits, the names of the most columns are the best for a message.
    chosen = fitting[0] if fitting else max(candidates, key=lambda candidate: len(names[candidate]))
    spaces = any(name.startswith(" ") for name in _cells(line, chosen, skip=False)[1:])
    return names[chosen], Dialect(chosen, spaces)


def _header_line(lines: BinaryIO) -> str:
    line = lines.readline(MAX_HEADER_BYTES + 1)
    if len(line) > MAX_HEADER_BYTES:
        raise DialectError(f"the first line has more than {MAX_HEADER_BYTES} bytes; it holds the names of the columns")
    try:
        text = line.decode()
    except UnicodeDecodeError as err:
        raise DialectError(f"the first line is not UTF-8: declare the encoding as charset ({err})") from err
    if "\0" in text:
        raise DialectError("the first line has NUL characters; UTF-16 without a byte order mark has to be declared")
    return text


def _names(line: str, separator: str) -> list[str]:
    return [name.strip() for name in _cells(line, separator, skip=True)]


def _cells(line: str, separator: str, *, skip: bool) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=skip), [])
    except csv.Error as err:
        raise DialectError(f"the first line: {err}") from err
