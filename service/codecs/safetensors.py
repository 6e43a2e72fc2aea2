"""`application/x-safetensors`: tensors are views into the request's body, nothing is copied."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from ml_dtypes import bfloat16

from service.codecs.base import DEFAULT_DECODE, DecodeOptions, check_batches
from service.codecs.element_outputs import ElementOutputs
from service.codecs.json_reply import excluded_examples, hardest_examples, json_text, warnings_metadata
from service.errors import (
    DecodeError,
    InvalidIdsError,
    InvalidLogitError,
    InvalidRequestError,
    InvalidTargetError,
    ShapeError,
)
from service.formats.arrays import Body
from service.formats.attributes import check_attributes
from service.formats.ids import described, ids_of_batch
from service.formats.part_names import OFFSETS, PART_NAMES, TENSOR_PART_OF, NamesError, find_name, required_parts
from service.formats.safetensors import DTYPES as FILE_DTYPES
from service.formats.safetensors import Header, parse_header, read_safetensors, write_safetensors
from service.formats.strict_json import read_strict_json
from service.schema.faults import fault
from service.schema.request import NO_LOGITS, STATISTIC_PARTS, Batch, Column, LossRequest, RequestOptions
from service.schema.result import LossResult

CACHED_HEADER_BYTES = 4096
# The accepted dtypes of tensors.
DTYPES = {name: dtype for name, dtype in FILE_DTYPES.items() if dtype.kind != "c"} | {"BF16": np.dtype(bfloat16)}
NAME = re.compile(rf"({'|'.join(TENSOR_PART_OF)})(?:\.(0|[1-9][0-9]{{0,8}}))?")
# Text cannot be in tensors: labels and ids may be in the metadata instead.
PARTS_IN_JSON = ("targets", "ids")


def _parse(text: bytes) -> Header:
    return parse_header(text, dtypes=DTYPES, loads=read_strict_json)


# A client that sends batches of one size sends the same header each time.
_parse_cached = lru_cache(maxsize=64)(_parse)


def _parse_header(text: bytes) -> Header:
    return (_parse_cached if len(text) <= CACHED_HEADER_BYTES else _parse)(text)


class SafetensorsCodec:
    """Safetensors; the members of a request that are not tensors are JSON under the metadata key `request`."""

    media_type = "application/x-safetensors"
    aliases: tuple[str, ...] = ("application/vnd.safetensors",)

    def decode(self, body: Body, options: DecodeOptions = DEFAULT_DECODE) -> LossRequest:
        """See `Reader.decode`."""
        try:
            tensors, metadata = read_safetensors(body, _parse_header)
        except ValueError as err:
            raise DecodeError(f"safetensors: {err}") from err
        unknown = metadata.keys() - {"request", "format"}
        if unknown:
            raise InvalidRequestError(f"unknown metadata key {sorted(unknown)[0][:100]!r}; known is 'request'")
        fields = _request_fields(metadata.get("request", "{}"))
        in_json = _parts_in_json(fields)
        attributes = check_attributes(fields.pop("attributes", None)) if options.with_attributes else None
        request_options, batches = RequestOptions.parse(fields), _batches(tensors, in_json)
        if attributes is not None:
            if len(batches) != 1:
                raise InvalidRequestError(f"attributes go with one batch, there are {len(batches)}")
            batches = (replace(batches[0], attributes=attributes),)
        return LossRequest(request_options, batches)

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
            "batch_num_elements": np.array([batch.num_elements for batch in batches], np.int64),
        }
        for name in batches[0].per_example if batches else ():
            tensors[f"per_example.{name}"] = _concatenated(name, [batch.per_example[name] for batch in batches])
        elements = ElementOutputs.of(result)
        tensors |= elements.tensors
        if elements.offsets is not None:
            tensors[OFFSETS] = elements.offsets
        metadata = {
            "config_id": result.config_id,
            "device": result.device,
            "hardest": json_text(hardest_examples(result)),
            "excluded": json_text(excluded_examples(result)),
            **elements.metadata,
            **warnings_metadata(result),
        }
        return write_safetensors(tensors, metadata)


def _concatenated(name: str, columns: list[Column]) -> Column:
    """One output of all batches; has a second dimension only for the `prediction` of several labels."""
    for number, column in enumerate(columns):
        if column.shape[1:] != columns[0].shape[1:]:
            msg = f"{name} has another number of labels than in batch 0, and one tensor cannot hold both: request JSON"
            raise fault(ShapeError, msg, "logits", batch=number)
    return np.concatenate(columns)


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _request_fields(text: str) -> dict[str, Any]:
    try:
        fields = read_strict_json(text.encode())
    except ValueError as err:
        raise DecodeError(f"safetensors: metadata 'request' is not JSON: {err}") from err
    if not isinstance(fields, dict):
        raise InvalidRequestError("safetensors: metadata 'request' is a JSON object")
    return fields


def _parts_in_json(fields: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Remove the labels and ids from the JSON of a request; by number of the batch, then by part."""
    single = _take_parts(fields, 0)
    if single and "batches" in fields:
        (part, *_) = single
        msg = "batches is given as well"
        raise fault(InvalidRequestError, msg, part, detail=f"give batches or {part}, not both")
    batches = fields.pop("batches", [])
    if not isinstance(batches, list) or not all(isinstance(batch, dict) for batch in batches):
        raise fault(InvalidRequestError, "not a list of objects", "batches", detail="batches is a list of objects")
    check_batches(len(batches))
    parts = {number: _take_parts(batch, number) for number, batch in enumerate(batches)} or {0: single}
    for number, batch in enumerate(batches):
        if batch:
            detail = "in the metadata 'request' a batch may only have targets and ids; the others are tensors"
            name = next(iter(batch))[:100]
            raise fault(InvalidRequestError, f"unknown field {name!r}", name, batch=number, detail=detail)
    return {number: part for number, part in parts.items() if part}


def _take_parts(fields: dict[str, Any], number: int) -> dict[str, Any]:
    """Remove the labels and ids from an object."""
    parts = {}
    for part in PARTS_IN_JSON:
        try:
            name = find_name(part, fields)
        except NamesError as err:
            raise fault(InvalidRequestError, err.msg, part, batch=number) from err
        if name is not None:
            parts[part] = _targets(fields.pop(name), number) if part == "targets" else _ids(fields.pop(name), number)
    return parts


def _targets(values: Any, number: int) -> Column:
    """Labels (N,) or (N, L) of a list."""
    if not isinstance(values, list):
        raise fault(InvalidRequestError, "not a list", "targets", batch=number, detail="targets is a list")
    width = len(values[0]) if values and isinstance(values[0], list) else None
    for row, value in enumerate(values):
        if width is not None and (not isinstance(value, list) or len(value) != width):
            raise fault(ShapeError, f"row {row} of targets is not {width} values", "targets", row, batch=number)
        cells = value if isinstance(value, list) and width is not None else [value]
        if any(isinstance(cell, list | dict) for cell in cells):
            raise fault(InvalidTargetError, f"{described(value)} is not a label", "targets", batch=number, row=row)
    objects = np.empty(len(values) if width is None else (len(values), width), object)
    objects[...] = values
    return objects


def _ids(values: Any, number: int) -> list[str | int]:
    if not isinstance(values, list):
        raise fault(InvalidIdsError, "not a list", "ids", batch=number, detail="ids is a list")
    return ids_of_batch(values, number)


def _batches(tensors: dict[str, Column], in_json: dict[int, dict[str, Any]]) -> tuple[Batch, ...]:
    parts: dict[int, dict[str, Any]] = {}
    numbered = set()
    for name, tensor in tensors.items():
        match = NAME.fullmatch(name)
        if match is None:
            known = ", ".join((*PART_NAMES, OFFSETS))
            detail = f"unknown tensor {name[:100]!r}; known are {known}, each alone or with .0, .1, ..."
            raise fault(InvalidRequestError, "unknown tensor", name[:100], detail=detail)
        numbered.add(match[2] is not None)
        number, part = int(match[2] or 0), TENSOR_PART_OF[match[1]]
        if part in parts.setdefault(number, {}):
            raise fault(InvalidRequestError, f"two tensors are the {part}, one is {name!r}", part, batch=number)
        parts[number][part] = tensor
    if len(numbered) > 1:
        raise InvalidRequestError("name the tensors logits and targets, or logits.0, targets.0, ...; not both")
    if not numbered:
        raise fault(InvalidRequestError, "missing", "logits", detail="logits and targets missing")
    if sorted(parts) != list(range(len(parts))):
        raise InvalidRequestError(f"batches are numbered from 0 without gaps, got {sorted(parts)[:20]}")
    if in_json and max(in_json) >= len(parts):
        raise InvalidRequestError(f"the metadata has batch {max(in_json)}, there are {len(parts)} batches")
    return tuple(_batch(number, parts[number], in_json.get(number, {})) for number in range(len(parts)))


def _batch(number: int, tensors: dict[str, Column], in_json: dict[str, Any]) -> Batch:
    for part in in_json:
        if part in tensors:
            msg = f"{part} are both a tensor and in the metadata"
            raise fault(InvalidIdsError if part == "ids" else InvalidRequestError, msg, part, batch=number)
    parts: dict[str, Any] = tensors | in_json
    for name in required_parts(parts):
        if name not in parts:
            raise fault(InvalidRequestError, "missing", name, batch=number, detail=f"{name} missing")
    ids = parts.get("ids")
    if isinstance(ids, np.ndarray):
        if ids.dtype.kind not in "iu" or ids.ndim != 1:
            raise fault(InvalidIdsError, "an ids tensor is one-dimensional and of integers", "ids", batch=number)
        ids = ids.tolist()
    logits = _logits(parts["logits"], number) if "logits" in parts else NO_LOGITS
    statistics = {name: _numbers(name, parts[name], number) for name in STATISTIC_PARTS if name in parts}
    return Batch(logits, parts["targets"], ids, offsets=parts.get(OFFSETS), statistics=statistics or None)


def _numbers(part: str, tensor: Column, number: int) -> Column:
    if tensor.dtype.kind == "b":
        raise fault(InvalidLogitError, "booleans are not numbers", part, batch=number, row=0)
    return tensor


def _logits(tensor: Column, number: int) -> Column:
    tensor = _numbers("logits", tensor, number)
    return tensor.astype(np.float64) if tensor.dtype.kind in "iu" else tensor
