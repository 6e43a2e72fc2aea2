"""Errors, the framework's own included, as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from service.api.http.methods import allowed_methods, options_response, slash_redirect
from service.api.http.paths import route_path
from service.api.http.query_types import query_models
from service.errors import ErrorItem, InvalidRequestError, LossServiceError, MethodNotAllowedError, NotFoundError
from service.schema.faults import MAX_ITEMS, error_item, summary

MEDIA_TYPE = "application/problem+json"

INFERENCE_PROTOCOL = "/v2"


def problem_response(error: LossServiceError, path: str) -> Response:
    """The reply for an error at a path of the router.

    Clients of the Open Inference Protocol read the text from the member `error`.
    """
    members = error.problem()
    if path == INFERENCE_PROTOCOL or path.startswith(f"{INFERENCE_PROTOCOL}/"):
        members["error"] = error.detail
    return Response(orjson.dumps(members), status_code=error.status, headers=error.headers, media_type=MEDIA_TYPE)


async def on_http_exception(request: Request, exception: Exception) -> Response:
    """The reply for Starlette's own errors: unknown paths and methods."""
    assert isinstance(exception, HTTPException)
    if exception.status_code == 404:
        return slash_redirect(request.app, request.scope) or _not_found(request)
    if exception.status_code == 405:
        methods = allowed_methods(request.app, request.scope)
        return options_response(methods) if request.method == "OPTIONS" else _not_allowed(request, methods)
    status, code = exception.status_code, f"http_{exception.status_code}"
    members = {"type": "about:blank", "title": str(exception.detail), "status": status}
    members |= {"detail": str(exception.detail), "code": code}
    return Response(orjson.dumps(members), status_code=status, headers=exception.headers, media_type=MEDIA_TYPE)


def _not_found(request: Request) -> Response:
    error = NotFoundError(f"nothing is served at {request.url.path}")
    return problem_response(error, route_path(request.scope))


def _not_allowed(request: Request, methods: list[str]) -> Response:
    allow = ", ".join(methods)
    error = MethodNotAllowedError(f"{request.method} is not served here, but {allow}", headers={"Allow": allow})
    return problem_response(error, route_path(request.scope))


async def on_validation_error(request: Request, exception: Exception) -> Response:
    """The reply for a query that does not fit its model."""
    assert isinstance(exception, RequestValidationError)
    known = _known_parameters(request)
    errors = exception.errors()
    items = [_query_item(error, known) for error in errors[:MAX_ITEMS]]
    problem = InvalidRequestError(summary(items, len(errors)), errors=items)
    return problem_response(problem, route_path(request.scope))


def _query_item(error: Mapping[str, Any], known: str) -> ErrorItem:
    item = error_item(error, ())
    if error["type"] == "extra_forbidden":
        item["msg"] = f"unknown query parameter {item['loc'][-1]!r}; known are {known}"
    return item


def _known_parameters(request: Request) -> str:
    return ", ".join(name for model in query_models(request) for name in model.known_names())
