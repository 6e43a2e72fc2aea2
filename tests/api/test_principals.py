"""Roles of keys: what readers, reviewers and owners may do, on every route."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from service.api.app import create_app
from service.api.http.methods import SAFE_METHODS
from service.api.principals import LEAST_ROLE
from service.settings import Settings
from tests.services import ClientWith

OWNER, REVIEWER, READER = "a-key-of-an-owner-01", "a-key-of-a-reviewer-2", "a-key-of-a-reader-03"
KEYS = f"olga:{OWNER},rob:reviewer:{REVIEWER},reader:reader:{READER}"
# Everything else with an unsafe method changes what only an owner may change.
OF_READERS = {
    "POST /loss",
    "POST /v2/models/{model}/infer",
    "POST /v2/models/{model}/versions/{version}/infer",
    "POST /runs/{run}/queues",
    "POST /runs/{run}/label-studio/setup",
    "POST /runs/{run}/label-studio/predict",
    # A signature stands for the key.
    "POST /runs/{run}/argilla/webhook",
    "POST /session",
    "DELETE /session",
}
OF_REVIEWERS = {
    "POST /runs/{run}/reviews",
    "POST /runs/{run}/label-studio/webhook",
    "POST /runs/{run}/queues/{queue_name}/next",
    "DELETE /runs/{run}/queues/{queue_name}/next",
}


@pytest.fixture
def client(client_with: ClientWith) -> Iterator[httpx.Client]:
    client = client_with(api_keys=KEYS)
    client.auth = ("", OWNER)
    client.put("/runs/roles", json={"class_names": ["a", "b"]}).raise_for_status()
    body = {"logits": [[2, 1], [0, 1]], "targets": [0, 0], "ids": ["x", "y"]}
    client.put("/runs/roles/epochs/0/batches/0", json=body).raise_for_status()
    yield client
    client.auth = ("", OWNER)
    client.delete("/runs/roles").raise_for_status()


def changes(app: FastAPI) -> Iterator[tuple[str, str]]:
    for route in iter_route_contexts(app.routes):
        for method in sorted(set(route.methods or ()) - SAFE_METHODS):
            yield f"{method} {route.path}", getattr(route.endpoint, LEAST_ROLE, "owner")


def test_every_route_that_changes_something_needs_an_owner_unless_it_is_listed() -> None:
    app = create_app(Settings(device="cpu"))
    service = app.state.service
    try:
        routes = dict(changes(app))
    finally:
        service.close()
        service.runs.close()
    assert {name for name, role in routes.items() if role == "reader"} == OF_READERS
    assert {name for name, role in routes.items() if role == "reviewer"} == OF_REVIEWERS
    assert len(routes) > len(OF_READERS) + len(OF_REVIEWERS)


@pytest.mark.parametrize(
    ("method", "path", "body", "least"),
    [
        ("GET", "/runs/roles", None, "reader"),
        ("POST", "/loss", {"logits": [[1, 2]], "targets": [0]}, "reader"),
        ("POST", "/runs/roles/queues?preview=true", {"strategy": "top_loss"}, "reader"),
        ("POST", "/runs/roles/queues", {"strategy": "top_loss"}, "owner"),
        ("POST", "/runs/roles/reviews", [{"id": "x", "verdict": "ok"}], "reviewer"),
        ("POST", "/runs/roles/reviews", [{"id": "x", "verdict": "ok", "adjudicate": True}], "owner"),
        ("PUT", "/configs", {}, "owner"),
        ("PUT", "/runs/other", {}, "owner"),
        ("DELETE", "/runs/roles/epochs/7", None, "owner"),
        ("DELETE", "/runs/other", None, "owner"),
    ],
)
def test_roles(client: httpx.Client, method: str, path: str, body: object, least: str) -> None:
    rights = {"reader": [READER, REVIEWER, OWNER], "reviewer": [REVIEWER, OWNER], "owner": [OWNER]}[least]
    for key in (READER, REVIEWER, OWNER):
        reply = client.request(method, path, json=body, auth=("", key))
        if key in rights:
            assert reply.status_code in (200, 201, 204, 404), reply.text
        else:
            assert (reply.status_code, reply.json()["code"]) == (403, "forbidden")


def test_the_reviewer_is_the_name_of_the_key_whatever_the_body_says(client: httpx.Client) -> None:
    review = {"id": "x", "verdict": "ok", "reviewer": "someone else"}
    for key in (REVIEWER, OWNER):
        client.post("/runs/roles/reviews", json=[review], auth=("", key)).raise_for_status()
    assert [kept["reviewer"] for kept in client.get("/runs/roles/reviews").json()["reviews"]] == ["rob", "olga"]


def test_the_reviewer_of_a_file_is_the_name_of_the_key(client: httpx.Client) -> None:
    path, headers = "/runs/roles/reviews?reviewer=lee", {"Content-Type": "text/csv"}
    file = "id,verdict,reviewer\nx,ok,kim\ny,wrong,\n"
    for added in (2, 0):
        reply = client.post(path, content=file, headers=headers, auth=("", REVIEWER))
        assert (reply.status_code, reply.json()["added"]) == (201, added)
    assert [kept["reviewer"] for kept in client.get("/runs/roles/reviews").json()["reviews"]] == ["rob", "rob"]
    reply = client.post(f"{path}&adjudicate=true", content=file, headers=headers, auth=("", REVIEWER))
    assert (reply.status_code, reply.json()["code"]) == (403, "forbidden")


def test_a_session_of_the_page_has_the_name_and_the_role_of_its_key(client: httpx.Client) -> None:
    client.auth = None
    origin = {"Origin": str(client.base_url).rstrip("/")}
    session = {"needs_key": True, "signed_in": False, "name": None, "role": None}
    assert client.get("/session").json() == session
    assert client.post("/session", json={"key": REVIEWER}, headers=origin).status_code == 204
    assert client.get("/session").json() == session | {"signed_in": True, "name": "rob", "role": "reviewer"}
    reply = client.post("/runs/roles/reviews", json=[{"id": "y", "verdict": "unsure"}], headers=origin)
    assert reply.status_code == 201
    assert client.put("/runs/other", json={}, headers=origin).json()["code"] == "forbidden"
    (kept,) = client.get("/runs/roles/reviews").json()["reviews"]
    assert kept["reviewer"] == "rob"
