"""`POST /loss`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api.body import read_body
from service.api.encoding import compressed, inflated, reply_coding, request_coding
from service.api.openapi import LOSS_BODY, LOSS_REPLIES
from service.api.state import Service, service_of
from service.codecs.base import Codec
from service.codecs.negotiation import reader, writer
from service.engine import Admission
from service.errors import InvalidRequestError
from service.evaluation import evaluate
from service.loss.focal import FocalLoss
from service.messages import LossConfig, LossRequest, RequestOptions

router = APIRouter(tags=["loss"])


@router.post(
    "/loss",
    summary="Loss of batches, and what each example adds to it",
    openapi_extra=LOSS_BODY,
    responses=LOSS_REPLIES,
)
async def post_loss(request: Request) -> Response:
    """Stateless and exact: the same input gives the same result in every format and every split into batches."""
    service, settings = service_of(request), service_of(request).settings
    exchange = _Exchange.of(request)
    with service.engine.admit() as admission:
        body = await read_body(
            request, max_bytes=settings.max_body_bytes, timeout_s=settings.body_timeout_s, hold=admission.hold
        )
        exchange.timing.end("receive")
        content = await service.engine.run(partial(_answer, service, exchange, body, admission))
    for phase, seconds in exchange.timing.phases.items():
        service.metrics.phase.labels(phase).observe(seconds)
    return Response(content, media_type=exchange.writer.media_type, headers=exchange.reply_headers())


def _answer(service: Service, exchange: _Exchange, body: bytearray, admission: Admission) -> bytes:
    """The whole way of a body to its reply, on a worker thread."""
    timing = exchange.timing
    timing.end("queue")
    body = inflated(body, exchange.request_coding, service.settings.max_body_bytes, admission.hold)
    request = exchange.reader.decode(body)
    options = _with_overrides(request.options, exchange.overrides)
    timing.end("decode")
    module = _module(service, options)
    result = evaluate(service.engine, module, LossRequest(options, request.batches), service.limits)
    service.metrics.count(result)
    timing.end("compute")
    content = compressed(exchange.writer.encode(result), exchange.reply_coding)
    timing.end("encode")
    return content


def _module(service: Service, options: RequestOptions) -> FocalLoss:
    if options.config_id is not None:
        return service.registry.use_id(options.config_id)
    return service.registry.use(options.config or LossConfig())


def _overrides(query: Mapping[str, str]) -> dict[str, Any]:
    """The query parameters, which mean the same in every format."""
    known = ("config_id", "outputs", "top_k")
    for name in query:
        if name not in known:
            raise InvalidRequestError(
                f"unknown query parameter {name[:100]!r}; known are {', '.join(known)}",
                errors=[{"loc": ["query", name[:100]], "msg": "unknown query parameter"}],
            )
    overrides: dict[str, Any] = dict(query)
    if "outputs" in overrides:
        overrides["outputs"] = [name.strip() for name in overrides["outputs"].split(",") if name.strip()]
    if "top_k" in overrides:
        text = overrides["top_k"]
        overrides["top_k"] = int(text) if text.isascii() and text.isdigit() else text
    if overrides:
        RequestOptions.parse(overrides)
    return overrides


def _with_overrides(options: RequestOptions, overrides: dict[str, Any]) -> RequestOptions:
    if not overrides:
        return options
    fields: dict[str, Any] = {name: getattr(options, name) for name in type(options).model_fields}
    if "config_id" in overrides:
        fields["config"] = None
    return RequestOptions.parse(fields | overrides)


@dataclass(frozen=True)
class _Exchange:
    """What the head of a request says of its body and of the reply."""

    reader: Codec
    writer: Codec
    request_coding: str
    reply_coding: str
    overrides: dict[str, Any]
    timing: _Timing

    @classmethod
    def of(cls, request: Request) -> _Exchange:
        headers = request.headers
        codec = reader(headers.get("content-type"))
        return cls(
            reader=codec,
            writer=writer(headers.get("accept"), codec),
            request_coding=request_coding(headers.get("content-encoding")),
            reply_coding=reply_coding(headers.get("accept-encoding")),
            overrides=_overrides(request.query_params),
            timing=_Timing(),
        )

    def reply_headers(self) -> dict[str, str]:
        headers = {"Server-Timing": self.timing.header(), "Vary": "Accept, Accept-Encoding"}
        return headers if self.reply_coding == "identity" else headers | {"Content-Encoding": self.reply_coding}


@dataclass
class _Timing:
    """How long each phase of a request took, seconds."""

    phases: dict[str, float] = field(default_factory=dict)
    _since: float = field(default_factory=time.perf_counter)

    def end(self, phase: str) -> None:
        """What has passed since the last phase ended belongs to this one."""
        now = time.perf_counter()
        self.phases[phase] = now - self._since
        self._since = now

    def header(self) -> str:
        """The phases as `Server-Timing` has them, milliseconds."""
        return ", ".join(f"{phase};dur={seconds * 1000:.3f}" for phase, seconds in self.phases.items())
