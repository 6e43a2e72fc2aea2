"""The OpenAPI document: what FastAPI does not derive from the types of the routes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from inspect import getdoc
from pkgutil import iter_modules
from typing import Any, TypeAlias, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode
from typing_extensions import TypeForm, is_typeddict

from service.api.http.paths import OPEN_PATHS, needs_key
from service.api.http.problems import MEDIA_TYPE as PROBLEM
from service.errors import (
    BodyTimeoutError,
    BodyTooLargeError,
    CrossSiteError,
    DecodeError,
    DeviceOutOfMemoryError,
    DeviceUnavailableError,
    DrainingError,
    ForbiddenError,
    ForbiddenHostError,
    InvalidConfigError,
    InvalidIdsError,
    InvalidLogitError,
    InvalidNameError,
    InvalidRequestError,
    InvalidTargetError,
    LossServiceError,
    NeedsLogitsError,
    NotAcceptableError,
    Problem,
    QueryTimeoutError,
    QueueFullError,
    RunDamagedError,
    ShapeError,
    StorageFullError,
    StorageUnavailableError,
    TooManyAttributesError,
    TooManyBatchesError,
    TooManyColumnsError,
    TooManyElementsError,
    TooManyExamplesError,
    TooManyRegionsError,
    TooManyValuesError,
    UnauthorizedError,
    UnknownConfigError,
    UnknownOutputError,
    UnknownRunError,
    UnsupportedEncodingError,
    UnsupportedMediaTypeError,
)
from service.schema import replies

JSON = "application/json"
SCHEMAS = "#/components/schemas/"

# As FastAPI types them.
Responses: TypeAlias = dict[int | str, dict[str, Any]]
Operation: TypeAlias = dict[str, Any]
ErrorKinds: TypeAlias = tuple[type[LossServiceError], ...]

# Errors of receiving a body.
RECEIVED: ErrorKinds = (
    DecodeError,
    BodyTimeoutError,
    BodyTooLargeError,
    UnsupportedMediaTypeError,
    UnsupportedEncodingError,
    InvalidRequestError,
    QueueFullError,
)
# Errors of every route that reads a JSON body, that uses the store, that uses a run, that queries its rows.
BODY: ErrorKinds = (*RECEIVED, TooManyValuesError)
STORE: ErrorKinds = (QueueFullError, StorageUnavailableError)
RUN: ErrorKinds = (UnknownRunError, InvalidNameError, RunDamagedError, *STORE)
ROWS: ErrorKinds = (*RUN, InvalidRequestError, StorageFullError, QueryTimeoutError, DeviceOutOfMemoryError)
# Errors of a service that is not ready, and of every route that computes losses.
READINESS: ErrorKinds = (DrainingError, DeviceUnavailableError, StorageUnavailableError, StorageFullError)
LOSS: ErrorKinds = (
    *RECEIVED,
    NotAcceptableError,
    TooManyAttributesError,
    TooManyBatchesError,
    TooManyColumnsError,
    TooManyElementsError,
    TooManyExamplesError,
    TooManyRegionsError,
    TooManyValuesError,
    UnknownConfigError,
    InvalidConfigError,
    UnknownOutputError,
    NeedsLogitsError,
    ShapeError,
    InvalidLogitError,
    InvalidTargetError,
    InvalidIdsError,
    DeviceOutOfMemoryError,
    DeviceUnavailableError,
)

EXAMPLE_PROBLEM = {
    "type": "urn:focal-loss-service:problem:invalid_target",
    "title": "Invalid target",
    "status": 422,
    "detail": "batch 0, row 17: target 12 is outside [0, 10) and is not ignore_index (-100)",
    "code": "invalid_target",
    "errors": [
        {
            "loc": ["batches", 0, "targets", 17],
            "msg": "target 12 is outside [0, 10) and is not ignore_index (-100)",
        }
    ],
}


def schema(kind: TypeForm[object]) -> Operation:
    """The JSON schema of a type; `document` moves its `$defs` to the components."""
    adapters: list[tuple[str, JsonSchemaMode, TypeAdapter[object]]] = [("", "validation", TypeAdapter(kind))]
    references, definitions = TypeAdapter.json_schemas(adapters, ref_template=SCHEMAS + "{model}")
    return references["", "validation"] | definitions


def json_body(kind: TypeForm[object], examples: Mapping[str, object]) -> Operation:
    """A route's `openapi_extra` with the type of its JSON body; FastAPI does not read the body."""
    named = {name: {"value": value} for name, value in examples.items()}
    content = {JSON: {"schema": schema(kind), "examples": named}}
    return {"requestBody": {"required": True, "content": content}}


def problems(*kinds: type[LossServiceError]) -> Responses:
    """A route's `responses` with these errors, by status."""
    by_status: dict[int | str, list[type[LossServiceError]]] = {}
    for kind in sorted({*kinds}, key=lambda kind: (kind.status, kind.code)):
        by_status.setdefault(kind.status, []).append(kind)
    return {status: _problem(of_status) for status, of_status in by_status.items()}


def _problem(kinds: list[type[LossServiceError]]) -> Operation:
    codes = {kind.code: (kind.__doc__ or "").splitlines()[0] for kind in kinds}
    properties = {"code": {"enum": list(codes)}, "status": {"const": kinds[0].status}}
    content: Operation = {"schema": {"allOf": [schema(Problem)], "properties": properties}}
    if EXAMPLE_PROBLEM["code"] in codes:
        content["examples"] = {"target": {"value": EXAMPLE_PROBLEM}}
    description = "; ".join(f"`{code}`: {meaning}" for code, meaning in codes.items())
    return {"description": description, "content": {PROBLEM: content}}


def document(app: FastAPI, *, wants_key: bool) -> None:
    """Set the OpenAPI document of the app, built at its first use.

    Args:
        app: The app, with all routes.
        wants_key: True if requests need a key.
    """

    def openapi() -> Operation:
        if app.openapi_schema is None:
            built = _from_routes(app)
            for path, method, operation in _operations(built):
                _complete(operation)
                kinds = _middleware_errors(path, method, wants_key=wants_key)
                operation["responses"] |= {str(status): reply for status, reply in problems(*kinds).items()}
                if wants_key and not needs_key(path):
                    operation["security"] = []
            schemas = built["components"]["schemas"]
            for unused in ("HTTPValidationError", "ValidationError"):
                del schemas[unused]
            _move_definitions(built, schemas)
            _add_docstrings(schemas)
            if wants_key:
                schemes = {"key": {"type": "http", "scheme": "bearer"}, "password": {"type": "http", "scheme": "basic"}}
                built["components"]["securitySchemes"] = schemes
                built["security"] = [{name: []} for name in schemes]
            app.openapi_schema = built
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _middleware_errors(path: str, method: str, *, wants_key: bool) -> list[type[LossServiceError]]:
    """Errors of the middleware for keys, hosts and origins."""
    kinds: list[type[LossServiceError]] = []
    if path not in OPEN_PATHS:
        kinds.append(ForbiddenHostError)
    if wants_key and needs_key(path):
        kinds.append(UnauthorizedError)
    return kinds if method == "get" else [*kinds, CrossSiteError, ForbiddenError]


def _from_routes(app: FastAPI) -> Operation:
    return get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)


def _operations(built: Operation) -> Iterator[tuple[str, str, Operation]]:
    """Path, method and content of each operation."""
    for path, by_method in built["paths"].items():
        for method, operation in by_method.items():
            yield path, method, operation


REQUEST_ID = {
    "description": "The request's own id if it sent a valid one",
    "required": True,
    "schema": {"type": "string", "pattern": r"^[A-Za-z0-9._-]{1,128}$"},
}


def _complete(operation: Operation) -> None:
    """Mend an operation: no 422 of FastAPI's own shape, no null in a query, and the headers of every reply."""
    responses = operation["responses"]
    if JSON in responses.get("422", {}).get("content", {}):
        del responses["422"]
    for response in responses.values():
        response.setdefault("headers", {})["X-Request-ID"] = REQUEST_ID
    for parameter in operation.get("parameters", []):
        parameter["schema"] = _without_null(parameter["schema"])


def _without_null(schema: Operation) -> Operation:
    """The schema of a parameter that may be absent, which is None in Python and nothing in a URL."""
    kinds: list[Operation] = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if (name, value) != ("default", None)}
    if len(kinds) == 1:
        del rest["anyOf"]
        return kinds[0] | rest
    return rest | {"anyOf": kinds} if kinds else rest


def _add_docstrings(schemas: Operation) -> None:
    """Add the docstrings of the reply types, which pydantic leaves out of the schemas of TypedDicts."""
    for module in iter_modules(replies.__path__, f"{replies.__name__}."):
        for name, value in vars(import_module(module.name)).items():
            if is_typeddict(value) and name in schemas:
                schemas[name].setdefault("description", getdoc(value))


def _move_definitions(value: object, schemas: Operation) -> None:
    """Move every `$defs` in the document to the schemas of its components.

    Raises:
        ValueError: Two types of one name.
    """
    if isinstance(value, list):
        for item in value:
            _move_definitions(item, schemas)
    elif isinstance(value, dict):
        members = cast(Operation, value)
        for name, definition in members.pop("$defs", {}).items():
            if schemas.setdefault(name, definition) != definition:
                raise ValueError(f"two schemas are called {name}")
        for member in list(members.values()):
            _move_definitions(member, schemas)
