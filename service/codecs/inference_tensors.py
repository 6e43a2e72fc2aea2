"""The input tensors of the Open Inference Protocol: as JSON, or as bytes behind the JSON.

Binary tensors are views into the body, except for BYTES: each element is its length in 4 bytes, little-endian, and the
bytes of a UTF-8 text.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import Any

import numpy as np
import orjson
from ml_dtypes import bfloat16

from service.errors import DecodeError, InvalidRequestError
from service.formats.arrays import Body, are_sizes, array_view, overflows
from service.formats.part_names import OFFSETS, TENSOR_PART_OF
from service.schema.faults import fault
from service.schema.json_values import JsonObject
from service.schema.request import STATISTIC_PARTS, Column

MAX_NAME = 100
INTEGERS = {f"{sign}INT{bits}": np.dtype(f"{sign}int{bits}".lower()) for sign in ("", "U") for bits in (8, 16, 32, 64)}
FLOATS = {
    "FP16": np.dtype(np.float16),
    "BF16": np.dtype(bfloat16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
}
DATATYPES = {**FLOATS, **INTEGERS, "BOOL": np.dtype(np.bool_), "BYTES": np.dtype(object)}
LARGEST = DATATYPES["FP64"]
BINARY_ONLY = ("FP16", "BF16")
# Types of JSON's values by the kind of a dtype.
JSON_TYPES: dict[str, tuple[type, ...]] = {"f": (int, float), "i": (int,), "u": (int,), "b": (bool,), "O": (str,)}
# Each element of BYTES begins with its length.
LENGTH_BYTES = 4
INPUT_DATATYPES = {
    "logits": (*FLOATS, *INTEGERS),
    "targets": tuple(DATATYPES),
    "ids": ("BYTES", *INTEGERS),
    OFFSETS: tuple(INTEGERS),
    **dict.fromkeys(STATISTIC_PARTS, (*FLOATS, *INTEGERS)),
}
UNSUPPORTED = ("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size", "classification")


def parameters_of(owner: JsonObject, owner_name: str) -> JsonObject:
    """The parameters of a request, an input or an output.

    Raises:
        DecodeError: They are not an object, or one of them is not supported.
    """
    parameters = owner.get("parameters", {})
    if not isinstance(parameters, dict):
        raise DecodeError(f"parameters of {owner_name} are an object")
    for name in UNSUPPORTED:
        # Clients send a classification of 0 for none.
        if parameters.get(name):
            raise DecodeError(f"parameter {name!r} of {owner_name} is not supported")
    return parameters


def read_tensors(entries: list[JsonObject], body: Body, offset: int) -> dict[str, Column]:
    """Read the inputs of a request, by part: `logits`, `targets`, `ids`, `offsets`.

    Args:
        entries: The inputs in the JSON.
        body: The whole body.
        offset: Position of the binary data, which is in the order of the inputs.

    Returns:
        Arrays of the shapes of the inputs; BYTES as objects, which are texts. Integer logits are float64.

    Raises:
        DecodeError: An input breaks the protocol.
        InvalidRequestError: An input or a datatype is not supported.
    """
    tensors: dict[str, Column] = {}
    for entry in entries:
        name = str(entry.get("name"))
        part = TENSOR_PART_OF.get(name)
        if part is None or part in tensors:
            problem = "is unknown" if part is None else f"appears twice: the {part} are given already"
            msg = f"input {name[:MAX_NAME]!r} {problem}; known are {', '.join(INPUT_DATATYPES)}"
            raise fault(InvalidRequestError, msg, "inputs")
        datatype, shape = _datatype(entry, name, part), _shape(entry, name)
        size = parameters_of(entry, f"input {name}").get("binary_data_size")
        if ("data" in entry) == (size is not None):
            raise DecodeError(f"input {name} needs either data or parameters.binary_data_size")
        if size is None:
            tensor = _array_of_json(entry["data"], datatype, shape, name)
        else:
            size = _checked_size(size, datatype, shape, name, len(body) - offset)
            tensor = _array_of_bytes(body, offset, size, datatype, shape, name)
            offset += size
        tensors[part] = tensor.astype(np.float64) if part == "logits" and datatype in INTEGERS else tensor
    if offset != len(body):
        raise DecodeError(f"unexpected additional input data: {len(body) - offset} bytes")
    return tensors


def _checked_size(size: Any, datatype: str, shape: tuple[int, ...], name: str, left: int) -> int:
    needed = math.prod(shape) * DATATYPES[datatype].itemsize
    if type(size) is not int or size < 0 or (size != needed and datatype != "BYTES"):
        needs = "an integer >= 0" if datatype == "BYTES" else f"{needed} for {datatype} of shape {list(shape)}"
        raise DecodeError(f"input {name}: binary_data_size is {str(size)[:MAX_NAME]}, not {needs}")
    if size > left:
        raise DecodeError(f"input {name}: expecting {size - left} additional bytes")
    return size


def _array_of_bytes(body: Body, offset: int, size: int, datatype: str, shape: tuple[int, ...], name: str) -> Column:
    if datatype != "BYTES":
        return array_view(body, offset, DATATYPES[datatype], shape)
    texts: list[str] = []
    content = memoryview(body)[offset : offset + size]
    while content:
        length = int.from_bytes(content[:LENGTH_BYTES], "little")
        text, content = bytes(content[LENGTH_BYTES : LENGTH_BYTES + length]), content[LENGTH_BYTES + length :]
        if len(text) != length:
            raise DecodeError(f"input {name}: element {len(texts)} has {length} bytes, {len(text)} are left")
        texts.append(_text(text, len(texts), name))
    return _objects(_of_shape(texts, shape, name), shape)


def _text(text: bytes, position: int, name: str) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as err:
        raise DecodeError(f"input {name}: element {position} is not UTF-8: {err}") from err


def _objects(values: list[Any], shape: tuple[int, ...]) -> Column:
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape)


def _datatype(entry: JsonObject, name: str, part: str) -> str:
    datatype = entry.get("datatype")
    if datatype not in INPUT_DATATYPES[part]:
        msg = f"input {name} has datatype {str(datatype)[:MAX_NAME]!r}, accepted are {', '.join(INPUT_DATATYPES[part])}"
        raise fault(InvalidRequestError, msg, "inputs", name, "datatype")
    return str(datatype)


def _shape(entry: JsonObject, name: str) -> tuple[int, ...]:
    shape = entry.get("shape")
    if are_sizes(shape) and shape and not overflows(shape, LARGEST):
        return tuple(shape)
    raise DecodeError(f"input {name}: shape is a list of integers >= 0, got {str(shape)[:MAX_NAME]}")


def _array_of_json(data: Any, datatype: str, shape: tuple[int, ...], name: str) -> Column:
    if datatype in BINARY_ONLY:
        raise DecodeError(f"input {name}: {datatype} is accepted as binary data only")
    if not isinstance(data, list):
        raise DecodeError(f"input {name}: data is a list")
    values = _flattened(data, shape, name)
    accepted = JSON_TYPES[DATATYPES[datatype].kind]
    if not {*map(type, values)} <= {*accepted}:
        position = next(position for position, value in enumerate(values) if type(value) not in accepted)
        shown = orjson.dumps(values[position]).decode()[:MAX_NAME]
        raise DecodeError(f"input {name}{_place(position, shape)}: {shown} is not {datatype}")
    if datatype in ("BOOL", "BYTES"):
        return np.array(values, bool).reshape(shape) if datatype == "BOOL" else _objects(values, shape)
    return _numbers(values, datatype, shape, name)


def _numbers(values: list[Any], datatype: str, shape: tuple[int, ...], name: str) -> Column:
    dtype = DATATYPES[datatype]
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            array = np.array(values, np.float64).astype(dtype)
        # JSON has no infinity: an infinite value was a number that the datatype cannot hold.
        outside = np.isinf(array).nonzero()[0].tolist()
    else:
        bounds = np.iinfo(dtype)
        outside = [position for position, value in enumerate(values) if not bounds.min <= value <= bounds.max]
        array = np.array([] if outside else values, dtype)
    if outside:
        value = str(values[outside[0]])[:MAX_NAME]
        raise DecodeError(f"input {name}{_place(outside[0], shape)}: {value} is more than {datatype} can hold")
    return array.reshape(shape)


def _place(position: int, shape: tuple[int, ...]) -> str:
    """Row and column of a value in an array (N,) or (N, C); of other arrays the index after the row."""
    row, *rest = (int(index) for index in np.unravel_index(position, shape))
    if not rest:
        return f", row {row}"
    return f", row {row}, column {rest[0]}" if len(rest) == 1 else f", row {row}, element {rest}"


def _flattened(data: list[Any], shape: tuple[int, ...], name: str) -> list[Any]:
    """The values of data that is flat, or nested exactly as its shape."""
    values = data
    if data and isinstance(data[0], list):
        fits = len(data) == shape[0]
        for size in shape[1:]:
            fits = fits and all(isinstance(row, list) and len(row) == size for row in values)
            values = list(chain.from_iterable(values)) if fits else []
        if not fits:
            raise DecodeError(f"input {name}: the nesting of data does not match its shape {list(shape)}")
    return _of_shape(values, shape, name)


def _of_shape(values: list[Any], shape: tuple[int, ...], name: str) -> list[Any]:
    if len(values) != math.prod(shape):
        raise DecodeError(f"input {name}: data has {len(values)} values, shape {list(shape)} needs {math.prod(shape)}")
    return values
