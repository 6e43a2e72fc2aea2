"""What stands before every route: request ids, the log line, metrics, errors and keys. Pure ASGI."""

from __future__ import annotations

import re
import time
import traceback
from random import getrandbits

import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.metrics import Metrics
from service.api.problems import problem_response
from service.api.sessions import Sessions, refuse_cross_site
from service.errors import DeviceOutOfMemoryError, LossServiceError, UnauthorizedError

SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
PAGE_PATHS, PAGE_FILES = frozenset({"/", "/session"}), "/web/"

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
            quiet = scope["path"] in OPEN_PATHS or scope["path"] == "/metrics"
            level = self._log.debug if quiet else self._log.info
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


class StraightTo:
    """Takes the requests of one path and method to their route at once: what the framework does on the way there, its
    exceptions, its stacks of contexts and its search for the route, is not for a route that needs none of them.

    Args:
        app: What is behind it, for all other requests.
        route: Whose path has no parameters; its errors are ours alone.
    """

    def __init__(self, app: ASGIApp, route: Route) -> None:
        self.app = app
        self._route = route
        self._wanted = [(route.path, method) for method in route.methods or ()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (scope["path"], scope["method"]) in self._wanted and not scope["root_path"]:
            scope["route"] = self._route
            await self._route.app(scope, receive, send)
        else:
            await self.app(scope, receive, send)


class BearerAuth:
    """Asks for a bearer key (RFC 6750), or the session of who has signed in to the page with one.

    Open without either: /healthz and /readyz, the page's own files, and where one signs in.

    Args:
        app: What is behind it.
        sessions: Of at least one key.
    """

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self.app = app
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_open(scope["path"]):
            self._check(scope["method"], Headers(scope=scope))
        await self.app(scope, receive, send)

    def _check(self, method: str, headers: Headers) -> None:
        # A key that is wrong stays wrong, whoever is signed in.
        if "authorization" not in headers and self._sessions.signed_in(headers):
            refuse_cross_site(method, headers)
            return
        if not self._sessions.has_key(headers.get("authorization", "")):
            raise UnauthorizedError(
                "this service wants 'Authorization: Bearer <key>' with one of its keys",
                headers={"WWW-Authenticate": "Bearer"},
            )


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path in PAGE_PATHS or path.startswith(PAGE_FILES)
