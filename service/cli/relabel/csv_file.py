"""CSV with other labels: encoding, dialect, line ends and all other cells stay as they are, byte by byte."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import BinaryIO

from service.cli.errors import UsageError
from service.cli.relabel.csv_records import Record, cell_of, cell_value, read_records
from service.cli.relabel.rows import ColumnOptions, Columns, Relabeller
from service.formats.chunk_files import chunk_file
from service.formats.columns import ColumnError
from service.formats.csv_dialect import SEPARATOR_LINE, Dialect, read_header
from service.formats.spreadsheets import guard

# Byte order marks, which are copied, and the encodings of what comes after them.
MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
LONGEST_MARK = 3


def relabel_csv(
    file: BinaryIO,
    out: BinaryIO,
    options: ColumnOptions,
    relabeller: Relabeller,
    *,
    separator: str | None = None,
    encoding: str | None = None,
) -> None:
    """Copy a CSV file with the labels to use and the added columns.

    Args:
        file: The file.
        out: File to write to.
        options: Names of the columns.
        relabeller: Finds the labels.
        separator: The declared separator; None: by the header line.
        encoding: The declared encoding; None: by the byte order mark, else UTF-8.

    Raises:
        ColumnError: A row is invalid.
        UsageError: The columns are not found.
        DialectError: The first line is not CSV, or ambiguous.
        UnicodeError: The file is not of the encoding, or the encoding lacks a character of a label.
    """
    start = file.read(LONGEST_MARK)
    mark = next((mark for mark in MARKS if start.startswith(mark)), b"")
    name = MARKS.get(mark, encoding or "utf-8")
    # Bytes that are no UTF-8 are copied too.
    errors = "surrogateescape" if name in ("utf-8", "ascii") else "strict"
    source = io.TextIOWrapper(_joined(start.removeprefix(mark), file), name, errors, newline="")
    out.write(mark)
    target = io.TextIOWrapper(out, name, errors, newline="")
    _copy(iter(source), target, options, relabeller, separator)
    target.flush()
    target.detach()


def _joined(start: bytes, file: BinaryIO) -> BinaryIO:
    """A file whose first bytes were read before."""
    chunks = chain([start], iter(lambda: file.read(io.DEFAULT_BUFFER_SIZE), b""))
    return chunk_file(chunks)


def _copy(
    lines: Iterator[str],
    target: io.TextIOWrapper,
    options: ColumnOptions,
    relabeller: Relabeller,
    separator: str | None,
) -> None:
    first = next(lines, "")
    if first.lower().startswith(SEPARATOR_LINE):
        target.write(first)
        separator = separator or first.rstrip("\r\n")[len(SEPARATOR_LINE) :]
        first = next(lines, "")
    names, dialect = _header(first, options, separator)
    columns = options.find(names)
    relabeller.column = columns.label
    header, *_ = read_records(iter([first]), dialect)
    _write(target, header, [cell_of(name, dialect) for name in columns.added], dialect)
    number = -1
    for record in read_records(lines, dialect):
        if record.cells == [""] and len(names) > 1:
            target.write(record.end)
            continue
        number += 1
        if len(record.cells) != len(names):
            msg = f"{len(record.cells)} values, the header has {len(names)} names"
            raise ColumnError(msg, number, None)
        _write(target, *_relabelled(record, number, names, columns, dialect, relabeller), dialect)


def _header(line: str, options: ColumnOptions, separator: str | None) -> tuple[list[str], Dialect]:
    def fits(names: Sequence[str]) -> bool:
        try:
            options.find(names)
        except UsageError:
            return False
        return True

    return read_header(io.BytesIO(line.encode("utf-8", "surrogateescape")), fits, separator)


def _relabelled(
    record: Record, number: int, names: Sequence[str], columns: Columns, dialect: Dialect, relabeller: Relabeller
) -> tuple[Record, list[str]]:
    """The record with the label to use, and the added cells."""
    place = names.index(columns.label)
    given = record.cells[place]
    value = cell_value(given, dialect)
    identity = str(number) if columns.id is None else cell_value(record.cells[names.index(columns.id)], dialect)
    label, status, reviewers = relabeller.relabel(number, identity, value)
    if label != value:
        record.cells[place] = "" if label is None else cell_of(str(label), dialect, like=given)
    return record, [given, status, cell_of(guard(reviewers), dialect)]


def _write(target: io.TextIOWrapper, record: Record, added: Sequence[str], dialect: Dialect) -> None:
    target.write(dialect.separator.join([*record.cells, *added]) + record.end)
