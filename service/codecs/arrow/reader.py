"""Reads an untrusted Arrow IPC stream, record batch by record batch.

pyarrow's reader checks the structure of a message, not its content, and allocates as much memory as a compressed buffer
declares (Arrow's "Security Considerations", docs/source/format/Security.rst). So the reader accepts only listed types,
checks declared sizes before it inflates anything, and validates every batch in full.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from service.codecs.arrow.declared_size import declared_size
from service.errors import (
    BodyTooLargeError,
    DecodeError,
    InvalidIdsError,
    InvalidLogitError,
    InvalidRequestError,
    InvalidTargetError,
    LossServiceError,
    ShapeError,
)
from service.formats.attributes import attribute_values, is_attribute
from service.formats.columns import RowLengthError, is_list, row_length
from service.schema.faults import fault
from service.schema.request import Batch, Column, RequestOptions

COLUMNS = ("logits", "targets", "id")
# torch has no arithmetic for these: the reader casts them, after a check of the range.
CAST_TO_INT64 = (pa.uint16(), pa.uint32(), pa.uint64())
# Accepted types of numbers; logits must be floating.
NUMBERS = (
    *(pa.float16(), pa.float32(), pa.float64()),
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
    *(pa.uint8(), *CAST_TO_INT64),
)


def schema_options(schema: pa.Schema, name: str) -> RequestOptions:
    """The options in the JSON under the metadata key `request` of a schema; the defaults without it.

    Args:
        schema: The schema.
        name: Name of the format, for messages.

    Raises:
        DecodeError: The text is not JSON.
        InvalidRequestError: See `RequestOptions.parse`.
    """
    try:
        return RequestOptions.parse(orjson.loads((schema.metadata or {}).get(b"request", b"{}")))
    except orjson.JSONDecodeError as err:
        raise DecodeError(f"{name}: schema metadata 'request' is not JSON: {err}") from err


class ArrowStream:
    """The record batches of a stream as batches of logits and targets.

    Args:
        source: Read when the next batch is requested.
        max_message_bytes: Limit of one message, as received and inflated.
        with_attributes: Accept further columns as attributes of the examples.

    Raises:
        DecodeError: The source is not an Arrow IPC stream.
        BodyTooLargeError: A message is larger than the limit.
        InvalidRequestError: The schema has an unknown column or a type that is not accepted.
    """

    def __init__(self, source: BinaryIO, max_message_bytes: int, *, with_attributes: bool = False) -> None:
        self._with_attributes = with_attributes
        self._source = _LimitedSource(source, max_message_bytes)
        self._max_message_bytes = max_message_bytes
        try:
            self._open()
        except BodyTooLargeError as err:
            # No schema is so large: the bytes in the place of its length are something else.
            raise DecodeError("arrow: the body is not an Arrow IPC stream") from err

    def _open(self) -> None:
        with _Decoding(self._source):
            self._messages = pa.ipc.MessageReader.open_stream(pa.PythonFile(self._source, mode="r"))
            self.schema = self._read_schema()
            _check_schema(self.schema, with_attributes=self._with_attributes)

    def _read_schema(self) -> pa.Schema:
        message = self._next_message()
        if message is None:
            raise DecodeError("arrow: the stream is empty")
        if message.type != "schema":
            raise DecodeError(f"arrow: the stream begins with a {message.type}, not with a schema")
        return pa.ipc.read_schema(message)

    @property
    def options(self) -> RequestOptions:
        """The options of the request; see `schema_options`."""
        return schema_options(self.schema, "arrow")

    @property
    def id_type(self) -> pa.DataType | None:
        """The type of the `id` column, or None."""
        return self.schema.field("id").type if "id" in self.schema.names else None

    @property
    def is_double(self) -> bool:
        """True if the logits are float64."""
        kind = _storage_type(self.schema.field("logits").type)
        return bool((kind.value_type if is_list(kind) else kind) == pa.float64())

    @property
    def has_many_labels(self) -> bool:
        """True if an example can have several labels: its targets are a list, not of fixed length 1."""
        kind = _storage_type(self.schema.field("targets").type)
        return is_list(kind) and not (pa.types.is_fixed_size_list(kind) and kind.list_size == 1)

    def __iter__(self) -> Iterator[Batch]:
        number = 0
        while True:
            with _Decoding(self._source):
                message = self._next_message()
                if message is None:
                    return
                batch = _batch(self._record_batch(message, number), number)
            yield batch
            number += 1

    def _next_message(self) -> Any:
        try:
            return self._messages.read_next_message()
        except StopIteration:
            return None

    def _record_batch(self, message: Any, number: int) -> pa.RecordBatch:
        if message.type != "record batch":
            raise DecodeError(f"arrow: message {number} is a {message.type}, not a record batch")
        size = declared_size(message)
        if size > self._max_message_bytes:
            raise BodyTooLargeError(
                f"batch {number} inflates to {size} bytes, the limit is {self._max_message_bytes} (max_body_bytes)"
            )
        batch = pa.ipc.read_record_batch(message, self.schema)
        batch.validate(full=True)
        return batch


class _LimitedSource:
    """A source that raises if one read is larger than the limit, and stores the error of a failed read."""

    def __init__(self, source: BinaryIO, max_bytes: int) -> None:
        self._source = source
        self._max_bytes = max_bytes
        self.failure: Exception | None = None
        self.closed = False

    def read(self, size: int = -1) -> bytes | bytearray:
        try:
            self._check(size)
            return self._source.read(size)
        except Exception as err:
            self.failure = err
            raise

    def _check(self, size: int) -> None:
        if not 0 <= size <= self._max_bytes:
            raise BodyTooLargeError(
                f"arrow: a message of {size} bytes, the limit is {self._max_bytes} (max_body_bytes)"
            )

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


class _Decoding:
    """Converts errors of pyarrow to DecodeError; if the source has failed, raises the error of the source."""

    def __init__(self, source: _LimitedSource) -> None:
        self._source = source

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, err: BaseException | None, trace: object) -> None:
        failure = self._source.failure or err
        if isinstance(failure, pa.ArrowException | OSError | ValueError | struct.error) and not isinstance(
            failure, LossServiceError
        ):
            raise DecodeError(f"arrow: {failure}") from err
        if failure is not None and failure is not err:
            raise failure


def _storage_type(kind: pa.DataType) -> pa.DataType:
    if isinstance(kind, pa.FixedShapeTensorType):
        if len(kind.shape) != 1 or kind.permutation not in (None, [0]):
            raise InvalidRequestError(f"arrow: a fixed_shape_tensor has one dimension here, got shape {kind.shape}")
        return kind.storage_type
    return kind


def _check_schema(schema: pa.Schema, *, with_attributes: bool) -> None:
    for name in schema.names:
        known = name in COLUMNS or (with_attributes and is_attribute(schema.field(schema.names.index(name)).type))
        if not known or schema.names.count(name) > 1:
            problem = (
                "twice" if known else "unknown" if not with_attributes else "of a type that attributes cannot have"
            )
            msg = f"column {name[:100]!r} is {problem}; accepted are {', '.join(COLUMNS)}"
            raise fault(InvalidRequestError, msg, name[:100], detail=f"arrow: {msg}")
    for name in ("logits", "targets"):
        if name not in schema.names:
            raise fault(InvalidRequestError, "missing", name, detail=f"arrow: column {name} missing")
    logits, targets = (_storage_type(schema.field(name).type) for name in ("logits", "targets"))
    value = logits.value_type if is_list(logits) else logits
    if not pa.types.is_floating(value):
        raise _type_error("logits", logits, "a list of float16, float32 or float64")
    value = targets.value_type if is_list(targets) else targets
    if value not in NUMBERS:
        raise _type_error("targets", targets, "integers, or lists of them; in sigmoid mode floats too")
    if "id" in schema.names:
        identity = schema.field("id").type
        if not (pa.types.is_integer(identity) or pa.types.is_string(identity) or pa.types.is_large_string(identity)):
            raise _type_error("id", identity, "strings or integers")


def _type_error(name: str, kind: pa.DataType, expected: str) -> InvalidRequestError:
    msg = f"column {name} is {expected}, got {kind}"
    return fault(InvalidRequestError, msg, name, detail=f"arrow: {msg}")


def _batch(record_batch: pa.RecordBatch, number: int) -> Batch:
    logits = _array(record_batch.column("logits"), number, "logits", InvalidLogitError)
    targets = _array(record_batch.column("targets"), number, "targets", InvalidTargetError)
    ids = None
    if "id" in record_batch.schema.names:
        column = record_batch.column("id")
        _check_no_nulls(column, number, "ids", InvalidIdsError)
        ids = column.to_pylist()
    others = [name for name in record_batch.schema.names if name not in COLUMNS]
    attributes = {name: attribute_values(record_batch.column(name), name) for name in others}
    return Batch(logits, targets, ids, attributes or None)


def _check_no_nulls(array: pa.Array, number: int, part: str, kind: type[LossServiceError]) -> None:
    if array.null_count:
        row = array.is_null().index(True).as_py()
        raise fault(kind, "null", part, batch=number, row=row, detail=f"{part} is null")


def _array(array: pa.Array, number: int, part: str, kind: type[LossServiceError]) -> Column:
    """The column as an array (N,) or (N, C), without a copy."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    _check_no_nulls(array, number, part, kind)
    rows = len(array)
    if not is_list(array.type):
        _check_int64(array, number, part, kind)
        return _view(array)
    try:
        columns = row_length(array, range(rows), part)
    except RowLengthError as err:
        raise fault(ShapeError, f"row {err.row} of {part} has {err.msg}", part, err.row or 0, batch=number) from err
    values = array.flatten()
    if values.null_count:
        place = values.is_null().index(True).as_py()
        row, column = divmod(place, columns)
        raise fault(kind, "null is not a number", part, batch=number, row=row, column=column)
    return _view(values).reshape(rows, columns)


def _check_int64(array: pa.Array, number: int, part: str, kind: type[LossServiceError]) -> None:
    """Raise for a uint64 that int64 cannot hold."""
    if array.type == pa.uint64() and len(array):
        largest = pc.max(array).as_py()
        if largest >= 2**63:
            row = pc.index(array, pa.scalar(largest, pa.uint64())).as_py()
            raise fault(kind, f"{largest} is too large", part, batch=number, row=row)


def _view(values: pa.Array) -> Column:
    if values.type in CAST_TO_INT64:
        values = values.cast(pa.int64())
    buffer = values.buffers()[1]
    if not len(values) or buffer is None:
        return np.empty(0, values.type.to_pandas_dtype())
    return np.frombuffer(buffer, values.type.to_pandas_dtype(), len(values), values.offset * values.type.byte_width)
