"""Replies and the JSON request of the Open Inference Protocol v2, below `/v2`."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field, JsonValue
from typing_extensions import TypedDict

from service.schema.json_values import JsonObject


class ServerMetadata(TypedDict):
    """Name, version and protocol extensions of the server."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(TypedDict):
    """The reply of `GET /v2/health/live`."""

    live: Literal[True]


class ServerReady(ServerLive):
    """The reply of `GET /v2/health/ready` if the device works and the store is writable."""

    ready: Literal[True]


class TensorMetadata(TypedDict):
    """Name, datatype and shape of a tensor; -1 is a dimension of any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(TypedDict):
    """Inputs and outputs of a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ModelReady(TypedDict):
    """The reply of `GET /v2/models/{model}/ready` if the model exists and the device works."""

    name: str
    ready: Literal[True]


class BinarySize(TypedDict):
    """Size in bytes of a tensor that follows the JSON as binary data."""

    binary_data_size: int


class InferOutput(TensorMetadata):
    """An output: flat values in `data`, or binary data of the size in `parameters`."""

    data: NotRequired[list[float | int | None]]
    parameters: NotRequired[BinarySize]


class InferInput(TypedDict):
    """An input: flat or nested values in `data`, or binary data of the size in `parameters`."""

    name: str
    datatype: str
    shape: list[Annotated[int, Field(ge=0)]]
    data: NotRequired[list[JsonValue]]
    parameters: NotRequired[JsonObject]


class RequestedOutput(TypedDict):
    """A requested output."""

    name: str
    parameters: NotRequired[JsonObject]


class InferRequestBody(TypedDict):
    """An inference request; `parameters` has `config` (a JSON text) or `config_id`, and further options."""

    id: NotRequired[str]
    parameters: NotRequired[JsonObject]
    inputs: list[InferInput]
    outputs: NotRequired[list[RequestedOutput]]


class InferParameters(TypedDict):
    """Details of the result; lists, such as `hardest` and `regions`, are JSON texts, as the protocol has none here."""

    config_id: str
    device: str
    num_examples: int
    num_ignored: int
    num_excluded: int
    num_elements: int
    hardest: str
    excluded: str
    regions: NotRequired[str]
    warnings: NotRequired[str]


class InferReply(TypedDict):
    """The result of an inference request; `id` is that of the request, absent if it had none."""

    model_name: str
    model_version: str
    outputs: list[InferOutput]
    parameters: InferParameters
    id: NotRequired[str]
