"""Query parameters: one spelling of each value, and errors that name the parameter, its value and its range."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from starlette.testclient import TestClient

from service.api.app import create_app
from service.api.queries import ExamplesQuery
from service.queries.view import SCORE_NAMES
from service.settings import Settings

BATCH = {
    "logits": [[2.0, 0.1, -1.0], [0.3, 0.2, 0.9], [0.1, 0.2, 0.3]],
    "targets": [0, 1, 2],
    "ids": ["a", "b\n", "c/d"],
    "attributes": {"text": ["a cat", "a dog", "a bird"], "": ["x", "y", "z"]},
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder: Path = tmp_path_factory.mktemp("queries")
    with TestClient(create_app(Settings(device="cpu", data_dir=str(folder))), base_url="http://localhost") as client:
        assert client.put("/runs/r", json={}).status_code == 201
        assert client.put("/runs/r/epochs/0/batches/b", json=BATCH).status_code == 201
        yield client


def error_of(reply: httpx.Response) -> dict[str, Any]:
    """The first error item of a reply to an invalid query."""
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_request"), reply.text
    item: dict[str, Any] = reply.json()["errors"][0]
    return item


@pytest.mark.parametrize(
    ("path", "query", "msg"),
    [
        ("examples", "limit=0", "should be an integer from 1 to 100000, got '0'"),
        ("examples", "limit=1.0", "should be an integer from 1 to 100000, got '1.0'"),
        ("examples", "limit=%2B1", "should be an integer from 1 to 100000, got '+1'"),
        ("examples", "limit=1_0", "should be an integer from 1 to 100000, got '1_0'"),
        ("examples", "limit=", "should be an integer from 1 to 100000, got ''"),
        ("examples", "limit=\u0661", "should be an integer from 1 to 100000, got '\u0661'"),
        ("examples", "epoch=x", "should be an integer from 0 to 2147483647, got 'x'"),
        ("examples", "target=-1", "'-1' is not the number of a class, and the run has no class names"),
        ("examples", "correct=yes", "should be true or false, got 'yes'"),
        ("examples", "min_loss=x", "Input should be a valid number, unable to parse string as a number, got 'x'"),
        ("examples", "max_el2n=nan", "Input should be a finite number, got 'nan'"),
        ("examples", "alpha=1,x", "should be numbers with commas between them, or none, got '1,x'"),
        ("diagnostics", "alpha=nan", "should be numbers with commas between them, or none, got 'nan'"),
        ("dynamics", "bins=201", "should be an integer from 1 to 200, got '201'"),
        ("dynamics", "region=far", "Input should be 'easy', 'ambiguous', 'hard_to_learn' or 'between', got 'far'"),
        ("compare/r", "other_epoch=-1", "should be an integer from 0 to 2147483647, got '-1'"),
        ("export/preview", "rows=21", "should be an integer from 1 to 20, got '21'"),
    ],
)
def test_a_bad_value_is_named_with_its_range(client: TestClient, path: str, query: str, msg: str) -> None:
    reply = client.get(f"/runs/r/{path}?{query}")
    name = query.partition("=")[0]
    assert error_of(reply) == {"loc": ["query", name], "msg": msg}
    assert reply.json()["detail"] == f"query.{name}: {msg}"


@pytest.mark.parametrize(
    "path", ["examples", "examples/a", "diagnostics", "dynamics", "compare/r", "export", "queues/q"]
)
def test_an_unknown_parameter_is_an_error_that_lists_the_known(client: TestClient, path: str) -> None:
    item = error_of(client.get(f"/runs/r/{path}?limt=1"))
    assert item["loc"] == ["query", "limt"]
    assert item["msg"].startswith("unknown query parameter 'limt'; known are ")
    assert ("attribute.NAME" in item["msg"]) == (path in ("examples", "queues/q"))


def test_a_long_name_is_cut(client: TestClient) -> None:
    reply = client.get(f"/runs/r/examples?{'x' * 5000}=1")
    assert error_of(reply)["loc"] == ["query", "x" * 100]
    assert len(reply.content) < 2000


@pytest.mark.parametrize("query", ["limit=1&limit=2", "attribute.text=x&attribute.text=x", "unknown=1&unknown=2"])
def test_a_repeated_parameter_is_an_error(client: TestClient, query: str) -> None:
    name = query.partition("=")[0]
    item = {"loc": ["query", name], "msg": f"query parameter {name!r} is repeated"}
    assert error_of(client.get(f"/runs/r/examples?{query}")) == item


def test_a_repeated_parameter_of_a_loss_request_is_an_error(client: TestClient) -> None:
    reply = client.post("/loss?top_k=1&top_k=2", json={"logits": [[1, 2]], "targets": [0]})
    assert error_of(reply) == {"loc": ["query", "top_k"], "msg": "query parameter 'top_k' is repeated"}


@pytest.mark.parametrize("text", ["-1", "1.0", "x", "1000001", "9" * 5000])
def test_a_bad_top_k_of_a_loss_request_is_named(client: TestClient, text: str) -> None:
    reply = client.post(f"/loss?top_k={text}", json={"logits": [[1, 2]], "targets": [0]})
    assert text[:100] in error_of(reply)["msg"]
    assert error_of(reply)["loc"] == ["top_k"]


def test_every_score_has_bounds() -> None:
    bounds = {name for name in ExamplesQuery.model_fields if name.startswith(("min_", "max_"))}
    assert bounds == {f"{side}_{name}" for side in ("min", "max") for name in SCORE_NAMES}


@pytest.mark.parametrize("name", SCORE_NAMES)
def test_bounds_filter_by_their_score(client: TestClient, name: str) -> None:
    values = sorted(row[name] for row in client.get("/runs/r/examples").json()["rows"])
    bounds = {f"min_{name}": values[1] - 1e-9, f"max_{name}": values[1] + 1e-9}
    assert [row[name] for row in client.get("/runs/r/examples", params=bounds).json()["rows"]] == [values[1]]


@pytest.mark.parametrize(("name", "text", "example_id"), [("text", "a dog", "b\n"), ("", "z", "c/d")])
def test_attributes_are_filters(client: TestClient, name: str, text: str, example_id: str) -> None:
    rows = client.get("/runs/r/examples", params={f"attribute.{name}": text}).json()["rows"]
    assert [row["id"] for row in rows] == [example_id]


@pytest.mark.parametrize("example_id", BATCH["ids"])
def test_an_id_may_have_any_characters(client: TestClient, example_id: str) -> None:
    reply = client.get(f"/runs/r/examples/{quote(example_id, safe='')}")
    assert reply.json()["id"] == example_id


@pytest.mark.parametrize(
    ("query", "alpha", "gamma"),
    [
        ("", None, 2.0),
        ("alpha=none", None, 2.0),
        ("alpha=", None, 2.0),
        ("alpha=1, 2.5,1e-3", [1.0, 2.5, 0.001], 2.0),
        ("gamma=0.5", None, 0.5),
    ],
)
def test_another_loss(client: TestClient, query: str, alpha: list[float] | None, gamma: float) -> None:
    reply = client.get(f"/runs/r/diagnostics?fields=loss&{query}").json()
    assert (reply["alpha"], reply["gamma"]) == (alpha, gamma)


def test_a_long_text_that_is_no_list_of_weights_is_rejected(client: TestClient) -> None:
    # A regular expression that matches digits in two ways would take minutes.
    error_of(client.get(f"/runs/r/diagnostics?alpha={'1' * 60_000}x"))


@pytest.mark.parametrize("query", ["gamma=-1", "gamma=nan", "alpha=-1,1,1", "alpha=1,2"])
def test_a_loss_that_does_not_exist_is_an_invalid_configuration(client: TestClient, query: str) -> None:
    reply = client.get(f"/runs/r/diagnostics?{query}")
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_config")
