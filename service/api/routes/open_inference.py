"""`/v2`: the Open Inference Protocol, for Triton's public client.

Each stored configuration is a model, named by its `config_id`. Requests to the model `focal_loss` have the
configuration as a parameter.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from fastapi import APIRouter, Request
from starlette.responses import Response

from service import __version__
from service.api.http.body import header_number
from service.api.http.encoding import compressed, request_coding
from service.api.http.media_types import require_media_type
from service.api.http.openapi import LOSS, READINESS, problems
from service.api.http.path_types import ModelName
from service.api.http.problems import INFERENCE_PROTOCOL
from service.api.http.responses import json_response
from service.api.http.tensor_docs import INFER_BODY, INFER_REPLY
from service.api.http.timing import Timing
from service.api.principals import least_role
from service.api.receive import run_with_body
from service.api.state import service_of
from service.codecs.open_inference import (
    OUTPUT_DATATYPES,
    InferRequest,
    decode_request,
    encode_response,
)
from service.errors import (
    InvalidRequestError,
    NotAcceptableError,
    NotFoundError,
    StorageUnavailableError,
    UnknownConfigError,
)
from service.schema.replies.inference import (
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
    TensorMetadata,
)
from service.schema.request import LossRequest

MODEL, VERSION, PLATFORM = "focal_loss", "1", "focal-loss-service_torch"
HEADER_LENGTH = "Inference-Header-Content-Length"

UNKNOWN_MODEL = (UnknownConfigError, NotFoundError, StorageUnavailableError)
MODEL_ERRORS = problems(*UNKNOWN_MODEL)
READY_ERRORS = problems(*UNKNOWN_MODEL, *READINESS)
# Any Accept-Encoding has a reply.
INFER_ERRORS = {*LOSS, *UNKNOWN_MODEL} - {NotAcceptableError}

OF_VERSION = {
    "parameters": [
        {"name": "version", "in": "path", "required": True, "description": "Only 1", "schema": {"type": "string"}}
    ]
}

router = APIRouter(prefix=INFERENCE_PROTOCOL, tags=["open inference protocol"])


@router.get("", summary="Get the server's metadata", response_model=ServerMetadata)
async def server_metadata() -> Response:
    """Name, version and extensions."""
    extensions = ["binary_tensor_data", "parameters"]
    reply: ServerMetadata = {"name": "focal-loss-service", "version": __version__, "extensions": extensions}
    return json_response(reply)


@router.get("/health/live", summary="Check that the server is alive", response_model=ServerLive)
async def live() -> Response:
    """200 while the process can reply."""
    reply: ServerLive = {"live": True}
    return json_response(reply)


@router.get(
    "/health/ready",
    summary="Check that the server is ready",
    response_model=ServerReady,
    responses=problems(*READINESS),
)
async def ready(request: Request) -> Response:
    """200 if the device computes and the store can be written; 503 or 507 if not, and while shutting down."""
    await service_of(request).check_ready()
    reply: ServerReady = {"live": True, "ready": True}
    return json_response(reply)


@router.get("/models/{model}", summary="Get a model", response_model=ModelMetadata, responses=MODEL_ERRORS)
@router.get(
    "/models/{model}/versions/{version}",
    summary="Get a version of a model",
    response_model=ModelMetadata,
    responses=MODEL_ERRORS,
    openapi_extra=OF_VERSION,
)
async def model_metadata(request: Request, model: ModelName) -> Response:
    """Inputs and outputs with the preferred datatypes, and shapes; the inputs may have other datatypes."""
    await _check_model(request, model)
    reply: ModelMetadata = {
        "name": model,
        "versions": [VERSION],
        "platform": PLATFORM,
        "inputs": [_tensor("logits", "FP32"), _tensor("targets", "INT64")],
        "outputs": [_tensor(name, datatype) for name, datatype in OUTPUT_DATATYPES.items()],
    }
    return json_response(reply)


def _tensor(name: str, datatype: str) -> TensorMetadata:
    # Of the layout `rows`; others have more dimensions.
    shapes = {"loss": [1], "logits": [-1, -1]}
    return {"name": name, "datatype": datatype, "shape": shapes.get(name, [-1])}


@router.get(
    "/models/{model}/ready",
    summary="Check that a model is ready",
    response_model=ModelReady,
    responses=READY_ERRORS,
)
@router.get(
    "/models/{model}/versions/{version}/ready",
    summary="Check that a version of a model is ready",
    response_model=ModelReady,
    responses=READY_ERRORS,
    openapi_extra=OF_VERSION,
)
async def model_ready(request: Request, model: ModelName) -> Response:
    """200 if the model exists and the device computes."""
    await _check_model(request, model)
    await service_of(request).check_ready()
    reply: ModelReady = {"name": model, "ready": True}
    return json_response(reply)


@router.post(
    "/models/{model}/infer",
    summary="Infer",
    responses={**INFER_REPLY, **problems(*INFER_ERRORS)},
    openapi_extra=INFER_BODY,
)
@router.post(
    "/models/{model}/versions/{version}/infer",
    summary="Infer with a version of a model",
    responses={**INFER_REPLY, **problems(*INFER_ERRORS)},
    openapi_extra=INFER_BODY | OF_VERSION,
)
@least_role("reader")
async def infer(request: Request, model: ModelName) -> Response:
    """Compute the loss of one batch. Tensors are JSON, or binary data that follows it, in both directions."""
    service, headers, timing = service_of(request), request.headers, Timing()
    # The synchronous Triton client sends no Content-Type.
    require_media_type(headers, "application/json", "application/octet-stream", may_be_absent=True)
    await _check_model(request, model)
    length = header_number(HEADER_LENGTH, headers[HEADER_LENGTH]) if HEADER_LENGTH in headers else None
    # The asynchronous Triton client lists codings that it cannot read. A coding that a client really wants is alone.
    wanted = headers.get("accept-encoding", "").strip().lower()
    reply_coding = wanted if wanted in ("gzip", "deflate") else "identity"

    def work(body: memoryview) -> tuple[bytes, int | None]:
        infer_request = _of_model(decode_request(body, length), model)
        result = service.evaluate(infer_request.loss_request, timing)
        content, reply_length = encode_response(result, infer_request, model, VERSION)
        content = compressed(content, reply_coding)
        timing.end("encode")
        return content, reply_length

    coding = request_coding(headers.get("content-encoding"))
    content, reply_length = await run_with_body(request, timing, coding, work)
    reply = Response(content, media_type="application/json")
    reply.headers.update({"Server-Timing": timing.header(), "Vary": "Accept-Encoding"})
    if reply_coding != "identity":
        reply.headers["Content-Encoding"] = reply_coding
    if reply_length is not None:
        reply.headers["Content-Type"] = "application/octet-stream"
        reply.headers[HEADER_LENGTH] = str(reply_length)
    return reply


def _of_model(request: InferRequest, model: str) -> InferRequest:
    """The request, with the configuration that the model's name stands for."""
    if model == MODEL:
        return request
    options = request.loss_request.options
    if options.config is not None or options.config_id not in (None, model):
        raise InvalidRequestError(f"model {model} is a configuration: give another one to model {MODEL} only")
    options = options.model_copy(update={"config_id": model})
    return replace(request, loss_request=LossRequest(options, request.loss_request.batches))


async def _check_model(request: Request, model: str) -> None:
    """Raise if the path names no model of this service, or another version of it."""
    if model != MODEL:
        try:
            await asyncio.to_thread(service_of(request).configurations.check, model)
        except UnknownConfigError as err:
            raise UnknownConfigError(
                f"no model {model[:100]!r}: there are {MODEL} and the ids of stored configurations"
            ) from err
    version = request.path_params.get("version", VERSION)
    if version != VERSION:
        raise NotFoundError(f"model {model} has version {VERSION} only, not {version[:100]!r}")
