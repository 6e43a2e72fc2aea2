"""Paths of requests to a service behind a path prefix."""

from __future__ import annotations

from starlette.types import Scope


def route_path(scope: Scope) -> str:
    """The path without the prefix of the service (`root_path`), as the router matches it."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))
