"""Batches of a run with statistics in place of logits, over HTTP in every format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service.schema.request import STATISTICS
from tests.contract.run_batches import JSON, KINDS, batch_of, encoded
from tests.lanes import mostly_slow

DERIVED = ("normalized_margin",)


@pytest.fixture
def run(client: httpx.Client) -> Iterator[str]:
    config = {"gamma": 1.5}
    assert client.put("/runs/thin", json={"config": config, "class_names": ["a", "b", "c"]}).status_code == 201
    yield "/runs/thin"
    client.delete("/runs/thin")


def put(client: httpx.Client, run: str, batch: dict[str, Any], kind: str = JSON, name: str = "0/batches/b") -> Any:
    headers = {"Content-Type": kind, "Accept": JSON}
    return client.put(f"{run}/epochs/{name}", content=encoded(batch, kind), headers=headers)


def reduced(client: httpx.Client, batch: dict[str, Any]) -> dict[str, Any]:
    """The batch with statistics, in float32 as the service replies."""
    full = {name: batch[name] for name in ("logits", "targets")} | {"outputs": STATISTICS}
    reply = client.post(
        "/loss",
        content=encoded(full, "application/x-safetensors"),
        headers={"Content-Type": "application/x-safetensors", "Accept": JSON},
    )
    columns = reply.json()["batches"][0]["per_example"]
    rest = {name: value for name, value in batch.items() if name != "logits"}
    return rest | {name: columns[name] for name in STATISTICS if name not in DERIVED}


def test_one_content_in_every_format(client: httpx.Client, run: str) -> None:
    batch = reduced(client, batch_of(10))
    losses = []
    for number, kind in enumerate(KINDS):
        reply = put(client, run, batch, kind)
        assert reply.status_code == (200 if number else 201), reply.text
        losses.append([loss for part in reply.json()["batches"] for loss in part["per_example"]["loss"]])
        assert losses[-1] == pytest.approx(losses[0], rel=1e-6)
    rows = client.get(f"{run}/examples", params={"sort": "id"}).json()["rows"]
    assert [row["normalized_margin"] for row in rows] == pytest.approx(
        [value for _, value in sorted(zip(batch["ids"], normalized(client), strict=True))], abs=1e-6
    )
    assert rows[0]["attributes"] == {"text": "text 0", "group": 0}
    assert put(client, run, batch_of(10)).json()["code"] == "batch_conflict"


def normalized(client: httpx.Client) -> list[float]:
    full = batch_of(10)
    body = {"logits": full["logits"], "targets": full["targets"], "outputs": DERIVED}
    values: list[float] = client.post("/loss", json=body).json()["batches"][0]["per_example"]["normalized_margin"]
    return values


@pytest.mark.parametrize("missing", mostly_slow([name for name in STATISTICS if name not in DERIVED], quick=2))
@pytest.mark.parametrize("kind", [JSON, KINDS[-1]])
def test_a_run_needs_all_statistics(client: httpx.Client, run: str, missing: str, kind: str) -> None:
    batch = reduced(client, batch_of(4))
    del batch[missing]
    reply = put(client, run, batch, kind)
    assert reply.status_code == 422
    # A table without log-odds has no statistics: it lacks logits.
    assert reply.json()["code"] == ("needs_logits" if missing != "log_odds" else "invalid_request")
    assert client.get(f"{run}/examples").json()["rows"] == []


def test_several_batches_are_of_one_kind(client: httpx.Client, run: str) -> None:
    first, second = batch_of(4), reduced(client, batch_of(4, seed=1))
    batches = [{name: value for name, value in batch.items() if name != "attributes"} for batch in (first, second)]
    reply = put(client, run, {"batches": batches})
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_request")
    assert "either logits or statistics" in reply.json()["detail"]


def test_the_number_of_classes_must_be_known(client: httpx.Client) -> None:
    run = "/runs/unnamed"
    client.put(run, json={})
    batch = reduced(client, batch_of(4))
    reply = put(client, run, batch)
    assert (reply.status_code, reply.json()["errors"][0]["loc"]) == (422, ["num_classes"])
    assert put(client, run, batch | {"num_classes": 3}).status_code == 201
    assert client.get(run).json()["num_classes"] == 3
    # From now on the run knows it.
    assert put(client, run, batch, name="1/batches/b").status_code == 201
    assert put(client, run, batch | {"num_classes": 4}, name="2/batches/b").json()["code"] == "invalid_shape"
    client.delete(run)
