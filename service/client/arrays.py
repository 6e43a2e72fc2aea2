"""Conversion of numpy, torch, Arrow and DLPack arrays and of lists to tensors for safetensors. Imports only numpy."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.errors import InvalidIdsError, InvalidRequestError, InvalidTargetError, ShapeError
from service.formats.ids import ids_of_batch
from service.formats.labels import ClassNames, LabelError, number_labels
from service.formats.part_names import NamesError, find_name
from service.formats.safetensors import Tensor
from service.schema.faults import fault
from service.schema.request import Column, Ids, OnInvalid

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
WIDENED = {"int8": "int16"}


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


def sent_batch(
    batch: Any, number: int = 0, class_names: Sequence[str] | None = None, on_invalid: OnInvalid = "error"
) -> SentBatch:
    """Convert a batch for sending.

    Args:
        batch: `(logits, targets)`, `(logits, targets, ids)`, or a mapping or table with these columns, which may have
            the other names of `service.formats.part_names`. Tables are those of Arrow, polars, pandas and DuckDB.
        number: Position in the request, for error messages.
        class_names: Names of the classes, for labels that are texts. Without them such a label is a number.
        on_invalid: `exclude` to send an invalid label as one that the service leaves out.

    Raises:
        InvalidRequestError: The batch has none of these forms, or contains logits that are not numbers.
        ShapeError: Rows of different lengths, or the number of ids is not the number of rows.
        InvalidTargetError: A label is neither a number nor the name of a class.
        InvalidIdsError: An id is not unique, or neither a string nor an integer of 64 bits.
    """
    logits, targets, ids = _parts(batch, number)
    sent = tensor(logits, "logits", number), _targets(targets, number, class_names, on_invalid)
    rows = sent[0].shape[0] if sent[0].shape else 0
    return SentBatch(*sent, None if ids is None else check_ids(ids, rows, number))


def has_text_labels(batch: Any) -> bool:
    """Return True if the labels of a batch are texts or other objects, which can be names of classes."""
    if _is_table(batch):
        from service.client.arrow import table_labels

        return table_labels(batch, 0).dtype.kind not in "biuf"
    targets = _parts(batch, 0)[1]
    return _package(targets) != "torch" and _named_array(targets, "targets", 0)[1].dtype.kind not in "biuf"


def _is_table(batch: Any) -> bool:
    return hasattr(batch, "__arrow_c_stream__") or hasattr(batch, "__arrow_c_array__")


def _parts(batch: Any, number: int) -> tuple[Any, Any, Any]:
    """Return the logits, labels and ids of a batch."""
    if _is_table(batch):
        from service.client.arrow import table_parts

        return table_parts(batch, number)
    if isinstance(batch, Mapping):
        logits, targets = (_member(batch, part, number) for part in ("logits", "targets"))
        return logits, targets, _member(batch, "ids", number, required=False)
    if isinstance(batch, Sequence) and len(batch) in (2, 3):
        return (*batch, None)[:3]
    raise InvalidRequestError(
        f"batch {number}: a batch is (logits, targets), (logits, targets, ids), a mapping or a table, "
        f"got {type(batch).__name__}"
    )


def _member(batch: Mapping[str, Any], part: str, number: int, *, required: bool = True) -> Any:
    try:
        name = find_name(part, batch.keys())
    except NamesError as err:
        raise fault(InvalidRequestError, err.msg, part, batch=number) from err
    if name is None and required:
        raise fault(InvalidRequestError, "missing", part, batch=number, detail=f"{part} missing")
    return None if name is None else batch[name]


def tensor(value: Any, part: str, number: int = 0) -> Tensor:
    """Convert an array, tensor or nested list of numbers for sending.

    Args:
        value: Array, tensor or nested list. float16, bfloat16, float32 and float64 are sent unchanged, lists of numbers
            as float64 or int64. A torch tensor may be on any device and require gradients.
        part: `logits` or `targets`. Integer logits are sent as float64.
        number: Number of the batch, for error messages.

    Raises:
        InvalidRequestError: A value is not a number.
        ShapeError: The rows of a list differ in length.
    """
    name, array = _named_array(value, part, number)
    if part == "logits" and array.dtype.kind in "iub" and name != "bfloat16":
        name = "float64"
    return _tensor(name, array, part, number)


def _targets(value: Any, number: int, class_names: Sequence[str] | None, on_invalid: OnInvalid) -> Tensor:
    """Convert labels. Those that are not signed integers or floats are read by the rule of every format."""
    name, array = _named_array(value, "targets", number)
    if array.dtype.kind in "if" or name == "bfloat16":
        return _tensor(name, array, "targets", number)
    names = None if class_names is None else ClassNames(class_names)
    array = array if array.dtype.kind in "bu" else array.astype(object)
    try:
        array = number_labels(array, names, exclude=on_invalid == "exclude")
    except LabelError as err:
        raise fault(InvalidTargetError, err.msg, "targets", batch=number, row=err.row, column=err.column) from err
    return _tensor(array.dtype.name, array, "targets", number)


def _tensor(name: str, array: Column, part: str, number: int) -> Tensor:
    """Convert an array with the dtype of this name, or the smallest that holds it among those of the wire."""
    if array.dtype.kind == "f" and name not in WIRE_DTYPES:
        name = "float64"  # numpy's longdouble
    name = WIDENED.get(name, name)
    if name not in WIRE_DTYPES:
        raise fault(InvalidRequestError, f"{part} are numbers, got {name}", part, batch=number)
    if name != "bfloat16":
        array = array.astype(np.dtype(name).newbyteorder("<"), copy=False)
    flat = np.ascontiguousarray(array).reshape(-1)
    return Tensor(WIRE_DTYPES[name], array.shape, flat.view(np.uint8).data)


def _named_array(value: Any, part: str, number: int) -> tuple[str, Column]:
    """Return the name of the dtype and a numpy array; for bfloat16, which numpy lacks, the array holds the bits."""
    if _package(value) == "torch":
        return _torch_array(value)
    if _package(value) == "pyarrow":
        from service.client.arrow import arrow_labels, arrow_logits

        array = arrow_logits([value], number) if part == "logits" else arrow_labels(value, number)
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


def as_plain(value: Any) -> Any:
    """Convert an array, tensor or numpy scalar to lists and numbers. Other values are returned unchanged."""
    return value.tolist() if hasattr(value, "tolist") else value


def check_ids(ids: Any, rows: int, number: int = 0) -> Ids:
    """Validate ids and return them as a list of strings or integers.

    Args:
        ids: A list, array, tensor or Arrow column of strings or integers of 64 bits, signed or unsigned.
        rows: Number of rows of the batch.
        number: Number of the batch, for error messages.

    Raises:
        InvalidIdsError: An id is not unique, or neither a string nor an integer of 64 bits.
        ShapeError: The number of ids is not `rows`.
    """
    values = list(as_plain(ids))
    if not set(map(type, values)) <= {str, int}:
        # A list can contain the scalars of numpy and torch.
        values = [as_plain(value) for value in values]
    values = ids_of_batch(values, number)
    if len(values) != rows:
        raise fault(ShapeError, f"{len(values)} ids for {rows} rows of logits", "ids", batch=number)
    row_of: dict[str | int, int] = {}
    for row, identity in enumerate(values):
        if row_of.setdefault(identity, row) != row:
            msg = f"id {str(identity)[:100]!r} is already that of row {row_of[identity]}"
            raise fault(InvalidIdsError, msg, "ids", batch=number, row=row)
    return values
