"""ASGI apps for tests of one middleware."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import LossServiceError

Headers = Iterable[tuple[str, str]]


def http_scope(method: str = "GET", path: str = "/runs", headers: Headers = (), **more: Any) -> Scope:
    """The scope of a request of 127.0.0.1, with the headers as they come from uvicorn."""
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    scope: Scope = {"type": "http", "http_version": "1.1", "method": method, "scheme": "http", "path": path}
    scope |= {"raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": raw}
    return scope | {"client": ("127.0.0.1", 50_000), "server": ("127.0.0.1", 8000)} | more


def scope_behind(middleware: Callable[[ASGIApp], ASGIApp], scope: Scope) -> Scope:
    """The scope that the app behind a middleware gets; raises what the middleware raises."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    asyncio.run(middleware(app)(scope, _no_body, _ignore))  # type: ignore[arg-type]
    return seen[0]


def refusal(middleware: Callable[[ASGIApp], ASGIApp], scope: Scope) -> str:
    """The code of the error with which a middleware refuses a request, or an empty text."""
    try:
        scope_behind(middleware, scope)
    except LossServiceError as err:
        return err.code
    return ""


async def _no_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _ignore(message: Message) -> None:
    pass
