"""`/v2`: the Open Inference Protocol, so that the public Triton client works against the service unchanged.

Every configuration that is held is a model under its `config_id`; the model `focal_loss` takes its configuration as a
parameter of the request.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from service import __version__
from service.api.body import read_body
from service.api.encoding import compressed, inflated, request_coding
from service.api.health import check_ready
from service.api.openapi import INFER_BODY, PROBLEMS
from service.api.problems import INFERENCE_PROTOCOL
from service.api.state import Service, service_of
from service.codecs.inference_protocol import (
    INPUT_DATATYPES,
    OUTPUT_DATATYPES,
    decode_request,
    encode_response,
)
from service.errors import DecodeError, InvalidRequestError, NotFoundError, UnknownConfigError
from service.evaluation import evaluate
from service.messages import LossRequest, RequestOptions

MODEL, VERSION, PLATFORM = "focal_loss", "1", "focal-loss-service_torch"
HEADER_LENGTH = "Inference-Header-Content-Length"

router = APIRouter(prefix=INFERENCE_PROTOCOL, tags=["open inference protocol"], responses=PROBLEMS)


@router.get("", summary="The server")
async def server_metadata() -> JSONResponse:
    """Name, version and extensions."""
    return JSONResponse(
        {"name": "focal-loss-service", "version": __version__, "extensions": ["binary_tensor_data", "parameters"]}
    )


@router.get("/health/live", summary="Alive")
async def live() -> JSONResponse:
    """200 while the process can answer."""
    return JSONResponse({"live": True})


@router.get("/health/ready", summary="Ready for work")
async def ready(request: Request) -> JSONResponse:
    """200 where the device computes, 503 elsewhere and while draining."""
    await check_ready(service_of(request))
    return JSONResponse({"live": True, "ready": True})


@router.get("/models/{model}", summary="A model")
@router.get("/models/{model}/versions/{version}", summary="A model's version")
async def model_metadata(request: Request, model: str, version: str = VERSION) -> JSONResponse:
    """Inputs and outputs with their datatypes and shapes; further datatypes are taken."""
    _check_model(service_of(request), model, version)
    shapes = {"loss": [1], "logits": [-1, -1]}
    inputs = [_tensor(name, {"logits": "FP32", "targets": "INT64"}[name], shapes) for name in INPUT_DATATYPES]
    outputs = [_tensor(name, datatype, shapes) for name, datatype in OUTPUT_DATATYPES.items()]
    members = {"name": model, "versions": [VERSION], "platform": PLATFORM, "inputs": inputs, "outputs": outputs}
    return JSONResponse(members)


def _tensor(name: str, datatype: str, shapes: dict[str, list[int]]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shapes.get(name, [-1])}


@router.get("/models/{model}/ready", summary="A model is ready")
@router.get("/models/{model}/versions/{version}/ready", summary="A model's version is ready")
async def model_ready(request: Request, model: str, version: str = VERSION) -> JSONResponse:
    """200 where the model is held and the device computes."""
    _check_model(service_of(request), model, version)
    await check_ready(service_of(request))
    return JSONResponse({"name": model, "ready": True})


@router.post("/models/{model}/infer", summary="Infer", openapi_extra=INFER_BODY)
@router.post("/models/{model}/versions/{version}/infer", summary="Infer by a version", openapi_extra=INFER_BODY)
async def infer(request: Request, model: str, version: str = VERSION) -> Response:
    """One batch; tensors as JSON or as binary data behind it, in both directions."""
    service, settings, headers = service_of(request), service_of(request).settings, request.headers
    _check_model(service, model, version)
    coding, length = request_coding(headers.get("content-encoding")), _header_length(headers.get(HEADER_LENGTH))
    # The asynchronous Triton client announces codings that it cannot read. What it, and the synchronous one, ask for
    # in earnest is one coding alone.
    wanted = headers.get("accept-encoding", "").strip().lower()
    reply_coding = wanted if wanted in ("gzip", "deflate") else "identity"
    with service.engine.admit() as admission:
        body = await read_body(
            request, max_bytes=settings.max_body_bytes, timeout_s=settings.body_timeout_s, hold=admission.hold
        )
        content, reply_length = await service.engine.run(
            lambda: _answer(service, model, inflated(body, coding, settings.max_body_bytes, admission.hold), length)
        )
    reply = Response(compressed(content, reply_coding), media_type="application/json")
    if reply_coding != "identity":
        reply.headers["Content-Encoding"] = reply_coding
    if reply_length is not None:
        reply.headers["Content-Type"] = "application/octet-stream"
        reply.headers[HEADER_LENGTH] = str(reply_length)
    return reply


def _answer(service: Service, model: str, body: bytearray, length: int | None) -> tuple[bytes, int | None]:
    request = decode_request(body, length)
    options = request.loss_request.options
    if model != MODEL:
        options = _of_model(options, model)
    result = evaluate(
        service.engine, service.module(options), LossRequest(options, request.loss_request.batches), service.limits
    )
    for batch in result.batches:
        service.metrics.count(batch)
    return encode_response(result, request, model, VERSION)


def _of_model(options: RequestOptions, model: str) -> RequestOptions:
    if options.config is not None or options.config_id not in (None, model):
        raise InvalidRequestError(f"model {model} is a configuration: give another one to model {MODEL} only")
    return options.model_copy(update={"config_id": model})


def _check_model(service: Service, model: str, version: str) -> None:
    if model != MODEL:
        try:
            service.registry.get(model)
        except UnknownConfigError as err:
            raise UnknownConfigError(
                f"no model {model[:100]!r}: there are {MODEL} and the config_ids that are held"
            ) from err
    if version != VERSION:
        raise NotFoundError(f"model {model} has version {VERSION} only, not {version[:100]!r}")


def _header_length(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise DecodeError(f"{HEADER_LENGTH} {text[:50]!r} is not a number")
    return int(text)
