"""Dispatch of one route around FastAPI's middleware stack and router."""

from __future__ import annotations

from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send


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
