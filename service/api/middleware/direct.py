"""Dispatch of one route around FastAPI's middleware stack and router."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.http.paths import route_path


class DirectRoute:
    """Calls the endpoint of one busy route directly: FastAPI's way to it takes an eighth of a small request.

    Args:
        app: The wrapped ASGI app, for all other requests.
        path: Path of the route, without parameters.
        method: HTTP method of the route.
        endpoint: Takes the request alone; raises only errors of `service.errors`.
    """

    def __init__(
        self, app: ASGIApp, path: str, method: str, endpoint: Callable[[Request], Awaitable[Response]]
    ) -> None:
        self.app = app
        self._target, self._endpoint = (path, method), endpoint
        self._route = Route(path, endpoint, methods=[method])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (route_path(scope), scope["method"]) == self._target:
            # Metrics are labelled by the route.
            scope["route"] = self._route
            response = await self._endpoint(Request(scope, receive, send))
            await response(scope, receive, send)
        else:
            await self.app(scope, receive, send)
