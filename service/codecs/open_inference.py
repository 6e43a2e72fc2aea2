"""The Open Inference Protocol v2 with the binary tensor data extension: decodes requests and encodes replies.

Sources: open-inference-protocol, specification/protocol/inference_rest.md; triton-inference-server/server,
docs/protocol/extension_binary_data.md. Binary tensors are views into the body.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np

from service.codecs.element_outputs import PREFIX
from service.codecs.inference_tensors import MAX_NAME, parameters_of, read_tensors
from service.codecs.json_elements import regions_json
from service.codecs.json_reply import excluded_examples, hardest_examples, json_bytes, json_text, warnings_of
from service.errors import DecodeError, InvalidRequestError, UnknownOutputError
from service.formats.arrays import Body
from service.formats.ids import ids_of_batch
from service.formats.part_names import OFFSETS, required_parts
from service.formats.strict_json import read_strict_json
from service.schema.faults import fault, unknown_fault
from service.schema.json_values import JsonObject
from service.schema.replies.inference import InferOutput, InferReply
from service.schema.request import (
    ELEMENT_OUTPUTS,
    NO_LOGITS,
    OUTPUTS,
    STATISTIC_PARTS,
    Batch,
    Column,
    LossRequest,
    RequestOptions,
)
from service.schema.result import LossResult

# `loss` is the scalar of the batch; the losses of the examples have a name of their own.
LOSS, PER_EXAMPLE_LOSS = "loss", "per_example_loss"
INTEGER_OUTPUTS = ("prediction", "num_valid", f"{PREFIX}prediction")
OUTPUT_DATATYPES = {
    LOSS: "FP64",
    **{
        name: "INT64" if name in INTEGER_OUTPUTS else "FP32"
        for name in (
            PER_EXAMPLE_LOSS,
            *(name for name in OUTPUTS if name != "loss"),
            *(PREFIX + name for name in ELEMENT_OUTPUTS),
        )
    },
}
DEFAULT_OUTPUTS = (LOSS, PER_EXAMPLE_LOSS, "contribution")
PARAMETERS = ("config", "config_id", "top_k", "on_invalid", "layout", "divisor", "within", "top_regions", "num_classes")
# A parameter has no members: objects are JSON texts.
JSON_PARAMETERS = ("config", "within")
RESERVED = ("sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "headers", "binary_data_output")


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
    parameters = parameters_of(header, "request")
    tensors = read_tensors(_objects(header, "inputs"), body, length)
    for name in required_parts(tensors):
        if name not in tensors:
            raise fault(InvalidRequestError, "missing", "inputs", name, detail=f"input {name} missing")
    ids = None if "ids" not in tensors else ids_of_batch(tensors["ids"].tolist(), 0)
    outputs = _outputs(_objects(header, "outputs"), binary=parameters.get("binary_data_output") is True)
    identity = header.get("id")
    if identity is not None and not isinstance(identity, str):
        raise DecodeError("id is a string")
    request = LossRequest(_options(parameters, outputs), (_batch(tensors, ids),))
    return InferRequest(request, outputs, identity)


def _batch(tensors: dict[str, Column], ids: list[str | int] | None) -> Batch:
    statistics = {name: tensors[name] for name in STATISTIC_PARTS if name in tensors}
    logits, offsets = tensors.get("logits", NO_LOGITS), tensors.get(OFFSETS)
    return Batch(logits, tensors["targets"], ids, offsets=offsets, statistics=statistics or None)


def encode_response(result: LossResult, request: InferRequest, model: str, version: str) -> tuple[bytes, int | None]:
    """Encode a reply, and return it with the length of its JSON (None without binary tensors).

    A missing or non-finite number is null in JSON. A missing prediction is -1 in both forms, because clients convert
    it to an INT64 array. The parameters of the protocol are strings and numbers, so `hardest`, `excluded` and `regions`
    are JSON texts.
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
            "num_elements": result.num_elements,
            "hardest": json_text(hardest_examples(result)),
            "excluded": json_text(excluded_examples(result)),
        },
    }
    if result.batches[0].regions is not None:
        reply["parameters"]["regions"] = regions_json(result.batches[0].regions).decode()
    if result.warnings:
        reply["parameters"]["warnings"] = json_text(warnings_of(result))
    if request.id is not None:
        reply["id"] = request.id
    text = json_bytes(reply)
    return b"".join([text, *binary]), len(text) if any(binary) else None


def _values(result: LossResult, name: str) -> Column:
    if name == LOSS:
        return np.array([np.nan if result.loss is None else result.loss])
    (batch,) = result.batches
    if name.startswith(PREFIX):
        values = batch.per_element[name.removeprefix(PREFIX)]
    else:
        values = batch.per_example["loss" if name == PER_EXAMPLE_LOSS else name]
    return values if name in INTEGER_OUTPUTS else values.astype(np.float32)


def _json_object(text: memoryview) -> JsonObject:
    try:
        header = read_strict_json(text)
    except ValueError as err:
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


def _options(parameters: JsonObject, outputs: tuple[RequestedOutput, ...]) -> RequestOptions:
    for name in parameters:
        if name not in PARAMETERS and name not in RESERVED and not name.startswith("triton_"):
            detail = f"unknown parameter {name[:MAX_NAME]!r}; known are {', '.join(PARAMETERS)}"
            raise fault(InvalidRequestError, "unknown parameter", "parameters", name[:MAX_NAME], detail=detail)
    fields = {name: parameters[name] for name in PARAMETERS if name in parameters}
    for name in JSON_PARAMETERS:
        text = fields.get(name)
        # The names that `within` may have are no JSON.
        if isinstance(text, str) and (name == "config" or text.lstrip().startswith("{")):
            try:
                fields[name] = read_strict_json(text.encode())
            except ValueError as err:
                raise DecodeError(f"parameter {name} is not JSON: {err}") from err
    names = [output.name for output in outputs if output.name != LOSS]
    elements = [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]
    examples = ["loss" if name == PER_EXAMPLE_LOSS else name for name in names if not name.startswith(PREFIX)]
    return RequestOptions.parse({**fields, "outputs": examples, "elements": elements})


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
        parameters = parameters_of(entry, f"output {name}")
        outputs.append(RequestedOutput(name, parameters.get("binary_data", binary) is True))
    return tuple(outputs)
