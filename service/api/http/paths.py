"""Paths of requests, also to a service behind a path prefix, and of health checks."""

from __future__ import annotations

import re

from starlette.types import Scope

# Health checks: they need no key, may use any host, and are answered beyond `max_connections`.
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
# Their requests have a signature in place of a key.
SIGNED_PATHS = re.compile(r"/runs/[^/]+/argilla/webhook")


def needs_key(path: str) -> bool:
    """True if the API needs a key on a path, which may be that of a route with names of parameters."""
    return path not in OPEN_PATHS and SIGNED_PATHS.fullmatch(path) is None


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
