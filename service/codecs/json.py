"""`application/json`: arrays become NumPy arrays without a Python object per number.

simdjson parses the body, except for the arrays of large bodies, which compiled scanners read (`json_split`). Logits are
float64.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import Any

import orjson
import simdjson

from service.codecs.base import DEFAULT_DECODE, DecodeOptions, check_batches, check_rows
from service.codecs.json_arrays import count_brackets, describe
from service.codecs.json_reply import json_bytes, loss_reply
from service.codecs.json_size import MAX_TENSOR_VALUES, check_size
from service.codecs.json_split import SplitBody, split_arrays
from service.codecs.json_tensors import TensorReader
from service.errors import (
    DecodeError,
    InvalidIdsError,
    InvalidRequestError,
    LossServiceError,
)
from service.formats.arrays import Body
from service.formats.attributes import check_attribute_count, check_attributes
from service.formats.part_names import PART_NAMES, PART_OF, required_parts, two_names
from service.schema.faults import fault
from service.schema.request import Batch, LossRequest, RequestOptions
from service.schema.result import LossResult

OPTIONS = RequestOptions.model_fields.keys()
# One class weight per entry of the largest vocabularies; limited because they become Python objects.
MAX_OPTION_VALUES = 2**20
MAX_OPTION_FIELDS = 100
UNKNOWN_LISTED = 20
# Parsers for reuse, and the largest body after which a parser is kept. A parser holds a few times the memory of the
# text that it has parsed, 12 times if that is short numbers; to allocate it takes a third of the time of parsing.
MAX_PARSERS, MAX_KEPT_BYTES = 4, 4 * 1024 * 1024
# Size of a body from which the scanner is faster than simdjson alone.
MIN_SPLIT_BYTES = 64 * 1024


class JsonCodec:
    """JSON; a missing or non-finite value is null."""

    media_type = "application/json"
    aliases: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._parsers: deque[simdjson.Parser] = deque(maxlen=MAX_PARSERS)

    def decode(self, body: Body, options: DecodeOptions = DEFAULT_DECODE) -> LossRequest:
        """See `Reader.decode`."""
        split = split_arrays(body) if len(body) >= MIN_SPLIT_BYTES else None
        if split is not None:
            # If this fails, the whole body is parsed for the error message.
            with suppress(LossServiceError):
                return self._parse(split, options)
        return self._parse(SplitBody.whole(body), options)

    def _parse(self, body: SplitBody, options: DecodeOptions) -> LossRequest:
        # simdjson takes 24 bytes for a value of two.
        check_size(body.rest, MAX_TENSOR_VALUES)
        try:
            parser = self._parsers.pop()
        except IndexError:
            parser = simdjson.Parser()
        request = _decode(parser, body, options)
        # After an error the parser is lost: the traceback refers to its document, so it cannot parse another one.
        if len(body.rest) <= MAX_KEPT_BYTES:
            self._parsers.append(parser)
        return request

    def encode(self, result: LossResult) -> bytes:
        """See `Codec.encode`."""
        return json_bytes(loss_reply(result))


def _decode(parser: simdjson.Parser, body: SplitBody, options: DecodeOptions) -> LossRequest:
    try:
        document = parser.parse(body.rest)
    except (ValueError, RuntimeError) as err:
        raise DecodeError(f"the body is not JSON: {err}") from err
    if not isinstance(document, simdjson.Object):
        raise InvalidRequestError("the body is a JSON object with logits and targets, or batches")
    reader = _Reader(body, options)
    try:
        request = reader.request(document)
    except RecursionError as err:
        raise DecodeError("the body is JSON nested too deep") from err
    if body.arrays:
        raise DecodeError("arrays named logits, targets or log_odds are outside of the batches")
    return request


class _Reader:
    """Reads a request from one parsed document.

    `as_buffer` does not report arrays nested too deep. There are none if the document has as many opening brackets as
    the reader has seen arrays. A bracket in a string makes the count too large; then every value is checked.

    Args:
        body: The body of the document; the reader removes the arrays that it finds.
        options: See `DecodeOptions`; the limit of the rows is that of a batch.
    """

    def __init__(self, body: SplitBody, options: DecodeOptions) -> None:
        self._body = body
        self._with_attributes, self._max_rows = options.with_attributes, options.max_rows
        self._brackets_left = count_brackets(body.rest)
        self._option_values_left = MAX_OPTION_VALUES

    def request(self, document: Any) -> LossRequest:
        """The request in the document."""
        fields = _names(document)
        members: dict[str, Any] = {}
        parts: dict[str, str] = {}
        unknown: list[str] = []
        for name in fields:
            part = PART_OF.get(name)
            if part is not None:
                _add_part(parts, part, name, None)
            elif name in OPTIONS:
                members[name] = self._plain(document[name])
            elif name == "attributes" and self._with_attributes:
                parts[name] = name
            elif name != "batches":
                unknown.append(name)
        # The error lists the unknown fields; their values are not read, because they have no limit.
        options = RequestOptions.parse(members | dict.fromkeys(unknown[:UNKNOWN_LISTED]))
        tensors = TensorReader(options, self._body.arrays, self._max_rows)
        if "batches" in fields:
            for name in parts.values():
                msg = "batches is given as well"
                raise fault(InvalidRequestError, msg, name, detail=f"give batches or {name}, not both")
            batches = self._batches(document["batches"], tensors)
        else:
            batches = (self._batch(document, parts, 0, tensors, in_list=False),)
        if self._brackets_left != tensors.num_lists:
            tensors.check_all()
        return LossRequest(options, batches)

    def _batches(self, array: Any, tensors: TensorReader) -> tuple[Batch, ...]:
        if not isinstance(array, simdjson.Array):
            raise fault(InvalidRequestError, "not a list", "batches", detail="batches is a list of batches")
        check_batches(len(array))
        self._brackets_left -= 1
        batches = []
        for number, batch in enumerate(array):
            if not isinstance(batch, simdjson.Object):
                detail = f"batch {number} is not an object"
                raise fault(InvalidRequestError, "not an object", "batches", number, detail=detail)
            parts: dict[str, str] = {}
            for name in _names(batch):
                part = PART_OF.get(name)
                if part is None:
                    msg = f"unknown field {name[:100]!r}; a batch has {', '.join(PART_NAMES)}"
                    raise fault(InvalidRequestError, msg, name[:100], batch=number)
                _add_part(parts, part, name, number)
            batches.append(self._batch(batch, parts, number, tensors, in_list=True))
        return tuple(batches)

    def _batch(self, batch: Any, parts: dict[str, str], number: int, tensors: TensorReader, *, in_list: bool) -> Batch:
        for name in required_parts(parts):
            if name not in parts:
                loc = ("batches", number, name) if in_list else (name,)
                raise fault(InvalidRequestError, "missing", *loc, detail=f"batch {number}: {name} missing")
        logits, targets, offsets, statistics = tensors.read(batch, parts, number)
        ids = self._ids(batch[parts["ids"]], number) if "ids" in parts else None
        attributes = self._attributes(batch["attributes"]) if "attributes" in parts else None
        return Batch(logits, targets, ids, attributes, offsets, statistics)

    def _attributes(self, value: Any) -> dict[str, list[Any]] | None:
        if isinstance(value, simdjson.Object):
            names = _names(value)
            # A lookup takes time for each member before it.
            check_attribute_count(len(names))
            self._brackets_left -= sum(isinstance(value[name], simdjson.Array) for name in names)
            value = {name: self._attribute(item) for name, item in value.as_dict().items()}
        return check_attributes(value)

    def _attribute(self, value: Any) -> Any:
        """The value, or the list that a placeholder stands for: an attribute may have the name of a part."""
        if type(value) is not int or self._body.arrays.pop(value, None) is None:
            return value
        return orjson.loads(self._body.texts[value])

    def _ids(self, array: Any, number: int) -> list[str | int]:
        if not isinstance(array, simdjson.Array):
            raise fault(InvalidIdsError, "not a list", "ids", batch=number, detail="ids is a list")
        self._brackets_left -= 1
        check_rows(len(array), self._max_rows)
        ids: list[str | int] = []
        # Not `as_list`, which converts everything in the list before the first value that is no id.
        for row, value in enumerate(array):
            if type(value) is not str and type(value) is not int:
                msg = f"an id is a string or an integer, got {describe(value)}"
                raise fault(InvalidIdsError, msg, "ids", batch=number, row=row)
            ids.append(value)
        return ids

    def _plain(self, value: Any) -> Any:
        """Convert a value to a Python object, and subtract its arrays from the count of brackets."""
        if isinstance(value, simdjson.Array):
            self._count_values(len(value))
            self._brackets_left -= 1
            return [self._plain(item) for item in value]
        if isinstance(value, simdjson.Object):
            names = _names(value)
            if len(names) > MAX_OPTION_FIELDS:
                raise InvalidRequestError(f"an object in the options has {len(names)} fields, more than any option")
            self._count_values(len(names))
            # simdjson takes a name as a C string and does not find one with a NUL; no option has such a name.
            return {name: None if "\0" in name else self._plain(value[name]) for name in names}
        return value

    def _count_values(self, count: int) -> None:
        self._option_values_left -= count
        if self._option_values_left < 0:
            raise InvalidRequestError(f"config and the other options have more than {MAX_OPTION_VALUES} values")


def _names(fields: Any) -> dict[str, None]:
    """The names of the members of an object, in their order.

    Raises:
        DecodeError: A duplicate name.
    """
    names: dict[str, None] = {}
    for name in fields.keys():  # noqa: SIM118
        if name in names:
            raise DecodeError(f"field {name[:100]!r} appears twice in an object")
        names[name] = None
    return names


def _add_part(parts: dict[str, str], part: str, name: str, number: int | None) -> None:
    """Add the name of a part of a batch; `number` is None if the request has no list of batches.

    Raises:
        InvalidRequestError: The part has a name already.
    """
    if part in parts:
        raise fault(InvalidRequestError, two_names(part, parts[part], name).msg, part, batch=number)
    parts[part] = name
