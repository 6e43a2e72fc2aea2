"""`application/x-safetensors`: tensors are views into the request's body, nothing is copied.

The library's own `deserialize` copies every tensor, so the header is read here, by the rules of the format
(huggingface/safetensors, README "Format" and safetensors/src/tensor.rs): `u64` little-endian header length, a JSON
object, then the tensors' bytes without holes or overlaps. The library's `save` writes the metadata in an order that
changes from call to call; replies are written here as well, so that one result always has the same bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import starmap
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import orjson
from ml_dtypes import bfloat16

from service.codecs.json import check_attributes, excluded_to_json, hardest_to_json
from service.errors import DecodeError, InvalidIdsError, InvalidRequestError, ShapeError
from service.formats.arrays import Body, array_view, overflows
from service.formats.strict_json import read_strict_json
from service.schema.faults import fault
from service.schema.request import Batch, Column, Ids, LossRequest, RequestOptions
from service.schema.result import LossResult

MAX_HEADER_BYTES = 16 * 1024 * 1024
MAX_TENSORS = 4096
KEPT_HEADER_BYTES = 4096
DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
WRITTEN = {"<f4": "F32", "<f8": "F64", "<i8": "I64"}
LOGIT_DTYPES = tuple(DTYPES[name] for name in ("F64", "F32", "F16", "BF16"))
# A set of types, since a truth value is an int to isinstance.
ID_TYPES = frozenset((str, int))
NAME = re.compile(r"(logits|targets|ids)(?:\.(0|[1-9][0-9]{0,8}))?")


class _Entry(NamedTuple):
    """A tensor: from `begin` to `end` in the data."""

    name: str
    begin: int
    end: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class SafetensorsCodec:
    """Contract section 2, safetensors; what is no tensor stands as JSON under the metadata key `request`."""

    media_type = "application/x-safetensors"
    aliases: tuple[str, ...] = ("application/vnd.safetensors",)

    def decode(self, body: Body, *, with_attributes: bool = False, max_bytes: int | None = None) -> LossRequest:
        """See `Reader.decode`."""
        tensors, metadata = read_safetensors(body)
        unknown = metadata.keys() - {"request", "format"}
        if unknown:
            raise InvalidRequestError(f"unknown metadata key {sorted(unknown)[0][:100]!r}; known is 'request'")
        fields = _request_fields(metadata.get("request", "{}"))
        ids_of = _ids_in_json(fields)
        attributes = check_attributes(fields.pop("attributes", None)) if with_attributes else None
        options, batches = RequestOptions.parse(fields), _batches(tensors, ids_of)
        if attributes is not None:
            if len(batches) != 1:
                raise InvalidRequestError(f"attributes go with one batch, there are {len(batches)}")
            batches = (replace(batches[0], attributes=attributes),)
        return LossRequest(options, batches)

    def encode(self, result: LossResult) -> bytes:
        """See `Codec.encode`."""
        batches = result.batches
        tensors: dict[str, Column] = {
            "loss": np.array(_number(result.loss)),
            "batch_loss": np.array([_number(batch.loss) for batch in batches], np.float64),
            "batch_loss_sum": np.array([batch.loss_sum for batch in batches], np.float64),
            "batch_alpha_sum": np.array([batch.alpha_sum for batch in batches], np.float64),
            "batch_num_examples": np.array([batch.num_examples for batch in batches], np.int64),
            "batch_num_ignored": np.array([batch.num_ignored for batch in batches], np.int64),
            "batch_num_excluded": np.array([batch.num_excluded for batch in batches], np.int64),
        }
        for name in batches[0].per_example if batches else ():
            tensors[f"per_example.{name}"] = _joined(name, [batch.per_example[name] for batch in batches])
        metadata = {
            "config_id": result.config_id,
            "device": result.device,
            "hardest": _json_text(hardest_to_json(result)),
            "excluded": _json_text(excluded_to_json(result)),
        }
        return write_safetensors(tensors, metadata)


def _joined(name: str, columns: list[Column]) -> Column:
    """One output of all batches; only a `prediction` of several labels has a second dimension."""
    for number, column in enumerate(columns):
        if column.shape[1:] != columns[0].shape[1:]:
            msg = f"{name} has another number of labels than in batch 0, and one tensor cannot hold both: ask for JSON"
            raise fault(ShapeError, msg, "logits", batch=number)
    return np.concatenate(columns)


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _json_text(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def write_safetensors(tensors: dict[str, Column], metadata: dict[str, str]) -> bytes:
    """A safetensors file; the largest items first, then by name, so that every tensor is aligned.

    Args:
        tensors: float32, float64 or int64.
        metadata: Written in the order given.
    """
    ordered = sorted(tensors.items(), key=lambda named: (-named[1].itemsize, named[0]))
    header: dict[str, Any] = {"__metadata__": metadata}
    position = 0
    for name, array in ordered:
        offsets = [position, position + array.nbytes]
        header[name] = {"dtype": WRITTEN[array.dtype.str], "shape": array.shape, "data_offsets": offsets}
        position = offsets[1]
    text = orjson.dumps(header)
    text += b" " * (-len(text) % 8)
    parts = [len(text).to_bytes(8, "little"), text]
    return b"".join([*parts, *(np.ascontiguousarray(array).data for _, array in ordered)])


def read_safetensors(body: Body) -> tuple[dict[str, Column], Mapping[str, str]]:
    """Tensors and metadata of a safetensors file in memory.

    Args:
        body: The whole file; the tensors are views into it, but for those whose offset does not fit their dtype.

    Raises:
        DecodeError: It breaks a rule of the format, or has a dtype that no tensor here may have.
    """
    text, start = _header(body)
    entries, metadata = (_kept_layout if len(text) <= KEPT_HEADER_BYTES else _layout)(text)
    size = len(body) - start
    end = 0
    tensors = {}
    for name, begin, end, dtype, shape in entries:
        if end > size:
            raise DecodeError(f"safetensors: {name[:100]!r} ends at {end}, the data has {size} bytes")
        tensors[name] = array_view(body, start + begin, dtype, shape)
    if end != size:
        raise DecodeError(f"safetensors: the data has {size} bytes, the tensors {end}")
    return tensors, metadata


def _layout(text: bytes) -> tuple[tuple[_Entry, ...], Mapping[str, str]]:
    """What a header says: the tensors in the order of their bytes, and the metadata."""
    try:
        header = read_strict_json(text)
    except ValueError as err:
        raise DecodeError(f"safetensors: the header is not JSON: {err}") from err
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise DecodeError("safetensors: __metadata__ maps strings to strings")
    if len(header) > MAX_TENSORS:
        raise DecodeError(f"safetensors: {len(header)} tensors, at most {MAX_TENSORS} are taken")
    entries = sorted(starmap(_entry, header.items()), key=lambda entry: (entry.begin, entry.end))
    position = 0
    for entry in entries:
        if entry.begin != position:
            shown = repr(entry.name[:100])
            raise DecodeError(f"safetensors: {shown} begins at {entry.begin}, the tensor before ends at {position}")
        position = entry.end
    return tuple(entries), MappingProxyType(metadata)


# A client sends batches of one size, and with them the same header.
_kept_layout = lru_cache(maxsize=64)(_layout)


def _header(body: Body) -> tuple[bytes, int]:
    """The text of the header, and where the data begins."""
    prefix = 8
    length = int.from_bytes(body[:prefix], "little")
    if len(body) < prefix or length > len(body) - prefix:
        raise DecodeError(f"safetensors: a header of {length} bytes does not fit a body of {len(body)}")
    if length > MAX_HEADER_BYTES:
        raise DecodeError(f"safetensors: a header of {length} bytes, at most {MAX_HEADER_BYTES} are taken")
    text = bytes(memoryview(body)[prefix : prefix + length])
    if not text.startswith(b"{"):
        raise DecodeError("safetensors: the header does not begin with '{'")
    return text, prefix + length


def _entry(name: str, entry: Any) -> _Entry:
    """One tensor, what is said of it checked against each other."""
    shown = repr(name[:100])
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise DecodeError(f"safetensors: tensor {shown} needs dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise DecodeError(f"safetensors: tensor {shown} has dtype {str(dtype)[:20]!r}, taken are {', '.join(DTYPES)}")
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise DecodeError(f"safetensors: tensor {shown} needs a shape and two data_offsets of integers >= 0")
    size = DTYPES[dtype].itemsize * math.prod(shape)
    if overflows(shape, DTYPES[dtype]):
        raise DecodeError(f"safetensors: tensor {shown} has a shape {shape} that overflows")
    begin, end = offsets
    if end - begin != size:
        raise DecodeError(f"safetensors: tensor {shown} has {end - begin} bytes, its shape {shape} needs {size}")
    return _Entry(name, begin, end, DTYPES[dtype], tuple(shape))


def _are_sizes(values: Any) -> bool:
    return (
        isinstance(values, list)
        and len(values) <= 8
        and all(type(value) is int and 0 <= value < 2**63 for value in values)
    )


def _request_fields(text: str) -> dict[str, Any]:
    try:
        fields = read_strict_json(text.encode())
    except ValueError as err:
        raise DecodeError(f"safetensors: metadata 'request' is not JSON: {err}") from err
    if not isinstance(fields, dict):
        raise InvalidRequestError("safetensors: metadata 'request' is a JSON object")
    return fields


def _ids_in_json(fields: dict[str, Any]) -> dict[int, Any]:
    """Ids that are strings cannot be tensors: taken out of the request's JSON, by batch."""
    found: dict[int, Any] = {}
    if "ids" in fields and "batches" in fields:
        msg = "batches is given as well"
        raise fault(InvalidRequestError, msg, "ids", detail="give batches or ids, not both")
    if "ids" in fields:
        found[0] = fields.pop("ids")
    batches = fields.pop("batches", [])
    if not isinstance(batches, list) or not all(
        isinstance(batch, dict) and batch.keys() <= {"ids"} for batch in batches
    ):
        detail = "safetensors: batches in the metadata 'request' may hold ids only; logits and targets are tensors"
        raise fault(InvalidRequestError, "only ids may stand here", "batches", detail=detail)
    found.update({number: batch["ids"] for number, batch in enumerate(batches) if "ids" in batch})
    for number, ids in found.items():
        if not isinstance(ids, list) or not ID_TYPES.issuperset(map(type, ids)):
            msg = "not a list of strings or integers"
            detail = "ids is a list of strings or integers"
            raise fault(InvalidIdsError, msg, "ids", batch=number, detail=detail)
    return found


def _batches(tensors: dict[str, Column], ids_of: dict[int, Any]) -> tuple[Batch, ...]:
    parts: dict[int, dict[str, Column]] = {}
    numbered = set()
    for name, tensor in tensors.items():
        match = NAME.fullmatch(name)
        if match is None:
            detail = f"unknown tensor {name[:100]!r}; known are logits, targets, ids, each alone or with .0, .1, ..."
            raise fault(InvalidRequestError, "unknown tensor", name[:100], detail=detail)
        numbered.add(match[2] is not None)
        parts.setdefault(int(match[2] or 0), {})[match[1]] = tensor
    if len(numbered) > 1:
        raise InvalidRequestError("name the tensors logits and targets, or logits.0, targets.0, ...; not both")
    if not numbered:
        raise fault(InvalidRequestError, "missing", "logits", detail="logits and targets missing")
    if sorted(parts) != list(range(len(parts))):
        raise InvalidRequestError(f"batches are numbered from 0 without gaps, got {sorted(parts)[:20]}")
    if ids_of and max(ids_of) >= len(parts):
        raise InvalidRequestError(f"ids are given for batch {max(ids_of)}, there are {len(parts)} batches")
    return tuple(_batch(number, parts[number], ids_of.get(number)) for number in range(len(parts)))


def _batch(number: int, part: dict[str, Column], ids: Ids | None) -> Batch:
    for name in ("logits", "targets"):
        if name not in part:
            raise fault(InvalidRequestError, "missing", name, batch=number, detail=f"{name} missing")
    if part["logits"].dtype not in LOGIT_DTYPES:
        msg = f"logits are F16, BF16, F32 or F64, got {part['logits'].dtype}"
        raise fault(InvalidRequestError, msg, "logits", batch=number)
    if "ids" in part:
        tensor = part["ids"]
        if ids is not None:
            raise fault(InvalidIdsError, "ids are given as a tensor and in the metadata", "ids", batch=number)
        if tensor.dtype.kind not in "iu" or tensor.ndim != 1:
            raise fault(InvalidIdsError, "an ids tensor is one-dimensional and of integers", "ids", batch=number)
        ids = tensor.tolist()
    return Batch(part["logits"], part["targets"], ids)
