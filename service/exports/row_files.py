"""Rows of table files as objects: CSV as exports and spreadsheets write it, JSONL, JSON, Parquet and Arrow."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from service.codecs.base import DecodeOptions, inflated_bytes
from service.codecs.json_size import check_size
from service.codecs.tables.batch import TableReader
from service.codecs.tables.batch import check_size as check_bytes
from service.codecs.tables.plain_size import plain_size
from service.errors import InvalidRequestError, TooManyExamplesError
from service.formats.arrays import Body
from service.formats.arrow_types import is_text, plain
from service.formats.column_names import ResolvedColumns
from service.formats.columns import ColumnError
from service.formats.csv_dialect import DialectError, read_header, utf8_file
from service.formats.part_names import first_duplicate
from service.formats.spreadsheets import unguard

Row = Mapping[str, object]

# A row without a value in the decisive column; its other values are not read.
EMPTY: Row = {}
ROWS_AT_ONCE = 10_000
NAMES_SHOWN = 20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Members of the JSON files of the service that have their rows: a queue, and FiftyOne's labels by image.
ROWS_MEMBERS = ("rows", "labels")


@dataclass(frozen=True)
class Columns:
    """The columns that are read from a table.

    Args:
        known: Names of all of them.
        needed: Groups of names, the first of ids; a table has a column of each group.
        decisive: A column in which other rows than those that are read have no value.
        foreign: Columns of tables that look alike and are none of these, with the reason why they are not read.
    """

    known: tuple[str, ...]
    needed: tuple[tuple[str, ...], ...]
    decisive: str
    foreign: Mapping[str, str] = field(default_factory=dict)

    def fit(self, names: Iterable[str]) -> bool:
        """True if a table with these columns has all that are needed."""
        found = {*names}
        return all(found & {*group} for group in self.needed)

    def check(self, names: Sequence[str]) -> None:
        """Check the names of the columns of a table.

        Raises:
            ColumnError: A needed column is missing, two columns have a name that is read, or one is foreign.
        """
        for name in names:
            if name in self.foreign:
                raise ColumnError(self.foreign[name], None, name)
        for group in self.needed:
            if not {*group} & {*names}:
                shown = ", ".join(repr(name[:100]) for name in names[:NAMES_SHOWN])
                more = ", ..." if len(names) > NAMES_SHOWN else ""
                raise ColumnError(f"there is no such column; the columns are {shown}{more}", None, group[-1])
        doubled = first_duplicate(name for name in names if name in self.known)
        if doubled is not None:
            raise ColumnError("two columns have this name", None, doubled)


def csv_rows(
    content: Body | bytes, columns: Columns, *, encoding: str | None = None, separator: str | None = None
) -> Iterator[Row]:
    """Rows of a CSV file of any dialect as texts; those that begin with the `'` of exports are restored.

    Args:
        content: The file, also as a spreadsheet leaves it, with empty lines and columns at the end.
        columns: The columns to read; without a declared separator it is the one with which the first line fits them.
        encoding: The declared encoding; None: by the byte order mark, else UTF-8.
        separator: The declared separator; None: by the first line.

    Raises:
        ColumnError: Not CSV, a missing column, a name that two columns have, or a row with more values than the header.
    """
    lines = utf8_file(io.BytesIO(content), encoding)
    try:
        header, dialect = read_header(lines, columns.fit, separator)
        names = [unguard(name) for name in header]
        columns.check(names)
        texts = (line.decode() for line in lines)
        reader = csv.reader(texts, delimiter=dialect.separator, skipinitialspace=dialect.spaces, strict=True)
        yield from _csv_rows(reader, names, columns)
    except (DialectError, UnicodeDecodeError) as err:
        raise ColumnError(f"{err}: save the file as CSV UTF-8", None, None) from err


def _csv_rows(reader: Iterator[list[str]], names: Sequence[str], columns: Columns) -> Iterator[Row]:
    known = [(place, name) for place, name in enumerate(names) if name in columns.known]
    decisive, width, number = names.index(columns.decisive), len(names), -1
    try:
        for number, cells in enumerate(reader):
            if len(cells) > width and any(cells[width:]):
                raise ColumnError(f"{len(cells)} values, the header has {width} names", number, None)
            if len(cells) <= decisive or not cells[decisive]:
                yield EMPTY
            else:
                yield {name: unguard(cells[place]) for place, name in known if place < len(cells)}
    except csv.Error as err:
        raise ColumnError(str(err), number + 1, None) from err


def json_rows(content: Body | bytes, columns: Columns) -> Iterator[Row]:
    """Rows of JSONL, of a JSON list, of one object, or of an object with a member of ROWS_MEMBERS.

    Raises:
        ColumnError: Not JSON, or a row that is not an object.
        TooManyValuesError: A line or a JSON document has too many values.
    """
    file = io.BytesIO(content)
    if file.read(len(BYTE_ORDER_MARK)) != BYTE_ORDER_MARK:
        file.seek(0)
    return document_rows(_json_values(file, columns))


def document_rows(values: Iterable[object]) -> Iterator[Row]:
    """The rows of a decoded document; see `values_of_document`.

    Raises:
        ColumnError: A row is not an object.
    """
    for number, row in enumerate(values):
        if not isinstance(row, dict):
            raise ColumnError("not a JSON object", number, None)
        yield row


def _json_values(file: io.BytesIO, columns: Columns) -> Iterator[object]:
    lines = filter(bytes.strip, file)
    first, second = next(lines, b""), next(lines, None)
    value = _json_or_none(first)
    if second is None and value is not None:
        yield from values_of_document(value, columns)
    elif isinstance(value, dict):
        yield value
        yield from (_json_value(line, number) for number, line in enumerate(chain((second or b"",), lines), start=1))
    elif first:
        # A document of several lines.
        yield from values_of_document(_json_value(b"".join((first, second or b"", *lines)), None), columns)


def values_of_document(document: Any, columns: Columns) -> Sequence[object]:
    """The rows of a JSON document: its items, those of a member of ROWS_MEMBERS, or the document itself."""
    if isinstance(document, dict) and columns.decisive not in document:
        for rows in map(document.get, ROWS_MEMBERS):
            if isinstance(rows, dict | list):
                return rows if isinstance(rows, list) else [*rows.values()]
    return document if isinstance(document, list) else [document]


def _json_or_none(text: bytes) -> Any:
    check_size(text)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _json_value(text: bytes, number: int | None) -> Any:
    check_size(text)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as err:
        raise ColumnError(f"not JSON: {err}", number, None) from err


def table_rows(reader: TableReader, content: Body, columns: Columns, limits: DecodeOptions) -> Iterator[Row]:
    """Rows of a Parquet or Arrow file.

    Raises:
        ColumnError: A missing column, or one of a type that no table of rows has.
        BodyTooLargeError, TooManyExamplesError: The file exceeds a limit.
        DecodeError: The file is damaged, or of another format.
    """

    def find(names: Sequence[str]) -> ResolvedColumns:
        columns.check(names)
        known = [name for name in names if name in columns.known]
        (identity, *_) = (name for name in known if name in columns.needed[0])
        return ResolvedColumns((), columns.decisive, identity, (*({*known} - {columns.decisive, identity}),))

    try:
        _, table = reader.rows(content, limits, find)
    except TooManyExamplesError as err:
        raise TooManyExamplesError(f"the file has more than {limits.max_rows} rows") from err
    except InvalidRequestError as err:
        # The readers know batches only.
        raise ColumnError(err.errors[0]["msg"], None, str(err.errors[0]["loc"][-1])) from err
    check_bytes(sum(map(plain_size, table.columns)), inflated_bytes(content, limits.max_bytes))
    for batch in table.to_batches(max_chunksize=ROWS_AT_ONCE):
        yield from _batch_rows(batch, columns.decisive)


def _batch_rows(batch: pa.RecordBatch, decisive: str) -> Iterator[Row]:
    arrays = dict(zip(batch.schema.names, map(plain, batch.columns), strict=True))
    has_value = arrays[decisive].is_valid()
    if is_text(arrays[decisive].type):
        has_value = pc.and_(has_value, pc.not_equal(arrays[decisive], ""))
    rows = iter(pa.record_batch(arrays).filter(has_value).to_pylist())
    for is_read in has_value.to_pylist():
        yield next(rows) if is_read else EMPTY
