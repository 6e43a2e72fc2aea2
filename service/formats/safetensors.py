"""The safetensors format: tensors are read as views without a copy, and one result always has the same bytes.

The format (huggingface/safetensors, README "Format", and safetensors/src/tensor.rs): `u64` little-endian length of the
header, the header as a JSON object, then the bytes of the tensors without gaps or overlaps. The library's
`deserialize` copies every tensor, and its `save` writes the metadata in an order that changes from call to call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import orjson

from service.formats.arrays import Body, are_sizes, array_view, overflows
from service.schema.request import Column

MAX_HEADER_BYTES = 16 * 1024 * 1024
# The limit of the safetensors library.
LARGEST_HEADER_BYTES = 100_000_000
MAX_TENSORS = 4096
LENGTH_BYTES = 8
# NumPy has no bfloat16: arrays of this dtype hold its bits, see `as_numbers`.
BFLOAT16_BITS = np.dtype("V2")
DTYPES: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": BFLOAT16_BITS,
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype(np.bool_),
    "C64": np.dtype("<c8"),
}
NAMES = {dtype.str: name for name, dtype in DTYPES.items() if dtype.kind != "V"}


class Tensor(NamedTuple):
    """A tensor to write.

    Args:
        dtype: Name of the dtype in safetensors, e.g. `F32` or `BF16`.
        shape: Its dimensions.
        data: Little-endian numbers, C-contiguous.
    """

    dtype: str
    shape: tuple[int, ...]
    data: memoryview

    @classmethod
    def of(cls, array: Column) -> Tensor:
        """The tensor of an array with one of the dtypes of `NAMES`; a contiguous array is not copied."""
        return cls(NAMES[array.dtype.str], array.shape, np.ascontiguousarray(array).data)


class Entry(NamedTuple):
    """A tensor in the header: its bytes are those from `begin` to `end` of the data behind the header."""

    name: str
    begin: int
    end: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class Header(NamedTuple):
    """The tensors of a file in the order of their bytes, and its metadata."""

    entries: tuple[Entry, ...]
    metadata: Mapping[str, str]


def file_parts(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> list[bytes | memoryview]:
    """The bytes of a file in pieces; the largest items first, then by name, so that every tensor is aligned.

    Args:
        tensors: Tensors by name.
        metadata: Written in the order of the mapping.
    """
    ordered = sorted(tensors.items(), key=lambda named: (-DTYPES[named[1].dtype].itemsize, named[0]))
    header: dict[str, object] = {"__metadata__": metadata}
    position = 0
    for name, tensor in ordered:
        end = position + tensor.data.nbytes
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [position, end]}
        position = end
    text = orjson.dumps(header)
    text += b" " * (-len(text) % LENGTH_BYTES)
    return [len(text).to_bytes(LENGTH_BYTES, "little"), text, *(tensor.data for _, tensor in ordered)]


def write_safetensors(arrays: Mapping[str, Column], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a file; see `file_parts`."""
    return b"".join(file_parts({name: Tensor.of(array) for name, array in arrays.items()}, metadata))


def read_safetensors(
    content: bytes | Body, parse: Callable[[bytes], Header] | None = None, max_header_bytes: int = MAX_HEADER_BYTES
) -> tuple[dict[str, Column], Mapping[str, str]]:
    """Read the tensors and the metadata of a file in memory.

    Args:
        content: The whole file; the tensors are views into it, except for those whose offset does not fit their dtype.
        parse: Parses the header; `parse_header` by default.
        max_header_bytes: Limit of the header, whose JSON takes several times as much memory.

    Raises:
        ValueError: The file breaks a rule of the format.
    """
    text, start = _header_text(content, max_header_bytes)
    header = (parse or parse_header)(text)
    size = len(content) - start
    end = 0
    tensors = {}
    for name, begin, end, dtype, shape in header.entries:
        if end > size:
            raise ValueError(f"{name[:100]!r} ends at {end}, the data has {size} bytes")
        tensors[name] = array_view(content, start + begin, dtype, shape)
    if end != size:
        raise ValueError(f"the data has {size} bytes, the tensors {end}")
    return tensors, header.metadata


def _header_text(content: bytes | Body, max_header_bytes: int) -> tuple[bytes, int]:
    """The text of the header, and where the data begins."""
    length = int.from_bytes(content[:LENGTH_BYTES], "little")
    if len(content) < LENGTH_BYTES or length > len(content) - LENGTH_BYTES:
        raise ValueError(f"a header of {length} bytes does not fit a body of {len(content)}")
    if length > max_header_bytes:
        raise ValueError(f"a header of {length} bytes, at most {max_header_bytes} are accepted")
    start = LENGTH_BYTES + length
    text = bytes(memoryview(content)[LENGTH_BYTES:start])
    if not text.startswith(b"{"):
        raise ValueError("the header does not begin with '{'")
    return text, start


def parse_header(
    text: bytes, *, dtypes: Mapping[str, np.dtype[Any]] = DTYPES, loads: Callable[[bytes], Any] = orjson.loads
) -> Header:
    """Parse and check the text of a header.

    Args:
        text: A JSON object.
        dtypes: The accepted dtypes by their names in the format.
        loads: Parses JSON; raises ValueError.

    Raises:
        ValueError: The text breaks a rule of the format, or a tensor has another dtype.
    """
    try:
        header = loads(text)
    except ValueError as err:
        raise ValueError(f"the header is not JSON: {err}") from err
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("__metadata__ maps strings to strings")
    if len(header) > MAX_TENSORS:
        raise ValueError(f"{len(header)} tensors, at most {MAX_TENSORS} are accepted")
    entries = sorted(
        (_entry(name, members, dtypes) for name, members in header.items()), key=lambda entry: (entry.begin, entry.end)
    )
    position = 0
    for entry in entries:
        if entry.begin != position:
            name = repr(entry.name[:100])
            raise ValueError(f"{name} begins at {entry.begin}, the tensor before ends at {position}")
        position = entry.end
    return Header(tuple(entries), MappingProxyType(metadata))


def _entry(name: str, members: object, dtypes: Mapping[str, np.dtype[Any]]) -> Entry:
    """One tensor of the header; dtype, shape and offsets are checked against each other."""
    shown = repr(name[:100])
    if not isinstance(members, dict) or members.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor {shown} needs dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = members["dtype"], members["shape"], members["data_offsets"]
    if not isinstance(dtype, str) or dtype not in dtypes:
        raise ValueError(f"tensor {shown} has dtype {str(dtype)[:20]!r}, accepted are {', '.join(dtypes)}")
    if not are_sizes(shape) or not are_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"tensor {shown} needs a shape and two data_offsets of integers >= 0")
    size = dtypes[dtype].itemsize * math.prod(shape)
    if overflows(shape, dtypes[dtype]):
        raise ValueError(f"tensor {shown} has a shape {shape} that overflows")
    begin, end = offsets
    if end - begin != size:
        raise ValueError(f"tensor {shown} has {end - begin} bytes, its shape {shape} needs {size}")
    return Entry(name, begin, end, dtypes[dtype], tuple(shape))


def as_numbers(array: Column) -> Column:
    """Bits of bfloat16 as float32, which holds each value exactly; other arrays unchanged."""
    if array.dtype != BFLOAT16_BITS:
        return array
    return (np.ascontiguousarray(array).view("<u2").astype(np.uint32) << 16).view(np.float32)
