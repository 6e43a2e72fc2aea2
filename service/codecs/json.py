"""`application/json`: arrays go from simdjson's tape to numpy without a Python object per number, and in large
bodies the logits do not even go over the tape.

Numbers are float64, as JSON has them. simdjson's `as_buffer` flattens whatever it is given, so the shape is checked
row by row here.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import orjson
import simdjson

from service.codecs.json_logits import Numbers, parted
from service.codecs.json_reply import json_bytes, loss_reply
from service.errors import (
    DecodeError,
    InvalidIdsError,
    InvalidLogitError,
    InvalidRequestError,
    InvalidTargetError,
    LossServiceError,
    ShapeError,
)
from service.formats.arrays import Body
from service.formats.attributes import check_attributes
from service.schema.faults import fault
from service.schema.request import Batch, LossRequest, RequestOptions
from service.schema.result import LossResult

TENSORS = ("logits", "targets", "ids")
OPTIONS = RequestOptions.model_fields.keys()
# Room for one class weight per entry of the largest vocabularies; Python objects are bulky, so there is an end to it.
MAX_OPTION_VALUES = 2**20
MAX_OPTION_FIELDS = 100
UNKNOWN_NAMED = 20
# simdjson keeps the length of an array in 24 bits and stops counting there.
MAX_COUNTED = 2**24 - 1
# A parser's memory is a few times what it has parsed, 12 times where that is short numbers, and costs as much as a
# third of the parsing to get anew. The logits of large bodies are not for it.
PARSERS_KEPT, MAX_KEPT_BYTES = 4, 4 * 1024 * 1024
# The size from which the scanner decodes a body faster than simdjson alone.
MIN_PARTED_BYTES = 64 * 1024


class JsonCodec:
    """Contract section 2, JSON; null stands for a value that is not there or not finite."""

    media_type = "application/json"
    aliases: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._parsers: deque[simdjson.Parser] = deque(maxlen=PARSERS_KEPT)

    def decode(self, body: Body, *, with_attributes: bool = False, max_bytes: int | None = None) -> LossRequest:
        """See `Reader.decode`."""
        parts = parted(body) if len(body) >= MIN_PARTED_BYTES else None
        if parts is not None:
            # What is wrong with a body is said of the whole of it.
            with suppress(LossServiceError):
                return self._parsed(parts.rest, parts.logits, with_attributes)
        return self._parsed(body, {}, with_attributes)

    def _parsed(self, text: Body | bytes, logits: dict[int, Numbers], with_attributes: bool) -> LossRequest:
        try:
            parser = self._parsers.pop()
        except IndexError:
            parser = simdjson.Parser()
        request = _decoded(parser, text, logits, with_attributes)
        # Not after an error, whose traceback keeps parts of the document: a parser with such a document takes no other.
        if len(text) <= MAX_KEPT_BYTES:
            self._parsers.append(parser)
        return request

    def encode(self, result: LossResult) -> bytes:
        """See `Codec.encode`."""
        return json_bytes(loss_reply(result))


def _decoded(
    parser: simdjson.Parser, text: Body | bytes, logits: dict[int, Numbers], with_attributes: bool
) -> LossRequest:
    try:
        document = parser.parse(text)
    except (ValueError, RuntimeError) as err:
        raise DecodeError(f"the body is not JSON: {err}") from err
    if not isinstance(document, simdjson.Object):
        raise InvalidRequestError("the body is a JSON object with logits and targets, or batches")
    reader = _Reader(has_brackets=_brackets(text), logits=logits, with_attributes=with_attributes)
    try:
        request = reader.request(document)
    except RecursionError as err:
        raise DecodeError("the body is JSON nested too deep") from err
    if logits:
        raise DecodeError("arrays of logits stand where no batch has them")
    return request


class _Reader:
    """Reads one parsed document.

    Nested arrays hide from `as_buffer`. They cannot be there when the document has as many opening brackets as arrays
    that were met; a bracket inside a string makes the count too large, and then every row is looked at.

    `logits` has those that were read already, by the integers that stand for them; those that are met are taken out.
    """

    def __init__(self, *, has_brackets: int, logits: dict[int, Numbers], with_attributes: bool) -> None:
        self._logits = logits
        self._parts = (*TENSORS, "attributes") if with_attributes else TENSORS
        self._brackets_left = has_brackets
        self._option_values_left = MAX_OPTION_VALUES
        self._to_check: list[tuple[Any, int, str]] = []
        # JSON has no NaN: null is how a logit that is none is spelled. Only where such rows may be left out does it
        # get as far as the loss, which marks them.
        self._null_is_nan = False

    def request(self, document: Any) -> LossRequest:
        fields = _names(document)
        given = {name: self._plain(document[name]) for name in fields if name in OPTIONS}
        # Named in the error and not looked at: there is no bound on what stands there.
        unknown = [name for name in fields if name not in OPTIONS and name not in (*self._parts, "batches")]
        options = RequestOptions.parse(given | dict.fromkeys(unknown[:UNKNOWN_NAMED]))
        self._null_is_nan = options.on_invalid == "exclude"
        if "batches" in fields:
            for name in self._parts:
                if name in fields:
                    msg = "batches is given as well"
                    raise fault(InvalidRequestError, msg, name, detail=f"give batches or {name}, not both")
            batches = self._batches(document["batches"])
        else:
            batches = (self._batch(document, fields, 0, in_list=False),)
        if self._brackets_left:
            for array, number, part in self._to_check:
                self._check(array, number, part)
        return LossRequest(options, batches)

    def _batches(self, array: Any) -> tuple[Batch, ...]:
        if not isinstance(array, simdjson.Array):
            raise fault(InvalidRequestError, "not a list", "batches", detail="batches is a list of batches")
        self._brackets_left -= 1
        batches = []
        for number, batch in enumerate(array):
            if not isinstance(batch, simdjson.Object):
                detail = f"batch {number} is not an object"
                raise fault(InvalidRequestError, "not an object", "batches", number, detail=detail)
            fields = _names(batch)
            for name in fields:
                if name not in TENSORS:
                    msg = f"unknown field {name[:100]!r}; a batch has {', '.join(TENSORS)}"
                    raise fault(InvalidRequestError, msg, name[:100], batch=number)
            batches.append(self._batch(batch, fields, number, in_list=True))
        return tuple(batches)

    def _batch(self, batch: Any, fields: Collection[str], number: int, *, in_list: bool) -> Batch:
        for name in ("logits", "targets"):
            if name not in fields:
                loc = ("batches", number, name) if in_list else (name,)
                raise fault(InvalidRequestError, "missing", *loc, detail=f"batch {number}: {name} missing")
        logits = self._numbers(batch["logits"], number, "logits", "d")
        try:
            targets = self._numbers(batch["targets"], number, "targets", "i")
        except _NotOfThisTypeError:
            targets = self._numbers(batch["targets"], number, "targets", "d")
        ids = self._ids(batch["ids"], number) if "ids" in fields else None
        attributes = self._attributes(batch["attributes"]) if "attributes" in fields else None
        return Batch(logits, targets, ids, attributes)

    def _attributes(self, value: Any) -> dict[str, list[Any]] | None:
        if isinstance(value, simdjson.Object):
            self._brackets_left -= sum(isinstance(value[name], simdjson.Array) for name in _names(value))
            value = value.as_dict()
        return check_attributes(value)

    def _numbers(self, array: Any, number: int, part: str, kind: str) -> np.ndarray[Any, np.dtype[Any]]:
        """A list of numbers, or of rows of numbers of one length, as an array."""
        if part == "logits" and type(array) is int and array in self._logits:
            return self._logits.pop(array)
        shape = _shape(array, number, part)
        dtype = {"d": np.float64, "i": np.int64}[kind]
        if 0 in shape:
            values = np.empty(shape, dtype)
        else:
            try:
                flat = np.frombuffer(array.as_buffer(of_type=kind), dtype)
            except (TypeError, ValueError) as err:
                if kind == "i":
                    raise _NotOfThisTypeError from err
                self._check(array, number, part)
                if not (self._null_is_nan and part == "logits"):
                    raise DecodeError(f"batch {number}: {part} has a number that float64 cannot hold: {err}") from err
                flat = np.array([np.nan if value is None else value for _, _, value in _cells(array)], dtype)
            if flat.size != math.prod(shape):
                self._check(array, number, part)
            values = flat.reshape(shape)
        self._brackets_left -= 1 if len(shape) == 1 else 1 + shape[0]
        self._to_check.append((array, number, part))
        return values

    def _check(self, array: Any, number: int, part: str) -> None:
        _check_numbers(array, number, part, nulls=self._null_is_nan and part == "logits")

    def _ids(self, array: Any, number: int) -> list[str | int]:
        if not isinstance(array, simdjson.Array):
            raise fault(InvalidIdsError, "not a list", "ids", batch=number, detail="ids is a list")
        self._brackets_left -= 1
        ids: list[str | int] = []
        for row, identity in enumerate(array):
            if not isinstance(identity, str | int) or isinstance(identity, bool):
                msg = f"an id is a string or an integer, got {_named(identity)}"
                raise fault(InvalidIdsError, msg, "ids", batch=number, row=row)
            ids.append(identity)
        return ids

    def _plain(self, value: Any) -> Any:
        """A Python object; takes its arrays off the count of brackets."""
        if isinstance(value, simdjson.Array):
            self._take(len(value))
            self._brackets_left -= 1
            return [self._plain(item) for item in value]
        if isinstance(value, simdjson.Object):
            names = _names(value)
            if len(names) > MAX_OPTION_FIELDS:
                raise InvalidRequestError(f"an object in the options has {len(names)} fields, none takes so many")
            self._take(len(names))
            # A name goes to simdjson as a C string, so none with a NUL in it is found; no option has such a name.
            return {name: None if "\0" in name else self._plain(value[name]) for name in names}
        return value

    def _take(self, count: int) -> None:
        self._option_values_left -= count
        if self._option_values_left < 0:
            raise InvalidRequestError(f"config and the other options have more than {MAX_OPTION_VALUES} values")


class _NotOfThisTypeError(Exception):
    """The numbers are not all integers."""


def _names(fields: Any) -> dict[str, None]:
    """The names of an object's members, in their order, each once."""
    names: dict[str, None] = {}
    for name in fields.keys():  # noqa: SIM118
        if name in names:
            raise DecodeError(f"field {name[:100]!r} stands twice in one object")
        names[name] = None
    return names


def _brackets(body: Body | bytes) -> int:
    # A quarter of the time of body.count, which compares byte by byte.
    return int(np.count_nonzero(np.frombuffer(body, np.uint8) == ord("[")))


def _length(array: Any) -> int:
    length = len(array)
    if length >= MAX_COUNTED:
        ((length, _),) = deque(enumerate(array, start=1), maxlen=1)
    return length


def _shape(array: Any, number: int, part: str) -> tuple[int, ...]:
    if not isinstance(array, simdjson.Array):
        raise fault(InvalidRequestError, "not a list", part, batch=number, detail=f"{part} is a list")
    rows = _length(array)
    if rows == 0 or not isinstance(array[0], simdjson.Array):
        return (rows,)
    columns = _length(array[0])
    # `_length` in line, for all but the longest rows: there may be thousands of them.
    if columns < MAX_COUNTED and {len(row) if type(row) is simdjson.Array else -1 for row in array} == {columns}:
        return rows, columns
    for row, values in enumerate(array):
        found = _length(values) if isinstance(values, simdjson.Array) else None
        if found != columns:
            found_text = "is not a list" if found is None else f"has {found} values"
            msg = f"row {row} of {part} {found_text}, row 0 has {columns}"
            raise fault(ShapeError, msg, part, row, batch=number)
    return rows, columns


def _check_numbers(array: Any, number: int, part: str, *, nulls: bool) -> None:
    """Raise for the first value that is not a number, or null where these are taken, with its place."""
    for row, column, value in _cells(array):
        if nulls and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            kind = InvalidLogitError if part == "logits" else InvalidTargetError
            msg = f"{_named(value)} is not a number"
            raise fault(kind, msg, part, batch=number, row=row, column=column)


def _cells(array: Any) -> Iterator[tuple[int, int | None, Any]]:
    nested = len(array) > 0 and isinstance(array[0], simdjson.Array)
    for row, values in enumerate(array):
        if nested and isinstance(values, simdjson.Array):
            for column, value in enumerate(values):
                yield row, column, value
        else:
            yield row, None, values


def _named(value: Any) -> str:
    if isinstance(value, simdjson.Array | list):
        return "a list"
    if isinstance(value, simdjson.Object | dict):
        return "an object"
    return orjson.dumps(value).decode()[:100]
