"""`application/x-safetensors`: tensors are views into the request's body, nothing is copied."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from ml_dtypes import bfloat16

from service.codecs.json_reply import excluded_examples, hardest_examples, json_text
from service.errors import DecodeError, InvalidIdsError, InvalidRequestError, ShapeError
from service.formats.arrays import Body
from service.formats.attributes import check_attributes
from service.formats.safetensors import DTYPES as FILE_DTYPES
from service.formats.safetensors import Header, parse_header, read_safetensors, write_safetensors
from service.formats.strict_json import read_strict_json
from service.schema.faults import fault
from service.schema.request import Batch, Column, Ids, LossRequest, RequestOptions
from service.schema.result import LossResult

CACHED_HEADER_BYTES = 4096
# The accepted dtypes of tensors.
DTYPES = {
    name: FILE_DTYPES[name] for name in ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL")
} | {"BF16": np.dtype(bfloat16)}
LOGIT_DTYPES = tuple(DTYPES[name] for name in ("F64", "F32", "F16", "BF16"))
# Exact types: isinstance would accept a bool as an int.
ID_TYPES = frozenset((str, int))
NAME = re.compile(r"(logits|targets|ids)(?:\.(0|[1-9][0-9]{0,8}))?")


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

    def decode(self, body: Body, *, with_attributes: bool = False, max_bytes: int | None = None) -> LossRequest:
        """See `Reader.decode`."""
        try:
            tensors, metadata = read_safetensors(body, _parse_header)
        except ValueError as err:
            raise DecodeError(f"safetensors: {err}") from err
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
            tensors[f"per_example.{name}"] = _concatenated(name, [batch.per_example[name] for batch in batches])
        metadata = {
            "config_id": result.config_id,
            "device": result.device,
            "hardest": json_text(hardest_examples(result)),
            "excluded": json_text(excluded_examples(result)),
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


def _ids_in_json(fields: dict[str, Any]) -> dict[int, Any]:
    """Remove the ids from the JSON of a request, by batch: strings cannot be in tensors."""
    ids_of: dict[int, Any] = {}
    if "ids" in fields and "batches" in fields:
        msg = "batches is given as well"
        raise fault(InvalidRequestError, msg, "ids", detail="give batches or ids, not both")
    if "ids" in fields:
        ids_of[0] = fields.pop("ids")
    batches = fields.pop("batches", [])
    if not isinstance(batches, list) or not all(
        isinstance(batch, dict) and batch.keys() <= {"ids"} for batch in batches
    ):
        detail = "safetensors: batches in the metadata 'request' may only have ids; logits and targets are tensors"
        raise fault(InvalidRequestError, "only ids are allowed here", "batches", detail=detail)
    ids_of.update({number: batch["ids"] for number, batch in enumerate(batches) if "ids" in batch})
    for number, ids in ids_of.items():
        if not isinstance(ids, list) or not ID_TYPES.issuperset(map(type, ids)):
            msg = "not a list of strings or integers"
            detail = "ids is a list of strings or integers"
            raise fault(InvalidIdsError, msg, "ids", batch=number, detail=detail)
    return ids_of


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
        raise InvalidRequestError(f"the metadata has ids for batch {max(ids_of)}, there are {len(parts)} batches")
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
            raise fault(InvalidIdsError, "ids are both a tensor and in the metadata", "ids", batch=number)
        if tensor.dtype.kind not in "iu" or tensor.ndim != 1:
            raise fault(InvalidIdsError, "an ids tensor is one-dimensional and of integers", "ids", batch=number)
        ids = tensor.tolist()
    return Batch(part["logits"], part["targets"], ids)
