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

from service.api.http.paths import OPEN_PATHS, route_label, route_path
from service.api.http.problems import problem_response
from service.api.http.security_headers import with_security_headers
from service.api.metrics import Metrics
from service.errors import DeviceOutOfMemoryError, LossServiceError

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
# Logged at level debug: load balancers and Prometheus request them all the time.
QUIET_PATHS = OPEN_PATHS | {"/metrics"}

log = structlog.get_logger("service.access")


def request_id_of(sent: str) -> str:
    """The client's id of the request if it is well-formed, else a new one."""
    # An id is no secret, and os.urandom would release the GIL for each request.
    return sent if REQUEST_ID.fullmatch(sent) else f"{getrandbits(128):032x}"


class RequestContext:
    """Gives requests an id and replies their security headers, turns exceptions into problem replies, logs and counts.

    Neither bodies nor the texts of errors are logged: they may hold logits, labels or keys.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics
        # structlog's lazy proxy would bind a new logger for every line.
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
                headers = with_security_headers(message["headers"])
                message["headers"] = [*headers, (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except ClientDisconnect:
            fields["code"] = "client_disconnected"
        except Exception as err:
            error = _as_service_error(err, fields)
            fields["code"] = error.code
            if not status:
                await problem_response(error, route_path(scope))(scope, receive, send_with_id)
        finally:
            elapsed = time.perf_counter() - started
            self.metrics.count_request(scope["method"], route_label(scope), status, elapsed)
            is_quiet = fields["path"] in QUIET_PATHS or "repeated" in scope
            level = self._log.debug if is_quiet else self._log.info
            level("request", **fields, status=status, duration_ms=round(elapsed * 1000, 3))


def _as_service_error(err: Exception, fields: dict[str, str]) -> LossServiceError:
    """The error of the reply. Unexpected exceptions are logged, and their text is left out of log and reply."""
    if isinstance(err, LossServiceError):
        return err
    if isinstance(err, MemoryError):
        return DeviceOutOfMemoryError("no memory for this request now", headers={"Retry-After": "5"})
    # The text of the exception may hold logits.
    frames = "".join(traceback.format_tb(err.__traceback__))
    log.error("unexpected error", **fields, error=type(err).__name__, traceback=frames)
    return LossServiceError(f"unexpected error; the log has it under request id {fields['request_id']}")
