"""Runs over HTTP: batches in every format, examples, what-if losses, queues, reviews, exports, storage faults."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.schema.request import OUTPUTS, REGIONS
from tests.contract.run_batches import JSON, KINDS, SAFETENSORS, batch_of, encoded
from tests.live.server_process import ServerProcess, running_server
from tests.live.test_operations import KEY
from tests.services import ClientWith

NewRun = Callable[..., str]


@pytest.fixture
def new_run(client: httpx.Client, request: pytest.FixtureRequest) -> Iterator[NewRun]:
    """A function that creates a run from a description; the runs are deleted after the test."""
    names: list[str] = []

    def create(**description: Any) -> str:
        name = f"{request.node.name.partition('[')[0][:60]}-{len(names)}"
        assert client.put(f"/runs/{name}", json=description).status_code == 201
        names.append(name)
        return name

    yield create
    for name in names:
        client.delete(f"/runs/{name}")


def put(client: httpx.Client, run: str, batch: dict[str, Any], path: str = "0/b", kind: str = JSON) -> httpx.Response:
    epoch, name = path.split("/")
    content, headers = encoded(batch, kind), {"Content-Type": kind, "Accept": JSON}
    return client.put(f"/runs/{run}/epochs/{epoch}/batches/{name}", content=content, headers=headers)


def problem(response: httpx.Response, status: int, code: str) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == code
    return str(response.json()["detail"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_reply_to_a_batch_equals_that_of_loss_and_its_rows_are_stored(
    client: httpx.Client, new_run: NewRun, kind: str
) -> None:
    config = {"alpha": [1.0, 2.0, 4.0], "gamma": 1.5}
    options = {"outputs": [*OUTPUTS, REGIONS], "elements": ["loss", "prediction"], "top_k": 2}
    run, batch = new_run(config=config), batch_of(10) | options
    reply = put(client, run, batch, kind=kind)
    assert reply.status_code == 201
    plain = {name: value for name, value in batch.items() if name != "attributes"} | {"config": config}
    loss_reply = client.post("/loss", content=encoded(plain, kind), headers={"Content-Type": kind, "Accept": JSON})
    assert reply.json() == loss_reply.json()

    examples = client.get(f"/runs/{run}/examples", params={"limit": 20, "sort": "row"}).json()["rows"]
    assert [row["id"] for row in examples] == batch["ids"]
    assert [row["attributes"] for row in examples] == [
        {"text": text, "group": group} for text, group in zip(*batch["attributes"].values(), strict=True)
    ]
    losses = [loss for part in reply.json()["batches"] for loss in part["per_example"]["loss"]]
    assert [row["loss"] for row in examples] == pytest.approx(losses, rel=2e-5)


def test_the_same_content_in_another_format_is_the_same_batch(client: httpx.Client, new_run: NewRun) -> None:
    run, batch = new_run(), batch_of(10)
    assert put(client, run, batch, kind=JSON).status_code == 201
    for kind in KINDS:
        assert put(client, run, batch, kind=kind).status_code == 200
    assert client.get(f"/runs/{run}").json()["num_rows"] == 10
    assert put(client, run, batch, "1/b").status_code == 201
    assert [epoch["epoch"] for epoch in client.get(f"/runs/{run}").json()["epochs"]] == [0, 1]


@pytest.mark.parametrize("part", ["logits", "targets", "ids", "attributes"])
def test_other_content_under_the_same_name_is_a_conflict(client: httpx.Client, new_run: NewRun, part: str) -> None:
    run, batch, other = new_run(), batch_of(10), batch_of(10)
    assert put(client, run, batch).status_code == 201
    match part:
        case "logits":
            other["logits"][3][1] += 1
        case "targets":
            other["targets"][3] = (other["targets"][3] + 1) % 3
        case "ids":
            other["ids"][3] = "another"
        case _:
            other["attributes"]["text"][3] = "another"
    assert "batch b of epoch 0" in problem(put(client, run, other), 409, "batch_conflict")
    assert put(client, run, batch).status_code == 200


def test_an_invalid_batch_is_an_error_and_stores_nothing(client: httpx.Client, new_run: NewRun) -> None:
    run, batch = new_run(class_names=["a", "b", "c"]), batch_of(4)
    without_ids = {name: value for name, value in batch.items() if name != "ids"}
    assert "ids missing" in problem(put(client, run, without_ids), 422, "invalid_ids")
    repeated = batch | {"ids": ["1", 1, "x", "y"]}
    assert "batch 0, row 1" in problem(put(client, run, repeated), 422, "invalid_ids")
    problem(put(client, run, batch | {"ids": ["", "b", "c", "d"]}), 422, "invalid_ids")
    problem(put(client, run, batch | {"config": {"gamma": 3}}), 422, "invalid_request")
    assert "row 2" in problem(put(client, run, batch | {"targets": [0, 1, 7, 0]}), 422, "invalid_target")
    assert "3" in problem(put(client, run, batch_of(4, num_classes=5)), 422, "invalid_shape")
    assert "3 values for 4" in problem(put(client, run, batch | {"attributes": {"x": [1, 2, 3]}}), 422, "invalid_shape")
    assert "'x', row 1" in problem(
        put(client, run, batch | {"attributes": {"x": [1, [2], 3, 4]}}), 422, "invalid_request"
    )
    problem(put(client, run, batch | {"attributes": ["x"]}), 422, "invalid_request")
    problem(client.post("/loss", json=batch), 422, "invalid_request")
    problem(put(client, "nosuch", batch), 404, "unknown_run")
    problem(put(client, run, batch, "0/.b"), 422, "invalid_name")
    problem(put(client, run, batch, "-1/b"), 422, "invalid_name")
    problem(put(client, run, batch, "99999999999/b"), 422, "invalid_name")
    content, headers = encoded(batch, JSON), {"Content-Type": "text/plain"}
    wrong = client.put(f"/runs/{run}/epochs/0/batches/b", content=content, headers=headers)
    problem(wrong, 415, "unsupported_media_type")
    assert client.get(f"/runs/{run}").json()["epochs"] == []


@pytest.mark.parametrize(
    ("description", "code"),
    [
        ({"config": {"gamma": -1}}, "invalid_config"),
        ({"config": {"label_smoothing": 0.1}}, "invalid_request"),
        ({"config": {"mode": "sigmoid", "gamma_negative": 0}}, "invalid_request"),
        ({"config": {"mode": "sigmoid", "clip": 0.05}}, "invalid_request"),
        ({"class_names": ["a"]}, "invalid_request"),
        ({"class_names": ["a", "a"]}, "invalid_request"),
        ({"class_names": ["a", "b"], "config": {"alpha": [1, 2, 3]}}, "invalid_request"),
        ({"config": {"mode": "sigmoid", "alpha": [0.2, 0.3]}}, "invalid_request"),
        ({"nosuch": 1}, "invalid_request"),
    ],
)
def test_an_invalid_description_is_an_error(client: httpx.Client, description: dict[str, Any], code: str) -> None:
    problem(client.put("/runs/invalid", json=description), 422, code)
    problem(client.get("/runs/invalid"), 404, "unknown_run")


def test_ignored_and_excluded_rows_are_counted_and_not_stored(client: httpx.Client, new_run: NewRun) -> None:
    run, batch = new_run(), batch_of(6)
    batch["targets"][1] = -100
    batch["logits"][4][0] = None
    reply = put(client, run, batch | {"on_invalid": "exclude"}).json()
    assert (reply["num_examples"], reply["num_ignored"], reply["num_excluded"]) == (6, 1, 1)
    (epoch,) = client.get(f"/runs/{run}").json()["epochs"]
    assert epoch == {"epoch": 0, "num_batches": 1, "num_examples": 4, "num_ignored": 1, "num_excluded": 1}
    rows = client.get(f"/runs/{run}/examples?sort=row").json()["rows"]
    assert [row["row"] for row in rows] == [0, 2, 3, 5]


def test_a_run_of_binary_labels(client: httpx.Client, new_run: NewRun) -> None:
    run = new_run(config={"mode": "sigmoid", "alpha": 0.25}, class_names=["no", "yes"])
    batch = {"logits": [2.0, -1.0, 0.5], "targets": [1, 1, 0], "ids": ["a", "b", "c"]}
    reply = put(client, run, batch).json()
    rows = client.get(f"/runs/{run}/examples?sort=row").json()["rows"]
    assert [row["loss"] for row in rows] == pytest.approx(reply["batches"][0]["per_example"]["loss"], rel=1e-6)
    assert [(row["target"], row["prediction"]) for row in rows] == [(1, 1), (1, 0), (0, 1)]
    example = client.get(f"/runs/{run}/examples/a").json()
    assert example["probabilities"] == pytest.approx([1 / (1 + math.exp(2)), 1 / (1 + math.exp(-2))])
    detail = problem(put(client, run, batch | {"targets": [1, 0.5, 0]}, "0/c"), 422, "invalid_target")
    assert "row 1" in detail
    two_labels = {"logits": [[1.0, 2.0]], "targets": [[0, 1]], "ids": ["x"]}
    problem(put(client, run, two_labels, "0/c"), 422, "invalid_shape")


def test_a_run_keeps_one_class_of_each_example(client: httpx.Client, new_run: NewRun) -> None:
    run, ids = new_run(), {"ids": ["a"]}
    dense = {"layout": "dense", "logits": [[[0.0, 1.0], [2.0, 3.0]]], "targets": [[0, 1]]}
    problem(put(client, run, dense | ids), 422, "layout_not_stored")
    problem(put(client, run, {"logits": [[0.0, 1.0]], "targets": [[0.5, 0.5]]} | ids), 422, "invalid_shape")
    assert client.get(f"/runs/{run}").json()["epochs"] == []


def test_what_if_losses_equal_those_of_loss_with_that_configuration(client: httpx.Client, new_run: NewRun) -> None:
    run, batch = new_run(), batch_of(50)
    assert put(client, run, batch).status_code == 201
    config = {"alpha": [1.0, 0.5, 3.0], "gamma": 0.7}
    loss_reply = client.post(
        "/loss", json={name: batch[name] for name in ("logits", "targets", "ids")} | {"config": config}
    ).json()
    query = {"alpha": "1,0.5,3", "gamma": "0.7", "sort": "row"}
    rows = client.get(f"/runs/{run}/examples", params=query).json()["rows"]
    assert [row["loss"] for row in rows] == pytest.approx(loss_reply["batches"][0]["per_example"]["loss"], rel=1e-5)
    loss = client.get(f"/runs/{run}/diagnostics", params={"alpha": "1,0.5,3", "gamma": "0.7"}).json()["loss"]
    assert loss["value"] == pytest.approx(loss_reply["loss"], rel=1e-5)
    problem(client.get(f"/runs/{run}/diagnostics?alpha=1,2"), 422, "invalid_config")
    problem(client.get(f"/runs/{run}/diagnostics?gamma=-1"), 422, "invalid_config")
    problem(client.get(f"/runs/{run}/diagnostics?gamma=x"), 422, "invalid_request")
    problem(client.get(f"/runs/{run}/diagnostics?nosuch=1"), 422, "invalid_request")


def test_examples_are_available_in_every_format(client: httpx.Client, new_run: NewRun, tmp_path: Path) -> None:
    import polars

    run = new_run()
    put(client, run, batch_of(20))
    expected = client.get(f"/runs/{run}/examples?limit=7").json()["rows"]
    readers = {
        "text/csv": polars.read_csv,
        "application/vnd.apache.parquet": polars.read_parquet,
        "application/vnd.apache.arrow.stream": polars.read_ipc_stream,
    }
    for kind, reader in readers.items():
        reply = client.get(f"/runs/{run}/examples?limit=7", headers={"Accept": kind})
        assert reply.headers["content-type"].startswith(kind)
        path = tmp_path / "page"
        path.write_bytes(reply.content)
        frame = reader(path)
        assert frame["id"].to_list() == [row["id"] for row in expected]
        assert frame["loss"].to_list() == pytest.approx([row["loss"] for row in expected])
        assert [json.loads(text) for text in frame["attributes"]] == [row["attributes"] for row in expected]
    lines = client.get(f"/runs/{run}/examples?limit=7", headers={"Accept": "application/x-ndjson"}).text.splitlines()
    assert [json.loads(line) for line in lines] == expected
    problem(client.get(f"/runs/{run}/examples", headers={"Accept": "image/png"}), 406, "not_acceptable")


def test_a_page_as_csv_has_no_cell_that_a_spreadsheet_evaluates(client: httpx.Client, new_run: NewRun) -> None:
    run = new_run()
    batch = {"logits": [[1, 2], [3, 1]], "targets": [0, 1], "ids": ["=cmd|' /C calc'!A0", "-5"]}
    assert put(client, run, batch).status_code == 201
    text = client.get(f"/runs/{run}/examples?sort=id", headers={"Accept": "text/csv"}).text
    assert [row["id"] for row in csv.DictReader(io.StringIO(text, newline=""))] == ["-5", "'=cmd|' /C calc'!A0"]


def test_each_page_links_to_the_next(client: httpx.Client, new_run: NewRun) -> None:
    run, ids = new_run(), []
    put(client, run, batch_of(25))
    page = client.get(f"/runs/{run}/examples", params={"limit": 10, "sort": "target,-entropy"})
    while True:
        ids += [row["id"] for row in page.json()["rows"]]
        if "next" not in page.links:
            break
        page = client.get(page.links["next"]["url"])
    assert sorted(ids) == sorted(batch_of(25)["ids"])
    problem(client.get(f"/runs/{run}/examples?cursor=x"), 422, "invalid_request")
    problem(client.get(f"/runs/{run}/examples?sort=nosuch"), 422, "invalid_request")
    problem(client.get(f"/runs/{run}/examples?limit=0"), 422, "invalid_request")
    problem(client.get(f"/runs/{run}/examples?epoch=5"), 404, "unknown_epoch")


def test_the_next_page_has_the_same_epoch_after_a_new_epoch_is_stored(client: httpx.Client, new_run: NewRun) -> None:
    run = new_run()
    put(client, run, batch_of(5))
    page = client.get(f"/runs/{run}/examples?limit=3")
    put(client, run, batch_of(5, seed=1), "1/b")
    second = client.get(page.links["next"]["url"]).json()
    assert second["epoch"] == 0
    assert len(second["rows"]) == 2


def test_finite_logits_beyond_float32_stay_finite(client: httpx.Client, new_run: NewRun) -> None:
    run = new_run()
    batch = {"logits": [[1e300, 0.0, -1e300], [0.0, 1.0, 2.0]], "targets": [0, 2], "ids": ["a", "b"]}
    assert put(client, run, batch).status_code == 201
    example = client.get(f"/runs/{run}/examples/a").json()
    assert example["probabilities"] == [1.0, 0.0, 0.0]
    assert example["loss"] == 0
    diagnostics = client.get(f"/runs/{run}/diagnostics").json()
    assert diagnostics["label_errors"]["estimated"] == 0
    assert diagnostics["calibration"]["accuracy"] == 1


def test_an_id_may_have_any_characters(client: httpx.Client, new_run: NewRun) -> None:
    ids = ["a/b", "../x", "ü?&=#%", "'; DROP TABLE x; --", '"quoted"', "  spaced "]
    run, batch = new_run(), batch_of(6) | {"ids": ids}
    put(client, run, batch)
    for identity in ids:
        path = httpx.URL(f"/runs/{run}/examples/").copy_with(
            raw_path=f"/runs/{run}/examples/".encode() + _quoted(identity)
        )
        response = client.get(path)
        assert response.status_code == 200, identity
        assert response.json()["id"] == identity
    problem(client.get(f"/runs/{run}/examples/nosuch"), 404, "unknown_example")


def _quoted(text: str) -> bytes:
    from urllib.parse import quote

    return quote(text, safe="").encode()


def test_a_queue_its_reviews_and_its_export(client: httpx.Client, new_run: NewRun) -> None:
    run = new_run(class_names=["cat", "dog", "bird"])
    put(client, run, batch_of(60))
    created = client.post(f"/runs/{run}/queues", json={"strategy": "logit_margin", "budget": 5, "name": "monday"})
    assert created.status_code == 201
    rows = created.json()["rows"]
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5]
    again = client.post(f"/runs/{run}/queues", json={"strategy": "logit_margin", "budget": 5, "name": "monday"})
    assert again.status_code == 200
    assert again.json()["rows"] == rows
    other = client.post(f"/runs/{run}/queues", json={"strategy": "logit_margin", "budget": 6, "name": "monday"})
    problem(other, 409, "queue_conflict")
    problem(client.get(f"/runs/{run}/queues/tuesday"), 404, "unknown_queue")

    reviews = [
        {"id": rows[0]["id"], "verdict": "wrong", "label": "dog"},
        {"id": rows[1]["id"], "verdict": "ok", "reviewer": "kim"},
    ]
    progress = client.post(f"/runs/{run}/reviews", json=reviews).json()
    assert progress["precision"]["logit_margin"] | {"low": 0, "high": 0} == {
        "reviewed": 2, "judged": 2, "wrong": 1, "unsure": 0, "share": 0.5, "low": 0, "high": 0,
    }  # fmt: skip
    problem(client.post(f"/runs/{run}/reviews", json=[{"id": "x", "verdict": "ok"}]), 404, "unknown_example")
    problem(client.post(f"/runs/{run}/reviews", json=[{"id": "x", "verdict": "great"}]), 422, "invalid_request")
    following = client.post(f"/runs/{run}/queues", json={"strategy": "logit_margin", "budget": 5}).json()
    assert [row["id"] for row in following["rows"][:3]] == [row["id"] for row in rows[2:]], "reviewed rows are left out"

    exported = client.get(f"/runs/{run}/export", params={"format": "label-studio", "queue": "monday"})
    assert exported.headers["content-disposition"] == 'attachment; filename="monday.label-studio.json"'
    tasks = exported.json()
    assert [task["data"]["external_id"] for task in tasks] == [row["id"] for row in rows]
    assert all("annotations" not in task for task in tasks)
    assert [task["data"]["verdict"] for task in tasks] == ["wrong", "ok", None, None, None]
    whole = client.get(f"/runs/{run}/export?format=jsonl").text.splitlines()
    assert len(whole) == 60
    assert [json.loads(line)["rank"] for line in whole] == list(range(1, 61))
    problem(client.get(f"/runs/{run}/export?format=nosuch"), 422, "invalid_request")


def test_a_run_is_a_label_studio_backend(client: httpx.Client, new_run: NewRun) -> None:
    run = new_run(class_names=["cat", "dog", "bird"])
    put(client, run, batch_of(20))
    base = f"/runs/{run}/label-studio"
    for path in (base, f"{base}/health"):
        assert client.get(path).json()["status"] == "UP"
    version = client.post(f"{base}/setup", json={"project": "1.2"}).json()["model_version"]
    config = client.get(f"{base}/config").text
    tasks = [{"id": 1, "data": {"external_id": "0-3", "text": "x"}}, {"id": 2, "data": {"external_id": "nosuch"}}]
    reply = client.post(f"{base}/predict", json={"tasks": tasks, "label_config": config}).json()
    assert [result["model_version"] for result in reply["results"]] == [version, version]
    assert 0 < reply["results"][0]["score"] < 1
    assert reply["results"][1] == {"model_version": version, "score": 1.0, "result": []}
    for invalid in ({}, {"tasks": [], "label_config": 5}, {"tasks": [[]]}, {"tasks": [{}] * 10_001}):
        problem(client.post(f"{base}/predict", json=invalid), 422, "invalid_request")


def test_the_documented_bodies_are_valid(client: httpx.Client, new_run: NewRun) -> None:
    paths = client.get("/openapi.json").json()["paths"]

    def bodies(path: str, method: str) -> list[Any]:
        content = paths[path][method]["requestBody"]["content"][JSON]
        return [example["value"] for example in content["examples"].values()]

    created = [new_run(**body) for body in bodies("/runs/{run}", "put")]
    batch = "/runs/{run}/epochs/{epoch}/batches/{batch}"
    for run in created:
        for body in bodies(batch, "put"):
            path = batch.format(run=run, epoch=0, batch="b")
            assert client.put(path, json=body).status_code == 201
        for body in bodies("/runs/{run}/queues", "post"):
            assert client.post(f"/runs/{run}/queues", json=body).status_code == (422 if "units" in body else 201)
        for body in bodies("/runs/{run}/reviews", "post"):
            of_units = any("unit" in review for review in body)
            assert client.post(f"/runs/{run}/reviews", json=body).status_code == (422 if of_units else 201)
        for body in bodies("/runs/{run}/label-studio/predict", "post"):
            assert client.post(f"/runs/{run}/label-studio/predict", json=body).status_code == 200
    run = new_run(task="tokens", class_names=["a", "b", "c"])
    tokens = [[3, 0, 0], [3, 0, 0], [3, 0, 0], [0, 3, 0], [0, 3, 0], [3, 0, 0]]
    body = {"layout": "ragged", "ids": ["a"], "logits": [tokens], "targets": [[0] * 6]}
    assert client.put(batch.format(run=run, epoch=0, batch="b"), json=body).status_code == 201
    (queue,) = (body for body in bodies("/runs/{run}/queues", "post") if "units" in body)
    assert client.post(f"/runs/{run}/queues", json={**queue, "name": "monday"}).status_code == 201
    (reviews,) = (body for body in bodies("/runs/{run}/reviews", "post") if "unit" in body[0])
    assert client.post(f"/runs/{run}/reviews", json=reviews).status_code == 201


@pytest.mark.live
def test_a_full_disk_is_507_and_the_run_stays_readable(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        with (
            running_server(tmp_path, data_dir=str(disk / "data")) as server,
            httpx.Client(base_url=server.url, timeout=60) as client,
        ):
            client.put("/runs/r", json={})
            stored = []
            for number in range(100):
                reply = put(client, "r", batch_of(2000, seed=number), f"0/{number}", SAFETENSORS)
                if reply.status_code != 201:
                    break
                stored.append(number)
            problem(reply, 507, "storage_full")
            assert stored
            assert client.get("/runs/r").json()["num_rows"] == 2000 * len(stored)
            assert len(client.get("/runs/r/examples").json()["rows"]) == 100
            assert put(client, "r", batch_of(2000, seed=stored[0]), f"0/{stored[0]}", SAFETENSORS).status_code == 200
            for leftover in (disk / "data").rglob(".staged-*"):
                pytest.fail(f"a partial file was left: {leftover}")
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            assert put(client, "r", batch_of(2000, seed=number), f"0/{number}", SAFETENSORS).status_code == 201
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            problem(put(client, "r", batch_of(10, seed=1000), "0/x", JSON), 503, "storage_unavailable")
            assert client.get("/runs/r").json()["num_rows"] == 2000 * (len(stored) + 1)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_runs_require_the_api_key(client_with: ClientWith) -> None:
    client = client_with(api_keys=KEY)
    assert client.get("/runs").status_code == 401
    assert client.get("/runs", headers={"Authorization": f"Bearer {KEY}"}).json() == {"runs": []}


def test_two_services_share_a_data_directory(server: ServerProcess, tmp_path: Path) -> None:
    batch = batch_of(10)
    with (
        running_server(tmp_path, data_dir=str(server.data_dir)) as two,
        httpx.Client(base_url=server.url) as first,
        httpx.Client(base_url=two.url) as second,
    ):
        assert first.put("/runs/r", json={}).status_code == 201
        assert second.put("/runs/r", json={}).status_code == 200
        assert put(first, "r", batch).status_code == 201
        assert put(second, "r", batch).status_code == 200
        assert put(second, "r", batch_of(5, seed=1), "0/c").status_code == 201
        for client in (first, second):
            assert client.get("/runs/r").json()["num_rows"] == 15
        assert second.delete("/runs/r").status_code == 204
        problem(first.get("/runs/r"), 404, "unknown_run")
