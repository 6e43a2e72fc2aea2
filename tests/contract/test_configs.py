"""Contract sections 1 and 3: configurations, their ids, and what is held."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.services import ClientWith


def put(client: httpx.Client, config: Any) -> httpx.Response:
    return client.put("/configs", json=config)


def test_the_metrics_count_a_configuration_when_it_is_put(client: httpx.Client) -> None:
    put(client, {"gamma": 0.0625})
    lines = client.get("/metrics").text.splitlines()
    assert next(float(line.split()[1]) for line in lines if line.startswith("focal_loss_configs_held ")) >= 1


def test_put_holds_an_instance_once(client: httpx.Client) -> None:
    config = {"alpha": [3.5, 1.25], "gamma": 1.5}
    first, again = put(client, config), put(client, config)
    assert (first.status_code, again.status_code) == (201, 200)
    held = first.json()
    assert held["config_id"] == again.json()["config_id"]
    assert held["alpha"] == [3.5, 1.25]
    assert held["config"]["gamma"] == 1.5
    assert held["config"]["reduction"] == "mean"
    assert held["device"] in ("cpu", "cuda:0")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"mode": "softmax", "alpha": None, "gamma": 2.0, "reduction": "mean", "ignore_index": -100}),
        ({"gamma": 2}, {"gamma": 2.0}),
        ({"alpha": {"class_counts": [10, 30]}}, {"alpha": [4, 40 / 30]}),
        ({"alpha": 0.9}, {"alpha": [0.1, 0.9]}),
        ({"alpha": 0.9}, {"alpha": 0.1, "positive_class": 0}),
        ({"mode": "sigmoid", "alpha": 0.9}, {"mode": "sigmoid", "alpha": 0.1, "positive_class": 0}),
    ],
)
def test_one_meaning_has_one_id(client: httpx.Client, one: Any, other: Any) -> None:
    assert put(client, one).json()["config_id"] == put(client, other).json()["config_id"]


def test_class_counts_and_the_list_they_resolve_to_have_one_id(client: httpx.Client) -> None:
    counts = put(client, {"alpha": {"class_counts": [900, 90, 7], "scheme": "effective", "beta": 0.99}}).json()
    listed = put(client, {"alpha": counts["alpha"]}).json()
    assert listed["config_id"] == counts["config_id"]
    assert sum(counts["alpha"]) == pytest.approx(3)
    inverse = put(client, {"alpha": {"class_counts": [900, 90, 10]}}).json()
    assert inverse["alpha"] == [1000 / 900, 1000 / 90, 100]


@pytest.mark.parametrize(
    "other",
    [
        {"gamma": 2.5},
        {"mode": "sigmoid"},
        {"alpha": [1, 1]},
        {"reduction": "sum"},
        {"ignore_index": None},
        {"ignore_index": 0},
        {"label_smoothing": 0.1},
    ],
)
def test_other_meanings_have_other_ids(client: httpx.Client, other: Any) -> None:
    assert put(client, {}).json()["config_id"] != put(client, other).json()["config_id"]


def test_a_held_configuration_is_used_listed_and_dropped(client: httpx.Client) -> None:
    config_id = put(client, {"gamma": 3.25}).json()["config_id"]
    before = client.get(f"/configs/{config_id}").json()
    request = {"config_id": config_id, "logits": [[1, 2]], "targets": [0]}
    assert client.post("/loss", json=request).json()["config_id"] == config_id
    same = {"config": {"gamma": 3.25}, "logits": [[1, 2]], "targets": [0]}
    assert client.post("/loss", json=same).json()["config_id"] == config_id
    after = client.get(f"/configs/{config_id}").json()
    assert after["uses"] == before["uses"] + 2
    assert after["last_used_at"] > before["last_used_at"]
    listed = client.get("/configs").json()
    assert listed["configs"][0]["config_id"] == config_id
    assert listed["max_configs"] == 256
    assert client.delete(f"/configs/{config_id}").status_code == 204
    for reply in (
        client.get(f"/configs/{config_id}"),
        client.delete(f"/configs/{config_id}"),
        client.post("/loss", json=request),
    ):
        assert (reply.status_code, reply.json()["code"]) == (404, "unknown_config")
        assert config_id in reply.json()["detail"]


def test_the_least_recently_used_goes_first(client_with: ClientWith) -> None:
    client = client_with(max_configs="2")
    first, second = (put(client, {"gamma": gamma}).json()["config_id"] for gamma in (1, 2))
    client.post("/loss", json={"config_id": first, "logits": [[1, 2]], "targets": [0]}).raise_for_status()
    third = put(client, {"gamma": 3}).json()["config_id"]
    assert [held["config_id"] for held in client.get("/configs").json()["configs"]] == [third, first]
    assert client.get(f"/configs/{second}").status_code == 404


def test_configurations_are_bounded_by_their_bytes(client_with: ClientWith) -> None:
    client = client_with(max_configs_bytes=str(2 * 1024 * 1024))
    first, second, third = (put(client, {"alpha": [number] * 10_000}).json()["config_id"] for number in (1, 2, 3))
    # 80 bytes for each of the 10 000 weights: two of them fit.
    assert [held["config_id"] for held in client.get("/configs").json()["configs"]] == [third, second]
    reply = client.post("/loss", json={"config_id": first, "logits": [[1, 2]], "targets": [0]})
    assert (reply.status_code, reply.json()["code"]) == (404, "unknown_config")


@pytest.mark.parametrize(
    ("config", "place"),
    [
        ({"gamma": -1}, "gamma"),
        ({"gamma": "2"}, "gamma"),
        ({"alpha": 1.5}, "alpha"),
        ({"alpha": [1, -2]}, "alpha"),
        ({"alpha": []}, "alpha"),
        ({"alpha": {"class_counts": [3, 0]}}, "alpha"),
        ({"alpha": {"class_counts": [3, 1], "scheme": "other"}}, "alpha"),
        ({"mode": "softplus"}, "mode"),
        ({"reduction": "avg"}, "reduction"),
        ({"label_smoothing": 1}, "label_smoothing"),
        ({"ignore_index": 1.5}, "ignore_index"),
        ({"positive_class": 2}, "positive_class"),
        ({"gama": 2}, "gama"),
    ],
)
def test_a_configuration_without_meaning_is_named(client: httpx.Client, config: Any, place: str) -> None:
    for reply in (put(client, config), client.post("/loss", json={"config": config, "logits": [], "targets": []})):
        problem = reply.json()
        assert (reply.status_code, problem["code"]) == (422, "invalid_config")
        assert any(place in error["loc"] for error in problem["errors"]), problem


def test_a_class_without_examples_is_named(client: httpx.Client) -> None:
    problem = put(client, {"alpha": {"class_counts": [5, 3, 0]}}).json()
    assert "class 2 has count 0" in problem["detail"]
