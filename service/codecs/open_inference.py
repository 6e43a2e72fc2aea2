"""The Open Inference Protocol v2 with the binary tensor data extension: decodes requests and encodes replies.

Sources: open-inference-protocol, specification/protocol/inference_rest.md; triton-inference-server/server,
docs/protocol/extension_binary_data.md. Binary tensors are views into the body.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

import numpy as np
import orjson
from ml_dtypes import bfloat16

from service.codecs.json_reply import excluded_examples, hardest_examples, json_bytes, json_text
from service.errors import DecodeError, InvalidRequestError, UnknownOutputError
from service.formats.arrays import Body, are_sizes, array_view, overflows
from service.schema.faults import fault, unknown_fault
from service.schema.json_values import JsonObject
from service.schema.replies.inference import InferOutput, InferReply
from service.schema.request import OUTPUTS, Batch, Column, LossRequest, RequestOptions
from service.schema.result import LossResult

MAX_NAME = 100
DATATYPES = {
    "FP16": np.dtype(np.float16),
    "BF16": np.dtype(bfloat16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "UINT8": np.dtype(np.uint8),
}
LARGEST = DATATYPES["FP64"]
BINARY_ONLY = ("FP16", "BF16")
INPUT_DATATYPES = {
    "logits": ("FP16", "BF16", "FP32", "FP64"),
    "targets": ("INT8", "INT16", "INT32", "INT64", "UINT8", "FP32", "FP64"),
}
# `loss` is the scalar of the batch; the losses of the examples have a name of their own.
LOSS, PER_EXAMPLE_LOSS = "loss", "per_example_loss"
OUTPUT_DATATYPES = {
    LOSS: "FP64",
    PER_EXAMPLE_LOSS: "FP32",
    **{name: "INT64" if name == "prediction" else "FP32" for name in OUTPUTS if name != "loss"},
}
DEFAULT_OUTPUTS = (LOSS, PER_EXAMPLE_LOSS, "contribution")
PARAMETERS = ("config", "config_id", "top_k", "on_invalid")
RESERVED = ("sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "headers", "binary_data_output")
UNSUPPORTED = ("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size", "classification")


@dataclass(frozen=True)
class RequestedOutput:
    """A requested output; `binary`: as bytes behind the JSON."""

    name: str
    binary: bool


@dataclass(frozen=True, eq=False)
class InferRequest:
    """A decoded inference request.

    Args:
        loss_request: The loss request; its options have no configuration if the name of the model is one.
        outputs: The outputs in the order of the reply.
        id: Repeated in the reply.
    """

    loss_request: LossRequest
    outputs: tuple[RequestedOutput, ...]
    id: str | None


def decode_request(body: Body, header_length: int | None) -> InferRequest:
    """Decode a request.

    Args:
        body: JSON, followed by the binary tensors in the order of the inputs.
        header_length: Bytes of the JSON (`Inference-Header-Content-Length`); None: the whole body.

    Raises:
        DecodeError: The body breaks the protocol.
        InvalidRequestError: The model does not support a parameter, an input or a datatype.
    """
    length = len(body) if header_length is None else header_length
    if not 0 < length <= len(body):
        raise DecodeError(
            f"Inference-Header-Content-Length is {length}, the body has {len(body)} bytes; a body needs a JSON header"
        )
    header = _json_object(memoryview(body)[:length])
    parameters = _parameters(header, "request")
    tensors = _tensors(_objects(header, "inputs"), body, length)
    for name in INPUT_DATATYPES:
        if name not in tensors:
            raise fault(InvalidRequestError, "missing", "inputs", name, detail=f"input {name} missing")
    outputs = _outputs(_objects(header, "outputs"), binary=parameters.get("binary_data_output") is True)
    identity = header.get("id")
    if identity is not None and not isinstance(identity, str):
        raise DecodeError("id is a string")
    request = LossRequest(_options(parameters, outputs), (Batch(tensors["logits"], tensors["targets"]),))
    return InferRequest(request, outputs, identity)


def encode_response(result: LossResult, request: InferRequest, model: str, version: str) -> tuple[bytes, int | None]:
    """Encode a reply, and return it with the length of its JSON (None without binary tensors).

    A missing or non-finite number is null in JSON. A missing prediction is -1 in both forms, because clients convert
    it to an INT64 array. The parameters of the protocol are strings and numbers, so `hardest` and `excluded` are JSON
    texts.
    """
    outputs: list[InferOutput] = []
    binary: list[bytes] = []
    for output in request.outputs:
        values = _values(result, output.name)
        entry: InferOutput = {
            "name": output.name,
            "datatype": OUTPUT_DATATYPES[output.name],
            "shape": list(values.shape),
        }
        if output.binary:
            binary.append(np.ascontiguousarray(values).tobytes())
            entry["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            entry["data"] = cast(list[float | int | None], values.ravel())
        outputs.append(entry)
    reply: InferReply = {
        "model_name": model,
        "model_version": version,
        "outputs": outputs,
        "parameters": {
            "config_id": result.config_id,
            "device": result.device,
            "num_examples": result.num_examples,
            "num_ignored": result.num_ignored,
            "num_excluded": result.num_excluded,
            "hardest": json_text(hardest_examples(result)),
            "excluded": json_text(excluded_examples(result)),
        },
    }
    if request.id is not None:
        reply["id"] = request.id
    text = json_bytes(reply)
    return b"".join([text, *binary]), len(text) if any(binary) else None


def _values(result: LossResult, name: str) -> Column:
    if name == LOSS:
        return np.array([np.nan if result.loss is None else result.loss])
    values = result.batches[0].per_example["loss" if name == PER_EXAMPLE_LOSS else name]
    return values if name == "prediction" else values.astype(np.float32)


def _json_object(text: memoryview) -> JsonObject:
    try:
        header = orjson.loads(text)
    except orjson.JSONDecodeError as err:
        raise DecodeError(
            f"the JSON part is not JSON: {err}; NaN and infinities can only be sent as binary tensors"
        ) from err
    if not isinstance(header, dict):
        raise DecodeError("the JSON part is an object with inputs")
    return header


def _objects(header: JsonObject, name: str) -> list[JsonObject]:
    values = header.get(name, [])
    if isinstance(values, list):
        objects = [value for value in values if isinstance(value, dict)]
        if len(objects) == len(values):
            return objects
    raise DecodeError(f"{name} is a list of objects")


def _parameters(owner: JsonObject, owner_name: str) -> JsonObject:
    parameters = owner.get("parameters", {})
    if not isinstance(parameters, dict):
        raise DecodeError(f"parameters of {owner_name} are an object")
    for name in UNSUPPORTED:
        # Clients send a classification of 0 for none.
        if parameters.get(name):
            raise DecodeError(f"parameter {name!r} of {owner_name} is not supported")
    return parameters


def _options(parameters: JsonObject, outputs: tuple[RequestedOutput, ...]) -> RequestOptions:
    for name in parameters:
        if name not in PARAMETERS and name not in RESERVED and not name.startswith("triton_"):
            detail = f"unknown parameter {name[:MAX_NAME]!r}; known are {', '.join(PARAMETERS)}"
            raise fault(InvalidRequestError, "unknown parameter", "parameters", name[:MAX_NAME], detail=detail)
    fields = {name: parameters[name] for name in PARAMETERS if name in parameters}
    config = fields.get("config")
    if isinstance(config, str):
        try:
            fields["config"] = orjson.loads(config)
        except orjson.JSONDecodeError as err:
            raise DecodeError(f"parameter config is not JSON: {err}") from err
    names = ["loss" if output.name == PER_EXAMPLE_LOSS else output.name for output in outputs if output.name != LOSS]
    return RequestOptions.parse({**fields, "outputs": names})


def _outputs(entries: list[JsonObject], *, binary: bool) -> tuple[RequestedOutput, ...]:
    if not entries:
        return tuple(RequestedOutput(name, binary) for name in DEFAULT_OUTPUTS)
    outputs: list[RequestedOutput] = []
    for position, entry in enumerate(entries):
        name = entry.get("name")
        if not isinstance(name, str) or name not in OUTPUT_DATATYPES:
            raise unknown_fault(UnknownOutputError, "output", str(name), OUTPUT_DATATYPES, "outputs", position)
        if any(output.name == name for output in outputs):
            raise DecodeError(f"output {name} appears twice")
        parameters = _parameters(entry, f"output {name}")
        outputs.append(RequestedOutput(name, parameters.get("binary_data", binary) is True))
    return tuple(outputs)


def _tensors(entries: list[JsonObject], body: Body, offset: int) -> dict[str, Column]:
    tensors: dict[str, Column] = {}
    for entry in entries:
        name = str(entry.get("name"))
        if name not in INPUT_DATATYPES or name in tensors:
            problem = "appears twice" if name in tensors else "is unknown"
            msg = f"input {name[:MAX_NAME]!r} {problem}; known are {', '.join(INPUT_DATATYPES)}"
            raise fault(InvalidRequestError, msg, "inputs")
        datatype, shape = _datatype(entry, name), _shape(entry, name)
        parameters = _parameters(entry, f"input {name}")
        size = parameters.get("binary_data_size")
        if ("data" in entry) == (size is not None):
            raise DecodeError(f"input {name} needs either data or parameters.binary_data_size")
        if size is None:
            tensors[name] = _array_of_json(entry["data"], datatype, shape, name)
            continue
        needed = math.prod(shape) * DATATYPES[datatype].itemsize
        if type(size) is not int or size != needed:
            raise DecodeError(
                f"input {name}: binary_data_size is {str(size)[:MAX_NAME]}, "
                f"{datatype} of shape {list(shape)} has {needed} bytes"
            )
        if offset + size > len(body):
            raise DecodeError(f"input {name}: expecting {offset + size - len(body)} additional bytes")
        tensors[name] = array_view(body, offset, DATATYPES[datatype], shape)
        offset += size
    if offset != len(body):
        raise DecodeError(f"unexpected additional input data: {len(body) - offset} bytes")
    return tensors


def _datatype(entry: JsonObject, name: str) -> str:
    datatype = entry.get("datatype")
    if datatype not in INPUT_DATATYPES[name]:
        msg = f"input {name} has datatype {str(datatype)[:MAX_NAME]!r}, accepted are {', '.join(INPUT_DATATYPES[name])}"
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
    values, dtype = _flattened(data, shape, name), DATATYPES[datatype]
    floating = dtype.kind == "f"
    accepted = (int, float) if floating else (int,)
    if not {*map(type, values)} <= {*accepted}:
        position = next(position for position, value in enumerate(values) if type(value) not in accepted)
        shown = orjson.dumps(values[position]).decode()[:MAX_NAME]
        raise DecodeError(f"input {name}: value {position} is {shown}, which is not {datatype}")
    if floating:
        with np.errstate(over="ignore"):
            array = np.array(values, np.float64).astype(dtype)
        # JSON has no infinity: an infinite value was a number that the datatype cannot hold.
        outside = np.isinf(array).nonzero()[0].tolist()
    else:
        bounds = np.iinfo(dtype)
        outside = [position for position, value in enumerate(values) if not bounds.min <= value <= bounds.max]
        array = np.array([] if outside else values, dtype)
    if outside:
        raise DecodeError(f"input {name}: value {outside[0]} is {values[outside[0]]}, which {datatype} cannot hold")
    return array.reshape(shape)


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
    if len(values) != math.prod(shape):
        raise DecodeError(f"input {name}: data has {len(values)} values, shape {list(shape)} needs {math.prod(shape)}")
    return values
