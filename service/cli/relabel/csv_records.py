"""Records of CSV as they are written: the raw texts of their cells, from which the record can be put together again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from service.formats.columns import ColumnError
from service.formats.csv_dialect import Dialect

QUOTE, LINE_ENDS = '"', "\r\n"
# From the first character after an opening quote: all up to the closing quote, which may be on another line.
CLOSED = re.compile(r'(?:[^"]++|"")*+"')


class Record(NamedTuple):
    """A record of a CSV file.

    Args:
        cells: The cells with their quotes and the spaces around them.
        end: The end of its line; empty at the end of the file.
    """

    cells: list[str]
    end: str


def read_records(lines: Iterator[str], dialect: Dialect) -> Iterator[Record]:
    """Read the records of a file.

    A quote opens a quoted cell only at its beginning, and after spaces if the dialect has them, as in Python's `csv`
    and in Arrow.

    Args:
        lines: Lines with their ends.
        dialect: Separator and spaces.

    Raises:
        ColumnError: A quote is never closed.
    """
    opening = re.compile(' *"' if dialect.spaces else '"')
    for line in lines:
        if QUOTE in line:
            yield _quoted_record(line, lines, dialect.separator, opening)
        else:
            body = line.rstrip(LINE_ENDS)
            yield Record(body.split(dialect.separator), line[len(body) :])


def _quoted_record(line: str, lines: Iterator[str], separator: str, opening: re.Pattern[str]) -> Record:
    """The record that begins with a line, which has quotes."""
    cells: list[str] = []
    place = 0
    while True:
        quoted = ""
        if opened := opening.match(line, place):
            quoted, line, place = _quoted(line, lines, place, opened.end())
        body = line.rstrip(LINE_ENDS)
        stop = body.find(separator, place)
        stop = len(body) if stop < 0 else stop
        cells.append(quoted + body[place:stop])
        if stop == len(body):
            return Record(cells, line[len(body) :])
        place = stop + 1


def _quoted(line: str, lines: Iterator[str], start: int, place: int) -> tuple[str, str, int]:
    """The text from a place in a line to the closing quote, the line of that quote, and the place after it."""
    parts: list[str] = []
    while (closed := CLOSED.match(line, place)) is None:
        parts.append(line[start:])
        line, start, place = next(lines, ""), 0, 0
        if not line:
            raise ColumnError(f"a quote is never closed: {parts[0][:100]!r}", None, None)
    return "".join([*parts, line[start : closed.end()]]), line, closed.end()


def cell_value(cell: str, dialect: Dialect) -> str:
    """The value of a raw cell."""
    text = cell.lstrip(" ") if dialect.spaces else cell
    if not text.startswith(QUOTE):
        return text
    closed = CLOSED.match(text, 1)
    end = closed.end() if closed else len(text) + 1
    return text[1 : end - 1].replace(QUOTE * 2, QUOTE) + text[end:]


def cell_of(value: str, dialect: Dialect, *, like: str = "") -> str:
    """A raw cell with a value; in quotes if it needs them, or if another cell has them.

    Args:
        value: The value.
        dialect: Dialect of the file.
        like: The other cell.
    """
    special = (dialect.separator, QUOTE, "\r", "\n")
    needed = any(character in value for character in special) or value != value.strip(" ")
    if not needed and not like.lstrip(" ").startswith(QUOTE):
        return value
    return f"{QUOTE}{value.replace(QUOTE, QUOTE * 2)}{QUOTE}"
