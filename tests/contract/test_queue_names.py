"""Deletion and new names of queues."""

from __future__ import annotations

import httpx
import pytest

from tests.lanes import mostly_slow

QUEUE = {"strategy": "random", "budget": 2}


@pytest.fixture
def run(client: httpx.Client) -> str:
    path = "/runs/queue-names"
    client.delete(path)
    client.put(path, json={})
    body = {"logits": [[0.0, 1.0], [1.0, 0.0]], "targets": [1, 1], "ids": ["a", "b"]}
    assert client.put(f"{path}/epochs/0/batches/b", json=body).status_code == 201
    for name in ("first", "second"):
        assert client.post(f"{path}/queues", json=QUEUE | {"name": name}).status_code == 201
    return path


def names(client: httpx.Client, run: str) -> list[str]:
    return [queue["name"] for queue in client.get(f"{run}/queues").json()["queues"]]


def code(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["code"]


def test_a_queue_is_deleted_and_its_reviews_stay(client: httpx.Client, run: str) -> None:
    review = [{"id": "a", "verdict": "ok", "queue": "first"}]
    assert client.post(f"{run}/reviews", json=review).status_code == 201
    reply = client.delete(f"{run}/queues/first")
    assert (reply.status_code, reply.content) == (204, b"")
    assert names(client, run) == ["second"]
    assert code(client.get(f"{run}/queues/first")) == (404, "unknown_queue")
    assert code(client.delete(f"{run}/queues/first")) == (404, "unknown_queue")
    assert len(client.get(f"{run}/reviews").json()["reviews"]) == 1
    # The name is free for another request.
    again = client.post(f"{run}/queues", json=QUEUE | {"name": "first", "strategy": "top_loss"})
    assert (again.status_code, again.json()["strategy"]) == (201, "top_loss")
    assert client.get(f"{run}/queues/first").json()["strategy"] == "top_loss"


def test_a_queue_is_renamed(client: httpx.Client, run: str) -> None:
    before = client.get(f"{run}/queues/first").json()
    reply = client.patch(f"{run}/queues/first", json={"name": "third"})
    assert (reply.status_code, reply.json()["name"], reply.json()["num_rows"]) == (200, "third", 2)
    assert names(client, run) == ["second", "third"]
    after = client.get(f"{run}/queues/third").json()
    assert after.pop("name") == "third"
    before.pop("name")
    assert after == before
    assert code(client.get(f"{run}/queues/first")) == (404, "unknown_queue")


def test_a_taken_name_is_a_conflict_and_changes_nothing(client: httpx.Client, run: str) -> None:
    assert code(client.patch(f"{run}/queues/first", json={"name": "second"})) == (409, "queue_conflict")
    assert names(client, run) == ["first", "second"]
    assert client.patch(f"{run}/queues/first", json={"name": "first"}).status_code == 200


@pytest.mark.parametrize(
    ("body", "expected"),
    mostly_slow(
        [
            ({"name": "a/b"}, (422, "invalid_name")),
            ({"name": ""}, (422, "invalid_name")),
            ({"name": 5}, (422, "invalid_request")),
            ({}, (422, "invalid_request")),
            ({"name": "x", "budget": 3}, (422, "invalid_request")),
            ([], (422, "invalid_request")),
        ],
        quick=2,
    ),
)
def test_a_bad_name_is_refused(client: httpx.Client, run: str, body: object, expected: tuple[int, str]) -> None:
    assert code(client.patch(f"{run}/queues/first", json=body)) == expected
    assert names(client, run) == ["first", "second"]


def test_an_unknown_queue_or_run_is_named(client: httpx.Client, run: str) -> None:
    assert code(client.patch(f"{run}/queues/none", json={"name": "x"})) == (404, "unknown_queue")
    assert code(client.delete("/runs/no-such-run/queues/first")) == (404, "unknown_run")
