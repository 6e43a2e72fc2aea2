"""Paths of requests, also to a service behind a path prefix, and of health checks."""

from __future__ import annotations

from starlette.types import Scope

# Health checks: they need no key, may use any host, and are answered beyond `max_connections`.
OPEN_PATHS = frozenset({"/healthz", "/readyz"})


def route_path(scope: Scope) -> str:
    """The path without the prefix of the service (`root_path`), as the router matches it."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def route_label(scope: Scope) -> str:
    """The route that has handled a request, with the names of its parameters, or `unknown`."""
    if "app_root_path" in scope:
        # A mounted app has no route, but the path of its mount.
        return str(scope["root_path"].removeprefix(scope["app_root_path"]))
    return str(getattr(scope.get("route"), "path", "unknown"))
