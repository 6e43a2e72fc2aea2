"""The OpenAPI document describes the app: schemathesis sends requests generated from it and checks the replies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import load_all_checks
from schemathesis.generation.modes import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import ensure_resource_availability, positive_data_acceptance, use_after_free
from starlette.testclient import TestClient

from service import errors
from service.api.app import create_app
from service.settings import Settings

# Names that lead to stored data, by path parameter.
STORED = {
    "run": "r",
    "other": "r",
    "queue_name": "q",
    "example_id": "example/1",
    "model": "focal_loss",
    "version": "1",
    "epoch": "0",
    "batch": "b",
}
# Query parameters for which few values have a result.
SELECTIVE = ("alpha", "cursor", "epoch", "gamma", "other_epoch", "queue")
# Schemas cannot express relations between values, such as one weight for each class of the run, so a valid document
# may be an invalid request. The other checks follow resources over several requests.
EXCLUDED_CHECKS = [positive_data_acceptance, ensure_resource_availability, use_after_free]

# Errors of every route: of the connection, of its headers, of the framework, and bases of other errors.
NOT_OF_ROUTES = {
    "conflict",
    "head_timeout",
    "head_too_large",
    "http_version",
    "internal_error",
    "method_not_allowed",
    "too_many_connections",
    "transfer_encoding",
    "unauthorized",
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document of a service without keys."""
    return document_of(Settings(device="cpu"))


def document_of(settings: Settings) -> dict[str, Any]:
    app = create_app(settings)
    app.state.service.close()
    return app.openapi()


def store_run(app: FastAPI) -> None:
    """Store the data of `STORED` anew: a request may have replaced, renamed or deleted some of it."""
    client = TestClient(app)
    rng = np.random.default_rng(2)
    batch = {
        "logits": rng.standard_normal((30, 3)).round(3).tolist(),
        "targets": rng.integers(0, 3, 30).tolist(),
        "ids": [f"example/{row}" for row in range(30)],
        "attributes": {"text": ["some text"] * 30},
    }
    client.delete("/runs/r")
    assert client.put("/runs/r", json={}).is_success
    assert client.put("/runs/r/epochs/0/batches/b", json=batch).is_success
    assert client.post("/runs/r/queues", json={"strategy": "logit_margin", "name": "q"}).is_success
    assert client.post("/runs/r/reviews", json=[{"id": "example/1", "verdict": "ok"}]).is_success


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each operation with its name, such as `GET /runs`."""
    for path, by_method in document["paths"].items():
        for method, operation in by_method.items():
            yield f"{method.upper()} {path}", operation


def without_further_members(document: dict[str, Any]) -> dict[str, Any]:
    """The document, with schemas that allow documented members only."""
    closed = deepcopy(document)
    for schema in closed["components"]["schemas"].values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return closed


def check_replies(operation: APIOperation[Any], mode: GenerationMode) -> None:
    """Send requests of one operation, valid or invalid by its schemas, and check each reply."""
    # DELETE gets random names: it should not delete the run of the other requests.
    stored = {} if operation.method == "delete" or mode is GenerationMode.NEGATIVE else STORED

    @given(case=operation.as_strategy(generation_mode=mode), selective=st.integers(0, 9).map(lambda number: not number))
    @settings(
        max_examples=max(1, settings.default.max_examples // 5),
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: schemathesis.Case, selective: bool) -> None:
        case.path_parameters.update({name: stored[name] for name in case.path_parameters if name in stored})
        if stored and not selective:
            case.query = {name: value for name, value in case.query.items() if name not in SELECTIVE}
        case.call_and_validate(excluded_checks=EXCLUDED_CHECKS)

    if mode is GenerationMode.NEGATIVE:
        # Some operations have no invalid requests: no parameters, or texts that may be anything.
        with suppress(Unsatisfiable):
            check()
    else:
        check()


# The Label Studio SDK, which previews use, uses deprecated functions of pydantic.
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
@pytest.mark.parametrize(
    "mode", [pytest.param(GenerationMode.POSITIVE, id="valid"), pytest.param(GenerationMode.NEGATIVE, id="invalid")]
)
@pytest.mark.slow
def test_replies_are_as_documented(tmp_path: Path, document: dict[str, Any], mode: GenerationMode) -> None:
    load_all_checks()
    # schemathesis starts the app, and ends it after the test.
    app = create_app(Settings(device="cpu", data_dir=str(tmp_path), allowed_hosts=("testserver",)))
    app.openapi_schema = without_further_members(document)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    for result in schema.get_all_operations():
        store_run(app)
        check_replies(result.ok(), mode)


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert operation["summary"], name
        assert operation["description"].endswith("."), name
        assert all(parameter["description"] for parameter in operation.get("parameters", [])), name
        assert operation["operationId"]
        # No status that stands for others.
        assert all(status.isdecimal() for status in operation["responses"]), name


def test_every_json_reply_has_a_type(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            content = response.get("content", {})
            if status.startswith("2"):
                assert (status == "204") == (not content), name
                schema = content.get("application/json", {"schema": {"$ref": ""}})["schema"]
                # An export has the type of the file's format.
                assert "$ref" in schema or name in ("GET /runs/{run}/export", "GET /runs/{run}/corrected"), name
            elif status != "304":
                (problem,) = content.values()
                assert problem["schema"]["properties"]["status"] == {"const": int(status)}
                assert problem["schema"]["properties"]["code"]["enum"], name


def test_every_error_is_documented(document: dict[str, Any]) -> None:
    known = {kind.code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "code")}
    replies = [reply for _, operation in operations(document) for reply in operation["responses"].values()]
    schemas = [content["schema"] for reply in replies for content in reply.get("content", {}).values()]
    named = {code for schema in schemas for code in schema.get("properties", {}).get("code", {}).get("enum", ())}
    assert named == known - NOT_OF_ROUTES


def test_every_reply_type_has_a_description(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        # Any JSON needs no description.
        assert schema.get("description") or not schema, name


def test_parameters_of_a_query_are_never_null(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        for parameter in operation.get("parameters", []):
            assert {"type": "null"} not in parameter["schema"].get("anyOf", []), (name, parameter["name"])
            assert parameter["schema"].get("default", "") is not None, (name, parameter["name"])


def test_operations_document_the_errors_of_keys_only_with_keys(document: dict[str, Any]) -> None:
    with_keys = document_of(Settings(device="cpu", api_keys="a-key-of-twenty-four-letters"))  # type: ignore[arg-type]
    assert not any("401" in operation["responses"] for _, operation in operations(document))
    for name, operation in operations(with_keys):
        # The webhook of Argilla needs a signature.
        open_to_all = name in ("GET /healthz", "GET /readyz", "POST /runs/{run}/argilla/webhook")
        assert ("401" in operation["responses"]) != open_to_all, name
        assert (operation.get("security") == []) == open_to_all, name


def test_operations_document_why_a_browser_is_refused(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        expected = {"forbidden_host"} if name not in ("GET /healthz", "GET /readyz") else set()
        expected |= set() if name.startswith("GET") else {"cross_site", "forbidden"}
        reply = operation["responses"].get("403", {"content": {"": {"schema": {"properties": {"code": {"enum": []}}}}}})
        (content,) = reply["content"].values()
        assert set(content["schema"]["properties"]["code"]["enum"]) == expected, name
