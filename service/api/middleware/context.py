"""Outermost middleware: request ids, one log line for each request, metrics and error replies. Pure ASGI."""

from __future__ import annotations

import re
import time
import traceback
from random import getrandbits

import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.http.problems import problem_response
from service.api.metrics import Metrics
from service.errors import DeviceOutOfMemoryError, LossServiceError

SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
# Logged at level debug: load balancers and Prometheus ask all the time.
QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})

log = structlog.get_logger("service.access")


def request_id_of(sent: str) -> str:
    """The id that a client has given its request where it can be taken, else a new one."""
    # Not from the operating system: each call of it hands the interpreter to another thread, and an id is no secret.
    return sent if SANE_REQUEST_ID.fullmatch(sent) else f"{getrandbits(128):032x}"


class RequestContext:
    """Gives every request an id, and every error that comes up its reply; logs and counts what was answered.

    Neither bodies nor the texts of errors are logged: they may hold logits, labels or keys.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics
        # Bound once: the lazy one is bound anew for every line.
        self._log = log.bind()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = request_id_of(Headers(scope=scope).get("x-request-id", ""))
        status, fields = 0, {"request_id": request_id, "method": scope["method"], "path": scope["path"]}

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except ClientDisconnect:
            fields["code"] = "client_disconnected"
        except Exception as err:
            fault = _fault(err, fields)
            fields["code"] = fault.code
            if not status:
                await problem_response(fault, scope["path"])(scope, receive, send_with_id)
        finally:
            elapsed = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "unknown")
            self.metrics.count_request(scope["method"], route, status, elapsed)
            level = self._log.debug if scope["path"] in QUIET_PATHS else self._log.info
            level("request", **fields, status=status, duration_ms=round(elapsed * 1000, 3))


def _fault(err: Exception, fields: dict[str, str]) -> LossServiceError:
    """The error to answer with; what nobody expected is logged and told without its text."""
    if isinstance(err, LossServiceError):
        return err
    if isinstance(err, MemoryError):
        return DeviceOutOfMemoryError("no memory for this request now", headers={"Retry-After": "5"})
    # The text of the exception may hold logits.
    frames = "".join(traceback.format_tb(err.__traceback__))
    log.error("unexpected error", **fields, error=type(err).__name__, traceback=frames)
    return LossServiceError(f"unexpected error; the log has it under request id {fields['request_id']}")
