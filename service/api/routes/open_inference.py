"""`/v2`: the Open Inference Protocol, so that the public Triton client works against the service unchanged.

Every configuration that is held is a model under its `config_id`; the model `focal_loss` takes its configuration as a
parameter of the request.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from service import __version__
from service.api.http.body import header_number
from service.api.http.encoding import compressed, request_coding
from service.api.http.exchange import Timing
from service.api.http.openapi import INFER_BODY, PROBLEMS
from service.api.http.problems import INFERENCE_PROTOCOL
from service.api.receive import run_with_body
from service.api.state import Service, service_of
from service.codecs.open_inference import (
    INPUT_DATATYPES,
    OUTPUT_DATATYPES,
    InferRequest,
    decode_request,
    encode_response,
)
from service.errors import InvalidRequestError, NotFoundError, UnknownConfigError
from service.schema.request import LossRequest

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
    await service_of(request).check_ready()
    return JSONResponse({"live": True, "ready": True})


@router.get("/models/{model}", summary="A model")
@router.get("/models/{model}/versions/{version}", summary="A model's version")
async def model_metadata(request: Request, model: str, version: str = VERSION) -> JSONResponse:
    """Inputs and outputs with their datatypes and shapes; further datatypes are taken."""
    await _check_model(service_of(request), model, version)
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
    await _check_model(service_of(request), model, version)
    await service_of(request).check_ready()
    return JSONResponse({"name": model, "ready": True})


@router.post("/models/{model}/infer", summary="Infer", openapi_extra=INFER_BODY)
@router.post("/models/{model}/versions/{version}/infer", summary="Infer by a version", openapi_extra=INFER_BODY)
async def infer(request: Request, model: str, version: str = VERSION) -> Response:
    """One batch; tensors as JSON or as binary data behind it, in both directions."""
    service, headers, timing = service_of(request), request.headers, Timing()
    await _check_model(service, model, version)
    length = header_number(HEADER_LENGTH, headers[HEADER_LENGTH]) if HEADER_LENGTH in headers else None
    # The asynchronous Triton client announces codings that it cannot read. What it, and the synchronous one, ask for
    # in earnest is one coding alone.
    wanted = headers.get("accept-encoding", "").strip().lower()
    reply_coding = wanted if wanted in ("gzip", "deflate") else "identity"

    def answer(body: memoryview) -> tuple[bytes, int | None]:
        infer_request = _of_model(decode_request(body, length), model)
        result = service.evaluate(infer_request.loss_request, timing)
        content, reply_length = encode_response(result, infer_request, model, VERSION)
        content = compressed(content, reply_coding)
        timing.end("encode")
        return content, reply_length

    coding = request_coding(headers.get("content-encoding"))
    content, reply_length = await run_with_body(request, timing, coding, answer)
    reply = Response(content, media_type="application/json")
    reply.headers.update({"Server-Timing": timing.header(), "Vary": "Accept-Encoding"})
    if reply_coding != "identity":
        reply.headers["Content-Encoding"] = reply_coding
    if reply_length is not None:
        reply.headers["Content-Type"] = "application/octet-stream"
        reply.headers[HEADER_LENGTH] = str(reply_length)
    return reply


def _of_model(request: InferRequest, model: str) -> InferRequest:
    """The request with the configuration that the model's name is, where it is one."""
    if model == MODEL:
        return request
    options = request.loss_request.options
    if options.config is not None or options.config_id not in (None, model):
        raise InvalidRequestError(f"model {model} is a configuration: give another one to model {MODEL} only")
    options = options.model_copy(update={"config_id": model})
    return replace(request, loss_request=LossRequest(options, request.loss_request.batches))


async def _check_model(service: Service, model: str, version: str) -> None:
    if model != MODEL:
        try:
            await asyncio.to_thread(service.configurations.check, model)
        except UnknownConfigError as err:
            raise UnknownConfigError(
                f"no model {model[:100]!r}: there are {MODEL} and the config_ids that are held"
            ) from err
    if version != VERSION:
        raise NotFoundError(f"model {model} has version {VERSION} only, not {version[:100]!r}")
