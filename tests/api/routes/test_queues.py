"""`GET /runs/{run}/queues/{queue}`: filters, order and pages, compared with a scan of all rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.api.app import create_app
from service.settings import Settings

QUEUE = "/runs/r/queues/monday"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder: Path = tmp_path_factory.mktemp("queues")
    with TestClient(create_app(Settings(device="cpu", data_dir=str(folder))), base_url="http://localhost") as client:
        rng = np.random.default_rng(2)
        batch = {
            "logits": rng.standard_normal((60, 3)).round(3).tolist(),
            "targets": rng.integers(0, 3, 60).tolist(),
            "ids": [f"row/{row}" for row in range(60)],
            "attributes": {"text": [f"Message {row}" for row in range(60)], "by": ["kim", "lee"] * 30},
        }
        assert client.put("/runs/r", json={}).status_code == 201
        assert client.put("/runs/r/epochs/0/batches/b", json=batch).status_code == 201
        body = {"strategy": "logit_margin", "budget": 40, "name": "monday"}
        new_queue = client.post("/runs/r/queues", json=body).json()
        assert (new_queue["num_matching"], new_queue["offset"]) == (40, 0)
        reviews = [{"id": row["id"], "verdict": ["ok", "unsure"][row["rank"] % 2]} for row in new_queue["rows"][:10]]
        assert client.post("/runs/r/reviews", json=reviews).status_code == 201
        yield client


def rows_of(client: TestClient) -> list[dict[str, Any]]:
    return list(client.get(QUEUE).json()["rows"])


def test_filters_order_and_pages_equal_those_of_a_scan(client: TestClient) -> None:
    rows = rows_of(client)
    query: dict[str, Any] = {
        "target": 1, "verdict": "open", "attribute.by": "kim", "text": "MESSAGE", "sort": "-prediction,loss",
        "fields": "id,rank", "limit": 2, "offset": 1,
    }  # fmt: skip
    matching = [row for row in rows if row["target"] == 1 and not row["verdict"] and row["attributes"]["by"] == "kim"]
    matching.sort(key=lambda row: (-row["prediction"], row["loss"]))
    assert len(matching) == 3
    page = client.get(QUEUE, params=query).json()
    assert page["rows"] == [{"id": row["id"], "rank": row["rank"]} for row in matching[1:3]]
    numbers = ("num_matching", "num_rows", "num_reviewed", "num_ok", "num_wrong", "num_unsure")
    assert [page[name] for name in numbers] == [len(matching), 40, 10, 5, 0, 5]
    assert page["num_per_class"] == {str(k): n for k, n in Counter(row["target"] for row in rows).items()}
    around = client.get(QUEUE, params={"around": 33, "limit": 10}).json()
    assert (around["offset"], around["rows"]) == (30, rows[30:])
    assert client.get(QUEUE, params={"ranks": "9,3"}).json()["rows"] == [rows[2], rows[8]]
    assert client.get(QUEUE, params={"facets": "true"}).json()["attributes"] == {"by": ["kim", "lee"]}


@pytest.mark.parametrize(
    "query",
    [
        "sort=no",
        "verdict=no",
        "fields=no",
        "ranks=1,x",
        "ranks=",
        "facets=yes",
        "target=x",
        "around=-1",
        "x=1",
        "limit=0",
    ],
)
def test_an_invalid_parameter_is_named(client: TestClient, query: str) -> None:
    reply = client.get(f"{QUEUE}?{query}")
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_request")
    assert reply.json()["errors"][0]["loc"] == ["query", query.partition("=")[0]]


def test_the_parameters_are_documented(client: TestClient) -> None:
    path = client.get("/openapi.json").json()["paths"]["/runs/{run}/queues/{queue_name}"]["get"]
    named = {parameter["name"] for parameter in path["parameters"] if parameter["in"] == "query"}
    assert named >= {"sort", "target", "prediction", "suggested", "verdict", "text", "limit", "offset", "facets"}
