"""Deleting and replacing batches and epochs over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

RUN = "/runs/replacing"
BATCH = f"{RUN}/epochs/3/batches/rank-0"


@pytest.fixture
def run(client: httpx.Client) -> Iterator[httpx.Client]:
    assert client.put(RUN, json={}).status_code == 201
    yield client
    client.delete(RUN)


def body(logit: float) -> dict[str, Any]:
    return {"logits": [[logit, 2.0]], "targets": [0], "ids": ["a"]}


def log_odds(client: httpx.Client) -> list[float]:
    return [row["log_odds"] for row in client.get(f"{RUN}/examples").json()["rows"]]


def test_a_resumed_training_replaces_its_epoch(run: httpx.Client) -> None:
    assert run.put(BATCH, json=body(1)).status_code == 201
    conflict = run.put(BATCH, json=body(1.5))
    assert (conflict.status_code, conflict.json()["code"]) == (409, "batch_conflict")
    assert "replace=true" in conflict.json()["detail"]
    assert run.put(f"{BATCH}?replace=false", json=body(1.5)).status_code == 409
    for _ in range(2):
        reply = run.put(f"{BATCH}?replace=true&outputs=log_odds", json=body(1.5))
        assert reply.status_code == 200
        assert reply.json()["batches"][0]["per_example"]["log_odds"] == [-0.5]
    assert log_odds(run) == [-0.5]
    assert run.put(f"{RUN}/epochs/3/batches/new?replace=true", json=body(0) | {"ids": ["b"]}).status_code == 201
    assert run.get(RUN).json()["epochs"][0]["num_batches"] == 2


def test_a_deleted_batch_or_epoch_can_be_sent_again(run: httpx.Client) -> None:
    for path in (BATCH, f"{RUN}/epochs/3"):
        assert run.put(BATCH, json=body(1)).status_code == 201
        assert run.delete(path).status_code == 204
        assert run.get(RUN).json()["epochs"] == []
        assert run.get(f"{RUN}/examples").json()["rows"] == []
        assert run.delete(path).json()["code"] == "unknown_epoch"
    run.put(BATCH, json=body(1))
    assert run.delete(f"{RUN}/epochs/3/batches/other").json()["code"] == "unknown_batch"
    assert run.delete("/runs/absent/epochs/3").json()["code"] == "unknown_run"


@pytest.mark.parametrize("flag", ["1", "yes", "", "True"])
def test_replace_is_true_or_false(run: httpx.Client, flag: str) -> None:
    reply = run.put(f"{BATCH}?replace={flag}", json=body(1))
    assert (reply.status_code, reply.json()["errors"][0]["loc"]) == (422, ["query", "replace"])


@pytest.mark.parametrize(
    "epoch", ["2147483648", "0" * 20 + "9" * 20, "9" * 5000, "-1", "1.0", "+1", "\u0661", "x", "%20", "1" + "0" * 30]
)
def test_the_number_of_an_epoch_is_read_whole(run: httpx.Client, epoch: str) -> None:
    for reply in (
        run.put(f"{RUN}/epochs/{epoch}/batches/b", json=body(1)),
        run.delete(f"{RUN}/epochs/{epoch}/batches/b"),
        run.delete(f"{RUN}/epochs/{epoch}"),
    ):
        assert (reply.status_code, reply.json()["code"]) == (422, "invalid_name")


def test_zeros_before_the_number_of_an_epoch_do_not_count(run: httpx.Client) -> None:
    assert run.put(f"{RUN}/epochs/{'0' * 5000}3/batches/rank-0", json=body(1)).status_code == 201
    assert run.put(BATCH, json=body(1)).status_code == 200


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [
        ("display", {"a": [[[1]] * 2] * 8000}, "display has"),
        ("class_names", ["x" * 2_200_000, "y" * 2_200_000], "the class names have"),
    ],
)
def test_a_description_is_bounded(client: httpx.Client, member: str, value: Any, message: str) -> None:
    reply = client.put("/runs/bounded", json={member: value})
    assert reply.status_code == 422
    assert message in reply.json()["detail"]
    assert client.get("/runs/bounded").status_code == 404


@pytest.mark.parametrize(("levels", "status"), [(32, 201), (33, 422), (251, 422), (900, 422)])
def test_display_has_32_levels_at_most(client: httpx.Client, levels: int, status: int) -> None:
    text = '{"display": {"a": ' + "[" * (levels - 1) + "]" * (levels - 1) + "}}"
    reply = client.put("/runs/deep", content=text, headers={"Content-Type": "application/json"})
    assert reply.status_code == status, reply.text
    assert client.delete("/runs/deep").status_code == (204 if status == 201 else 404)
