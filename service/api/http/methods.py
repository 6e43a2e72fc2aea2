"""Replies for methods and paths that no route has: 405, OPTIONS, and a slash too many."""

from __future__ import annotations

from urllib.parse import quote

from fastapi import FastAPI
from starlette.responses import Response
from starlette.routing import Match, Mount
from starlette.types import Scope

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
# Methods that change nothing.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


def allowed_methods(app: FastAPI, scope: Scope) -> list[str]:
    """The methods of all routes with the path of a request; empty if there are none."""
    # A mount has added its path to the prefix.
    scope = {**scope, "root_path": scope.get("app_root_path", scope.get("root_path", ""))}
    methods = [method for method in METHODS if _has_route(app, {**scope, "method": method})]
    if not methods:
        return []
    return [*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"]


def _has_route(app: FastAPI, scope: Scope) -> bool:
    # A mount has files, for every method.
    return any(
        route.matches(scope)[0] is Match.FULL and (scope["method"] == "GET" or not isinstance(route, Mount))
        for route in app.routes
    )


def options_response(methods: list[str]) -> Response:
    """The reply to OPTIONS."""
    return Response(status_code=204, headers={"Allow": ", ".join(methods)})


def slash_redirect(app: FastAPI, scope: Scope) -> Response | None:
    """A redirect to the path without slashes at its end, or to the page with one; None if that has no route."""
    path = scope["path"]
    target = f"{path}/" if path == scope.get("root_path", "") else path.rstrip("/")
    if target == path or not allowed_methods(app, {**scope, "path": target}):
        return None
    query = scope["query_string"].decode("latin-1")
    # Without a host: the browser knows under which name it reached the service.
    return Response(
        status_code=307, headers={"Location": quote(target, safe="/:@!$&'()*+,;=~") + (query and f"?{query}")}
    )
