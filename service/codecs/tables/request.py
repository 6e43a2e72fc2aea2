"""Converts the table of a file to a request with one batch; finds the columns by their names.

The limit of a body applies to the inflated rows too.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from service.errors import (
    BodyTooLargeError,
    DecodeError,
    InvalidIdsError,
    InvalidLogitError,
    InvalidRequestError,
    InvalidTargetError,
    ShapeError,
)
from service.formats.attributes import attribute_values, is_attribute
from service.formats.columns import (
    TARGET_NAMES,
    Array,
    ColumnError,
    NotANumberError,
    ResolvedColumns,
    RowLengthError,
    guess_id,
    guess_logits,
    guess_targets,
    matrix,
    vector,
)
from service.schema.faults import fault
from service.schema.request import Batch, LossRequest, RequestOptions

NAMES_SHOWN = 20
VIEW = np.dtype([("length", "<i4"), ("rest", "V12")])


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Convert the errors of a reader for a broken file to DecodeError; `name` is the name of the format."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError, IndexError, OverflowError, struct.error) as err:
        raise DecodeError(f"{name}: {str(err)[:500]}") from err


def check_size(count: int, max_bytes: int) -> None:
    """Check the inflated size of the rows of a file.

    Raises:
        BodyTooLargeError: The rows are larger than a body may be.
    """
    if count > max_bytes:
        raise BodyTooLargeError(f"the rows of the file take {count} bytes, the limit is {max_bytes} (max_body_bytes)")


def find_columns(names: list[str], *, with_attributes: bool) -> ResolvedColumns:
    """Find the columns by their names; the others are attributes, if the batch may have attributes.

    Raises:
        InvalidRequestError: No logits or targets, or a duplicate name; lists the columns of the file.
    """
    listed = ", ".join(repr(name[:100]) for name in names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")
    logits = guess_logits(names)
    if not logits:
        msg = f"no column 'logits' and no logit_0, logit_1, ...; the columns are {listed}"
        raise fault(InvalidRequestError, msg, "logits", batch=0)
    targets = guess_targets(names)
    if len(targets) != 1:
        msg = f"found both {targets[0]!r} and {targets[1]!r}" if targets else f"the columns are {listed}"
        msg = f"targets are one column named {', '.join(TARGET_NAMES)}; {msg}"
        raise fault(InvalidRequestError, msg, "targets", batch=0)
    identity = guess_id(names)
    used = {*logits, targets[0], identity}
    # pandas writes its index without a name.
    attributes = [name for name in names if name and name not in used] if with_attributes else []
    columns = ResolvedColumns(logits, targets[0], identity, tuple(attributes))
    for name in columns.all:
        if names.count(name) > 1:
            raise fault(InvalidRequestError, f"column {name[:100]!r} appears twice", name[:100], batch=0)
    return columns


def check_attribute_types(schema: pa.Schema, columns: ResolvedColumns) -> None:
    """Check the types of the columns of attributes.

    Raises:
        InvalidRequestError: A type that attributes cannot have; names the column.
    """
    for name in columns.attributes:
        kind = schema.field(name).type
        if not is_attribute(kind):
            msg = f"column {name[:100]!r} is {str(kind)[:100]}; attributes are text, numbers, booleans or times"
            raise fault(InvalidRequestError, f"{msg}: leave it out", name[:100], batch=0)


def request_of(table: pa.Table, columns: ResolvedColumns, options: RequestOptions, max_bytes: int) -> LossRequest:
    """The request with a table as its only batch.

    Args:
        table: Has at least the columns; its values are not yet checked.
        columns: The names of the columns.
        options: Options of the request.
        max_bytes: Limit of the columns, with dictionaries expanded to one text per row.

    Raises:
        BodyTooLargeError: The columns are larger than the limit.
        InvalidRequestError: An invalid value; names row and column.
    """
    table = table.select(columns.all)
    check_size(sum(_plain_size(chunk) for column in table.columns for chunk in column.chunks), max_bytes)
    if not len(table):
        # The number of classes is unknown.
        nothing = np.empty(0, np.float32), np.empty(0, np.int64)
        ids: list[str | int] | None = [] if columns.id else None
        return LossRequest(options, (Batch(*nothing, ids, {name: [] for name in columns.attributes} or None),))
    # The size is checked, so dictionaries can be expanded; they are slow to read.
    table = pa.table({name: _expanded(table.column(name)) for name in columns.all})
    missing = options.on_invalid == "exclude"
    try:
        parts = [_whole(table, name) for name in columns.logits]
        logits = matrix(parts, columns.logits, 0, keep_missing=missing)
        targets = vector(_whole(table, columns.targets), columns.targets, 0, whole=True, keep_missing=missing)
        batch = Batch(
            _logits(logits, max_bytes),
            _targets(targets, columns.targets),
            _ids(table.column(columns.id), columns.id) if columns.id else None,
            {name: attribute_values(table.column(name), name) for name in columns.attributes} or None,
        )
    except ColumnError as err:
        raise table_fault(err, columns) from err
    return LossRequest(options, (batch,))


def table_fault(err: ColumnError, columns: ResolvedColumns) -> InvalidRequestError | DecodeError:
    """The error of a request for the error of a column."""
    kind: type[InvalidRequestError | DecodeError] = DecodeError
    part, column, msg = None, None, err.msg[:500]
    if err.column == columns.targets:
        kind, part = InvalidTargetError, "targets"
        if isinstance(err, NotANumberError):
            msg += "; a label is the number of its class, counted from 0"
    elif err.column in columns.logits:
        kind, part = InvalidLogitError, "logits"
        if len(columns.logits) > 1 and err.row is not None:
            column = columns.logits.index(err.column)
    if isinstance(err, RowLengthError):
        kind = ShapeError
    loc = [name for name in (part, err.row, column) if name is not None]
    return fault(kind, msg, "batches", 0, *loc, detail=f"batch 0{err.place and ', '}{err.place}: {msg}")


def _whole(table: pa.Table, name: str) -> pa.Array:
    """A column as one array; the storage of a tensor column."""
    column = table.column(name).combine_chunks()
    return column.storage if isinstance(column, pa.ExtensionArray) else column


def _expanded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _logits(values: Array, max_bytes: int) -> Array:
    if values.dtype.kind != "f":
        check_size(8 * values.size, max_bytes)
        values = values.astype(np.float64)
    return values


def _targets(values: Array, name: str) -> Array:
    if values.dtype == np.uint64 and values.size and values.max() >= 2**63:
        row = int(np.argmax(values.reshape(len(values), -1).max(axis=1)))
        raise ColumnError(f"{values.max()} is too large", row, name)
    # torch has no arithmetic for wider unsigned integers.
    return values.astype(np.int64) if values.dtype.kind == "u" and values.itemsize > 1 else values


def _ids(column: pa.ChunkedArray, name: str) -> list[str | int]:
    kind = column.type
    tests = (pa.types.is_integer, pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    if not any(test(kind) for test in tests):
        msg = f"ids are strings or integers, column {name[:100]!r} is {str(kind)[:100]}"
        raise fault(InvalidIdsError, msg, "ids", batch=0)
    if column.null_count:
        row = column.is_null().index(True).as_py()
        raise fault(InvalidIdsError, f"column {name[:100]!r} has no value in row {row}", "ids", row, batch=0)
    ids: list[str | int] = column.to_pylist()
    return ids


def _plain_size(array: pa.Array) -> int:
    """Bytes of an array with every value in full, which dictionaries and views do not store."""
    if pa.types.is_dictionary(array.type):
        lengths, rows = _text_lengths(array.dictionary), array.indices.drop_null().to_numpy()
        plain = 16 * len(rows) if lengths is None else lengths[rows].sum()
    elif pa.types.is_string_view(array.type):
        lengths = _text_lengths(array)
        plain = 0 if lengths is None else lengths.sum()
    else:
        plain = 0
    return int(array.nbytes) + int(plain)


def _text_lengths(values: pa.Array) -> Array | None:
    """Bytes of each text, None for other types; Arrow has no function for the lengths of views."""
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        lengths: Array = pc.binary_length(values).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        return lengths
    if not pa.types.is_string_view(kind):
        return None
    views = np.frombuffer(values.buffers()[1], VIEW)[values.offset : values.offset + len(values)]
    return np.where(values.is_valid().to_numpy(zero_copy_only=False), views["length"], 0).astype(np.int64)
