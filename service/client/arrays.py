"""Conversion of numpy, torch, Arrow and DLPack arrays and of lists to tensors for safetensors. Imports only numpy."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from service.errors import InvalidIdsError, InvalidRequestError, InvalidTargetError, ShapeError
from service.formats.ids import ids_of_batch
from service.formats.labels import ClassNames, LabelError, number_labels
from service.formats.places import place_at, place_of
from service.formats.safetensors import DTYPES, Tensor, as_numbers
from service.schema.faults import fault
from service.schema.request import Column, Ids, OnInvalid
from service.schema.structure import Layout

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


def tensor(value: Any, part: str, number: int = 0) -> Tensor:
    """Convert an array, tensor or nested list of numbers for sending.

    Args:
        value: Array, tensor or nested list. float16, bfloat16, float32 and float64 are sent unchanged, lists of numbers
            as float64 or int64. A torch tensor may be on any device and require gradients.
        part: `logits`, `targets`, a statistic or `offsets`. Integer logits are sent as float64.
        number: Number of the batch, for error messages.

    Raises:
        InvalidRequestError: A value is not a number.
        ShapeError: The rows of a list differ in length.
    """
    name, array = named_array(value, part, number)
    if part == "logits" and array.dtype.kind in "iub" and name != "bfloat16":
        name = "float64"
    return _tensor(name, array, part, number)


def targets_tensor(
    value: Any,
    number: int,
    class_names: Sequence[str] | None,
    on_invalid: OnInvalid,
    layout: Layout = "rows",
    offsets: Tensor | None = None,
) -> Tensor:
    """Convert labels. Those that are not signed integers or floats are read by the rule of every format.

    Args:
        value: Array, tensor or nested list of labels.
        number: Number of the batch, for error messages.
        class_names: Names of the classes; None: labels are numbers.
        on_invalid: `exclude` to convert an invalid label to one that the service leaves out.
        layout: Layout of the batch, for error messages.
        offsets: First element of each ragged example, for error messages.

    Raises:
        InvalidTargetError: A label is neither a number nor the name of a class.
    """
    name, array = named_array(value, "targets", number)
    if array.dtype.kind in "if" or name == "bfloat16":
        return _tensor(name, array, "targets", number)
    names = None if class_names is None else ClassNames(class_names)
    array = array if array.dtype.kind in "bu" else array.astype(object)
    try:
        array = number_labels(array.ravel(), names, exclude=on_invalid == "exclude").reshape(array.shape)
    except LabelError as err:
        if offsets is None:
            place = place_of([int(index) for index in np.unravel_index(err.row, array.shape)], layout)
        else:
            place = place_at(err.row, array.shape, numbers_of(offsets))
        raise fault(InvalidTargetError, err.msg, "targets", batch=number, **place) from err
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


def named_array(value: Any, part: str, number: int) -> tuple[str, Column]:
    """Return the name of the dtype and a numpy array; for bfloat16, which numpy lacks, the array holds the bits."""
    if package_of(value) == "torch":
        return _torch_array(value)
    if package_of(value) == "pyarrow":
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


def package_of(value: Any) -> str:
    """Return the name of the package that defines the type of a value."""
    return type(value).__module__.partition(".")[0]


def _torch_array(value: Any) -> tuple[str, Column]:
    torch = sys.modules["torch"]  # imported already, since the value is a tensor
    host = value.detach().cpu()
    name = str(host.dtype).removeprefix("torch.")
    if name == "bfloat16":
        return name, host.contiguous().view(torch.int16).numpy()
    return name, host.numpy()


def numbers_of(sent: Tensor) -> Column:
    """The numbers of a tensor to send, with its shape."""
    return as_numbers(np.frombuffer(sent.data, DTYPES[sent.dtype])).reshape(sent.shape)


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
