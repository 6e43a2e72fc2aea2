"""Converts the columns of a table to a batch: files, and the record batches of a stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

from service.codecs.base import DecodeOptions, check_rows, inflated_bytes
from service.codecs.tables.plain_size import plain_size
from service.errors import (
    BodyTooLargeError,
    DecodeError,
    InvalidIdsError,
    InvalidLogitError,
    InvalidRequestError,
    InvalidTargetError,
    ShapeError,
)
from service.formats.arrays import Body
from service.formats.arrow_types import is_list, plain_type
from service.formats.attributes import attribute_values, check_attribute_count, is_attribute
from service.formats.column_names import ResolvedColumns, find_columns
from service.formats.columns import (
    ColumnError,
    RowLengthError,
    ids_of_column,
    labels_as_sent,
    matrix,
    num_objects,
    one_array,
)
from service.formats.nested import Columns, nested_columns, nested_labels, nested_logits
from service.formats.part_names import NamesError, first_duplicate
from service.schema.faults import fault
from service.schema.request import NO_LOGITS, Batch, RequestOptions
from service.schema.structure import Layout

NAMES_SHOWN = 20

FindColumns = Callable[[Sequence[str]], ResolvedColumns]
"""Finds the needed columns among names; raises NamesError if one is missing."""


class TableRows(NamedTuple):
    """The rows of a table in a body.

    Args:
        columns: Names of its columns.
        table: The columns, with the metadata of the file's schema.
    """

    columns: ResolvedColumns
    table: pa.Table


class TableReader(Protocol):
    """A format of tables."""

    def rows(self, body: Body, options: DecodeOptions, find: FindColumns, *, batch: int | None = None) -> TableRows:
        """Read the columns of a table.

        Args:
            body: The whole body.
            options: Limits; with `with_attributes` also columns are read that `find` does not find.
            find: Finds the needed columns.
            batch: Number of the batch that the table is, for messages; None if it is none.

        Raises:
            DecodeError: The body is not of this format.
            BodyTooLargeError: The columns are larger than `options.max_bytes`.
            TooManyExamplesError: There are more rows than `options.max_rows`.
            InvalidRequestError: A column is missing, has a type of no use, or occurs twice.
            ColumnError: A value cannot be read.
        """


def check_size(count: int, max_bytes: int) -> None:
    """Check the inflated size of rows.

    Raises:
        BodyTooLargeError: The rows are larger than a body may be.
    """
    if count > max_bytes:
        raise BodyTooLargeError(f"the rows of the file take {count} bytes, the limit is {max_bytes} (max_body_bytes)")


def read_rows(reader: TableReader, body: Body, options: DecodeOptions, find: FindColumns) -> TableRows:
    """Read a table that is no batch.

    Args:
        reader: Reader of its format.
        body: The whole body.
        options: Limits; with `with_attributes` also columns are read that `find` does not find.
        find: Finds the needed columns.

    Raises:
        BodyTooLargeError: The columns with every value in full are larger than `options.max_bytes`.
        Also the errors of `TableReader.rows`.
    """
    rows = reader.rows(body, options, find)
    # A dictionary has a text once for many rows.
    check_size(sum(map(plain_size, rows.table.columns)), inflated_bytes(body, options.max_bytes))
    return rows


def resolve_columns(
    names: list[str], *, with_attributes: bool, find: FindColumns = find_columns, batch: int | None = 0
) -> ResolvedColumns:
    """Find the columns by their names; the others are attributes, if the batch may have attributes.

    Args:
        names: All names.
        with_attributes: True if the batch may have attributes.
        find: Finds the needed columns.
        batch: Number of the batch, for messages; None: the table is no batch.

    Raises:
        InvalidRequestError: A needed column is missing, two names for one of them, or a duplicate name.
        TooManyAttributesError: More attributes than an example may have.
    """
    try:
        columns = find(names)
    except NamesError as err:
        listed = ", ".join(repr(name[:100]) for name in names[:NAMES_SHOWN])
        more = ", ..." if len(names) > NAMES_SHOWN else ""
        msg = f"{err.msg}; the columns are {listed}{more}"
        raise fault(InvalidRequestError, msg, err.part, batch=batch) from err
    used = set(columns.all)
    # pandas writes its index without a name.
    attributes = tuple(name for name in names if name and name not in used) if with_attributes else ()
    check_attribute_count(len(attributes))
    read = used.union(attributes)
    repeated = first_duplicate(name for name in names if name in read)
    if repeated is not None:
        raise fault(InvalidRequestError, f"column {repeated[:100]!r} appears twice", repeated[:100], batch=batch)
    return replace(columns, attributes=(*columns.attributes, *attributes))


def check_types(schema: pa.Schema, columns: ResolvedColumns, batch: int | None = 0) -> None:
    """Check the types of columns before they are read.

    Args:
        schema: Schema of the table.
        columns: Names of its columns.
        batch: Number of the batch, for messages; None: the table is no batch.

    Raises:
        InvalidRequestError: A type that attributes cannot have, or one whose size is not known; names the column.
        ShapeError: Lists of length 0, of which any number of rows takes no bytes.
    """
    kinds = dict(zip(schema.names, schema.types, strict=True))
    for name in columns.attributes:
        if not is_attribute(kinds[name]):
            msg = (
                f"column {name[:100]!r} is {str(kinds[name])[:100]}; attributes are text, numbers, booleans, times, "
                "lists of texts or lists of pairs of integers"
            )
            raise fault(InvalidRequestError, f"{msg}: leave it out", name[:100], batch=batch)
    for name in (*columns.numbers, columns.targets, *([columns.id] if columns.id else [])):
        if pat.is_run_end_encoded(kinds[name]) and name in columns.numbers:
            msg = f"column {name[:100]!r} has runs instead of a value a row"
            raise fault(InvalidLogitError, msg, name if columns.statistics else "logits", batch=batch)
        _check_type(name, kinds[name], batch)


def _check_type(name: str, kind: pa.DataType, batch: int | None) -> None:
    """Check a type and those of the lists in it; the size of nested views is not known before they are read."""
    outer, inside = kind, 0
    while True:
        plain_kind = plain_type(kind)
        encoded = pat.is_dictionary(kind) or pat.is_run_end_encoded(kind)
        is_view = pat.is_list_view(plain_kind) or pat.is_large_list_view(plain_kind)
        if (
            pat.is_union(plain_kind)
            or pat.is_map(plain_kind)
            or pat.is_struct(plain_kind)
            or (encoded and pat.is_nested(plain_kind))
            or (is_view and (inside or is_list(plain_type(plain_kind.value_type))))
        ):
            msg = f"column {name[:100]!r} is {str(outer)[:100]}, which is neither numbers, texts nor lists"
            raise fault(InvalidRequestError, msg, name[:100], batch=batch)
        if pat.is_fixed_size_list(plain_kind) and plain_kind.list_size == 0:
            raise fault(ShapeError, f"column {name[:100]!r} has lists of length 0", name[:100], batch=batch)
        if not is_list(plain_kind):
            return
        kind, inside = plain_kind.value_type, inside + 1


class BatchOptions(NamedTuple):
    """Options of reading the rows of a table as a batch.

    Args:
        layout: Layout of the examples.
        keep_missing: Convert missing logits to NaN, which the loss excludes, instead of raising.
        max_bytes: Limit of the columns with every value in full.
        max_rows: Limit of the labels that become Python objects; None: no limit.
    """

    layout: Layout
    keep_missing: bool
    max_bytes: int
    max_rows: int | None

    @classmethod
    def of(cls, options: RequestOptions, max_bytes: int, max_rows: int | None) -> BatchOptions:
        return cls(options.layout, options.on_invalid == "exclude", max_bytes, max_rows)


def batch_of(rows: pa.Table | pa.RecordBatch, columns: ResolvedColumns, number: int, options: BatchOptions) -> Batch:
    """The batch in the rows of a table.

    Args:
        rows: Has at least the columns; its values are not yet checked.
        columns: The names of the columns.
        number: Number of the batch, for messages.
        options: See `BatchOptions`.

    Raises:
        BodyTooLargeError: The columns are larger than the limit.
        TooManyExamplesError: More labels are texts or missing than the request may have rows.
        InvalidRequestError: An invalid value; names batch, row and column.
    """
    rows = rows.select(columns.all)
    arrays = dict(zip(columns.all, rows.columns, strict=True))
    check_size(sum(map(plain_size, arrays.values())), options.max_bytes)
    if not len(rows):
        # The number of classes is unknown.
        logits, targets = np.empty(0, np.float32), np.empty(0, np.int64)
        statistics = {name: np.empty(0) for name in columns.statistics}
        ids: list[str | int] | None = [] if columns.id else None
        attributes: dict[str, list[object]] = {name: [] for name in columns.attributes}
        offsets = np.zeros(1, np.int64) if options.layout == "ragged" else None
        return Batch(logits, targets, ids, attributes or None, offsets, statistics or None)
    try:
        read = _rows if options.layout == "rows" else _nested
        batch = read(arrays, columns, number, options)
        ids = ids_of_column(arrays[columns.id], columns.id, 0) if columns.id else None
        attributes = {name: attribute_values(arrays[name], name) for name in columns.attributes}
        return replace(batch, ids=ids, attributes=attributes or None)
    except ColumnError as err:
        raise column_fault(err, columns, number) from err


def _rows(arrays: Columns, columns: ResolvedColumns, number: int, options: BatchOptions) -> Batch:
    """The batch of the layout `rows`."""
    logits = NO_LOGITS
    if columns.logits:
        logits = matrix([arrays[name] for name in columns.logits], columns.logits, 0, keep_missing=options.keep_missing)
    statistics = {name: matrix([arrays[name]], [name], 0, keep_missing=True) for name in columns.statistics}
    targets = one_array(arrays[columns.targets], columns.targets)
    check_rows(num_objects(targets), options.max_rows)
    return Batch(logits, labels_as_sent(targets, columns.targets, 0), statistics=statistics or None)


def _nested(arrays: Columns, columns: ResolvedColumns, number: int, options: BatchOptions) -> Batch:
    """The batch of the layout `dense` or `ragged`."""
    lists, targets = nested_columns(arrays, columns, options.layout, number)
    check_rows(num_objects(targets.values), options.max_rows)
    keep_missing = options.keep_missing or bool(columns.statistics)
    parts = {name: nested_logits(values, name, keep_missing=keep_missing) for name, values in lists.items()}
    logits = parts.pop("logits", NO_LOGITS)
    return Batch(logits, nested_labels(targets), offsets=targets.offsets, statistics=parts or None)


def column_fault(err: ColumnError, columns: ResolvedColumns, number: int) -> InvalidRequestError | DecodeError:
    """The error of a request for the error of a column."""
    kind: type[InvalidRequestError | DecodeError] = DecodeError
    part, column, msg = None, err.item, err.msg[:500]
    if err.column == columns.targets:
        kind, part = InvalidTargetError, "targets"
    elif err.column == columns.id and err.column is not None:
        kind, part = InvalidIdsError, "ids"
    elif err.column in columns.numbers:
        kind, part = InvalidLogitError, err.column if columns.statistics else "logits"
        if len(columns.logits) > 1 and err.row is not None:
            column = columns.logits.index(err.column)
    if isinstance(err, RowLengthError):
        kind = ShapeError
    loc = [name for name in (part, err.row, *err.element, column) if name is not None]
    detail = f"batch {number}{err.place and ', '}{err.place}: {msg}"
    return fault(kind, msg, "batches", number, *loc, detail=detail)
