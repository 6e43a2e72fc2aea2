"""Files of reviews in a request body, by media type."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from service.codecs.base import DecodeOptions
from service.codecs.negotiation import table_reader
from service.codecs.tables.csv import CsvReader
from service.errors import DecodeError, InvalidRequestError, UnsupportedMediaTypeError
from service.exports.review_rows import COLUMNS, read_reviews
from service.exports.row_files import (
    ROWS_MEMBERS,
    Row,
    csv_rows,
    document_rows,
    json_rows,
    table_rows,
    values_of_document,
)
from service.formats.arrays import Body
from service.formats.columns import ColumnError
from service.mining.file_reviews import FileReviews
from service.runs.manifest import RunDescription
from service.runs.review_history import ReviewHistory
from service.schema.faults import fault

JSON = "application/json"
JSON_LINES = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")
ReadRows = Callable[[Body, DecodeOptions], Iterator[Row]]
TABLES = (
    "text/csv",
    "text/tab-separated-values",
    "application/vnd.apache.parquet",
    "application/vnd.apache.arrow.file",
    "application/vnd.apache.arrow.stream",
)


def row_reader(content_type: str | None) -> ReadRows:
    """The reader of the rows of a file for a `Content-Type`; of CSV `charset` and `delimiter` count.

    Raises:
        UnsupportedMediaTypeError: The type has no rows of reviews, or a parameter is not supported; lists the known.
    """
    name = (content_type or "").partition(";")[0].strip().lower()
    if name in JSON_LINES:
        return lambda body, options: json_rows(body, COLUMNS)
    table = table_reader(content_type) if name in TABLES else None
    if table is None:
        problem = f"Content-Type {name[:100]!r} has no reviews" if name else "Content-Type is missing"
        known = ", ".join((JSON, JSON_LINES[0], *TABLES))
        raise UnsupportedMediaTypeError(f"{problem}; known are {known}", headers={"Accept": known})
    if isinstance(table, CsvReader):
        return lambda body, options: csv_rows(body, COLUMNS, encoding=table.encoding, separator=table.separator)
    return lambda body, options: table_rows(table, body, COLUMNS, options)


def is_file(document: object) -> bool:
    """True for a JSON document that is an export, and no list of reviews."""
    if isinstance(document, dict):
        return any(isinstance(document.get(name), list | dict) for name in ROWS_MEMBERS)
    return isinstance(document, list) and bool(document) and isinstance(document[0], dict) and "data" in document[0]


def file_reviews(
    rows: Iterable[Row],
    description: RunDescription,
    defaults: Mapping[str, object],
    history: ReviewHistory | None = None,
) -> FileReviews:
    """The reviews in the rows of a file.

    Args:
        rows: The rows.
        description: Description of the run.
        defaults: Members of `RowReview` of the rows that have none of their own.
        history: Reviews of the run, to leave out rows that have their exported verdict.

    Raises:
        InvalidRequestError: A row is no review; names row, column and value.
        DecodeError: The file is not of its format.
    """
    with column_errors():
        return read_reviews(rows, description.class_names, description.task, defaults, history)


def document_rows_of(document: object) -> Iterator[Row]:
    """The rows of an exported JSON document.

    Raises:
        ColumnError: A row is not an object.
    """
    return document_rows(values_of_document(document, COLUMNS))


@contextmanager
def column_errors() -> Iterator[None]:
    """Raise an error in a file of rows as one of its request.

    Raises:
        InvalidRequestError: The error is about a row or a column.
        DecodeError: The file is not of its format.
    """
    try:
        yield
    except ColumnError as err:
        loc: list[str | int] = [part for part in (err.row, err.column) if part is not None]
        if not loc:
            raise DecodeError(err.msg) from err
        raise fault(InvalidRequestError, err.msg, *loc, detail=f"{err.place}: {err.msg}") from err
