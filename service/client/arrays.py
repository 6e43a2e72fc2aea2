"""Conversion of numpy, torch, Arrow and DLPack arrays and of lists to tensors for safetensors. Imports only numpy."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.errors import InvalidIdsError, InvalidRequestError, InvalidTargetError, ShapeError
from service.formats.safetensors import Tensor
from service.schema.faults import fault
from service.schema.request import Column, Ids

WIRE_DTYPES = {
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "uint8": "U8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
}
# For each dtype that the service does not accept, the smallest accepted one that can hold all its values.
WIDENED = {"bool": "uint8", "int8": "int16", "uint16": "int32", "uint32": "int64", "uint64": "int64"}
ID_COLUMNS = ("id", "ids")


@dataclass(frozen=True, eq=False)
class SentBatch:
    """A batch to send. The ids are not sent with `POST /loss`: the client puts them into the result."""

    logits: Tensor
    targets: Tensor
    ids: Ids | None

    @property
    def num_examples(self) -> int:
        return self.logits.shape[0] if self.logits.shape else 0

    @property
    def nbytes(self) -> int:
        return self.logits.data.nbytes + self.targets.data.nbytes

    def copy(self) -> SentBatch:
        """Return a batch with copied data, so that the caller can reuse the arrays."""
        logits, targets = (
            Tensor(tensor.dtype, tensor.shape, memoryview(bytes(tensor.data))) for tensor in (self.logits, self.targets)
        )
        return SentBatch(logits, targets, self.ids)


def sent_batch(batch: Any, number: int = 0) -> SentBatch:
    """Convert a batch for sending.

    Args:
        batch: `(logits, targets)`, `(logits, targets, ids)`, or a mapping or Arrow table with columns of these names.
        number: Position in the request, for error messages.

    Raises:
        InvalidRequestError: The batch has none of these forms, or contains values that are not numbers.
        ShapeError: Rows of different lengths, or the number of ids is not the number of rows.
        InvalidIdsError: An id is not unique, or neither a string nor an integer.
    """
    if _package(batch) == "pyarrow":
        return _sent(*_arrow_parts(batch, number), number)
    if isinstance(batch, Mapping):
        ids = next((batch[name] for name in ID_COLUMNS if name in batch), None)
        return _sent(_member(batch, "logits", number), _member(batch, "targets", number), ids, number)
    if isinstance(batch, Sequence) and len(batch) in (2, 3):
        logits, targets, ids = (*batch, None)[:3]
        return _sent(logits, targets, ids, number)
    raise InvalidRequestError(
        f"batch {number}: a batch is (logits, targets), (logits, targets, ids), a mapping or an Arrow table, "
        f"got {type(batch).__name__}"
    )


def _member(batch: Mapping[str, Any], name: str, number: int) -> Any:
    if name not in batch:
        raise fault(InvalidRequestError, "missing", name, batch=number, detail=f"{name} missing")
    return batch[name]


def _sent(logits: Any, targets: Any, ids: Any, number: int) -> SentBatch:
    sent = tensor(logits, "logits", number), tensor(targets, "targets", number)
    rows = sent[0].shape[0] if sent[0].shape else 0
    return SentBatch(*sent, None if ids is None else check_ids(ids, rows, number))


def tensor(value: Any, part: str, number: int = 0) -> Tensor:
    """Convert an array, tensor or nested list for sending.

    Args:
        value: Array, tensor or nested list. float16, bfloat16, float32 and float64 are sent unchanged, lists of numbers
            as float64 or int64. A torch tensor may be on any device and require gradients.
        part: `logits` or `targets`. Integer logits are sent as float64.
        number: Number of the batch, for error messages.

    Raises:
        InvalidRequestError: A value is not a number.
        ShapeError: The rows of a list differ in length.
        InvalidTargetError: An unsigned target is 2^63 or more.
    """
    name, array = _named_array(value, part, number)
    if part == "logits" and array.dtype.kind in "iub" and name != "bfloat16":
        name = "float64"
    elif array.dtype.kind == "f" and name not in WIRE_DTYPES:
        name = "float64"  # numpy's longdouble
    name = WIDENED.get(name, name)
    if name not in WIRE_DTYPES:
        raise fault(InvalidRequestError, f"{part} are numbers, got {name}", part, batch=number)
    if array.dtype == np.uint64 and name == "int64" and array.size and int(array.max()) >= 2**63:
        raise InvalidTargetError(f"batch {number}: target {array.max()} is outside int64")
    if name != "bfloat16":
        array = array.astype(np.dtype(name).newbyteorder("<"), copy=False)
    flat = np.ascontiguousarray(array).reshape(-1)
    return Tensor(WIRE_DTYPES[name], array.shape, flat.view(np.uint8).data)


def _named_array(value: Any, part: str, number: int) -> tuple[str, Column]:
    """Return the name of the dtype and a numpy array; for bfloat16, which numpy lacks, the array holds the bits."""
    if _package(value) == "torch":
        return _torch_array(value)
    if _package(value) == "pyarrow":
        array = _arrow_array(value, part, number)
        return array.dtype.name, array
    try:
        only_dlpack = hasattr(value, "__dlpack__") and not hasattr(value, "__array__")
        array = np.from_dlpack(value) if only_dlpack else np.asarray(value)
    except (ValueError, TypeError, BufferError, RuntimeError) as err:
        raise _not_an_array(value, part, number, err) from err
    # The bfloat16 of ml_dtypes, which JAX uses.
    return array.dtype.name, array.view(np.uint16) if array.dtype.name == "bfloat16" else array


def _not_an_array(value: Any, part: str, number: int, err: Exception) -> InvalidRequestError:
    rows = value if isinstance(value, Sequence) else ()
    lengths = [len(row) if isinstance(row, Sequence) else None for row in rows]
    for row, length in enumerate(lengths):
        if length != lengths[0]:
            width = "is a number" if length is None else f"has {length} values"
            msg = f"row {row} of {part} {width}, row 0 has {lengths[0] if lengths[0] is not None else 'none'}"
            return fault(ShapeError, msg, part, row, batch=number)
    return InvalidRequestError(f"batch {number}: {part} cannot be read as an array: {err}")


def _package(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def _torch_array(value: Any) -> tuple[str, Column]:
    torch = sys.modules["torch"]  # imported already, since the value is a tensor
    host = value.detach().cpu()
    name = str(host.dtype).removeprefix("torch.")
    if name == "bfloat16":
        return name, host.contiguous().view(torch.int16).numpy()
    return name, host.numpy()


def _arrow_parts(table: Any, number: int) -> tuple[Any, Any, Any]:
    names = getattr(getattr(table, "schema", None), "names", None)
    if names is None:
        raise InvalidRequestError(f"batch {number}: a batch is a table or record batch, got {type(table).__name__}")
    columns = {name: table.column(name) for name in ("logits", "targets", *ID_COLUMNS) if name in names}
    logits, targets = (_member(columns, name, number) for name in ("logits", "targets"))
    ids = next((columns[name].to_pylist() for name in ID_COLUMNS if name in columns), None)
    return logits, targets, ids


def _arrow_array(column: Any, part: str, number: int) -> Column:
    """Convert an Arrow column to (N,), or a column of lists of one length to (N, C), without a copy if possible."""
    if hasattr(column, "combine_chunks"):
        column = column.combine_chunks()
    column = getattr(column, "storage", column)
    _refuse_nulls(column, part, number, 1)
    rows = len(column)
    if not hasattr(column, "flatten") or not hasattr(column.type, "value_type"):
        return _plain(column)
    if hasattr(column.type, "list_size"):
        width = column.type.list_size
    else:
        lengths = column.value_lengths().to_numpy(zero_copy_only=False)
        width = int(lengths[0]) if rows else 0
        if (lengths != width).any():
            row = int((lengths != width).argmax())
            msg = f"row {row} of {part} has {lengths[row]} values, row 0 has {width}"
            raise fault(ShapeError, msg, part, row, batch=number)
    values = column.flatten()
    _refuse_nulls(values, part, number, width)
    return _plain(values).reshape(rows, width)


def _plain(column: Any) -> Column:
    values: Column = column.to_numpy(zero_copy_only=False)
    return values


def _refuse_nulls(column: Any, part: str, number: int, width: int) -> None:
    if column.null_count:
        row = int(column.is_null().to_numpy(zero_copy_only=False).argmax()) // width
        raise fault(InvalidRequestError, f"{part} is null", part, batch=number, row=row)


def as_plain(value: Any) -> Any:
    """Convert an array, tensor or numpy scalar to lists and numbers. Other values are returned unchanged."""
    return value.tolist() if hasattr(value, "tolist") else value


def check_ids(ids: Any, rows: int, number: int = 0) -> Ids:
    """Validate ids and return them as a list of strings or integers.

    Args:
        ids: A list, array or tensor.
        rows: Number of rows of the batch.
        number: Number of the batch, for error messages.

    Raises:
        InvalidIdsError: An id is not unique, or neither a string nor an integer.
        ShapeError: The number of ids is not `rows`.
    """
    values: Ids = list(as_plain(ids))
    if len(values) != rows:
        raise fault(ShapeError, f"{len(values)} ids for {rows} rows of logits", "ids", batch=number)
    row_of: dict[str | int, int] = {}
    for row, identity in enumerate(values):
        if type(identity) not in (str, int):
            msg = f"an id is a string or an integer, got {str(identity)[:100]!r}"
            raise fault(InvalidIdsError, msg, "ids", batch=number, row=row)
        if row_of.setdefault(identity, row) != row:
            msg = f"id {str(identity)[:100]!r} is already that of row {row_of[identity]}"
            raise fault(InvalidIdsError, msg, "ids", batch=number, row=row)
    return values
