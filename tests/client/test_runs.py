"""Runs through the Python client, synchronous and asynchronous, against a running service."""

from __future__ import annotations

import asyncio
import csv
import gzip
import inspect
import io
import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from service.client import (
    AsyncLossClient,
    AsyncRunClient,
    ConnectionFailedError,
    LossClient,
    LossConfig,
    RetryPolicy,
    RunClient,
    RunRecorder,
    run_calls,
)
from service.errors import (
    BatchConflictError,
    InvalidIdsError,
    InvalidLogitError,
    InvalidNameError,
    InvalidRequestError,
    InvalidTargetError,
    QueueConflictError,
    RunConflictError,
    UnknownBatchError,
    UnknownEpochError,
    UnknownExampleError,
    UnknownOutputError,
    UnknownQueueError,
    UnknownRunError,
)
from tests.live.server_process import ServerProcess

ROWS, CLASSES = 60, 4
RNG = np.random.default_rng(0)
TARGETS = RNG.integers(0, CLASSES, ROWS)
LOGITS = (RNG.standard_normal((ROWS, CLASSES)) * 2).astype(np.float32)
IDS = [f"a/b {row}" for row in range(ROWS)]
NAMES = ["cat", "dog", "owl", "elk"]


@pytest.fixture
def client(server: ServerProcess) -> Iterator[LossClient]:
    with LossClient(server.url) as connected:
        yield connected
        for run in connected.runs():
            connected.run(run["run"]).delete()


@pytest.fixture
def run(client: LossClient) -> RunClient:
    run = client.put_run("animals", config={"gamma": 2.0}, class_names=NAMES, display={"colour": "red"})
    run.push(0, "first", LOGITS[:40], TARGETS[:40], IDS[:40], attributes={"text": [f"t{row}" for row in range(40)]})
    run.push(0, "second", LOGITS[40:], TARGETS[40:], IDS[40:])
    run.push(1, "all", LOGITS * 2, TARGETS, IDS)
    return run


def expected(logits: Any, gamma: float) -> list[float]:
    p_t = torch.from_numpy(logits).double().softmax(1)[torch.arange(len(logits)), torch.from_numpy(TARGETS)]
    return ((1 - p_t) ** gamma * -p_t.log()).tolist()


def test_a_run_is_created_described_listed_and_deleted(client: LossClient) -> None:
    run = client.put_run("one", config=LossConfig(gamma=1.5), class_names=("a", "b"), display={"x": 1})
    described = run.describe()
    assert (described["config"]["gamma"], described["class_names"]) == (1.5, ["a", "b"])
    assert described["display"] == {"x": 1}
    client.put_run("one", config={"gamma": 1.5}, class_names=["a", "b"], display={"x": 1})
    with pytest.raises(RunConflictError):
        client.put_run("one", config={"gamma": 3})
    assert [described["run"] for described in client.runs()] == ["one"]
    run.delete()
    with pytest.raises(UnknownRunError):
        run.describe()
    assert client.runs() == []


def test_batches_and_epochs_are_replaced_and_deleted(run: RunClient) -> None:
    with pytest.raises(BatchConflictError):
        run.push(1, "all", LOGITS, TARGETS, IDS)
    replaced = run.push(1, "all", LOGITS, TARGETS, IDS, replace=True)
    assert replaced.num_examples == len(LOGITS)
    run.delete_batch(0, "first")
    assert [epoch["num_batches"] for epoch in run.describe()["epochs"]] == [1, 1]
    with pytest.raises(UnknownBatchError):
        run.delete_batch(0, "first")
    run.delete_epoch(0)
    assert [epoch["epoch"] for epoch in run.describe()["epochs"]] == [1]
    with pytest.raises(UnknownEpochError):
        run.delete_epoch(0)


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a b", "x" * 101])
def test_an_invalid_run_name_reaches_no_other_path(client: LossClient, name: str) -> None:
    with pytest.raises(InvalidNameError):
        client.put_run(name)


def test_a_pushed_batch_returns_its_losses_and_is_stored_once(client: LossClient) -> None:
    run = client.put_run("kept")
    for _ in range(2):
        reply = run.push(3, "b", LOGITS, TARGETS, IDS, outputs=["loss", "p_t"], top_k=2)
        assert reply.per_example["loss"].tolist() == pytest.approx(expected(LOGITS, 2.0), rel=1e-5)
        assert reply.hardest[0].id == IDS[int(np.argmax(expected(LOGITS, 2.0)))]
    assert set(reply.per_example) == {"loss", "p_t"}
    (epoch,) = run.describe()["epochs"]
    assert (epoch["epoch"], epoch["num_batches"], epoch["num_examples"]) == (3, 1, ROWS)
    with pytest.raises(BatchConflictError):
        run.push(3, "b", LOGITS + 1e-3, TARGETS, IDS)


def test_ids_are_strings_or_integers_of_any_array(client: LossClient) -> None:
    run = client.put_run("ids")
    run.push(0, "numbers", torch.from_numpy(LOGITS), torch.from_numpy(TARGETS), torch.arange(ROWS))
    run.push(0, "table", {"logits": LOGITS, "targets": TARGETS, "id": [f"s{row}" for row in range(ROWS)]})
    assert {row["id"] for row in run.all_examples(limit=7)} == {str(row) for row in range(ROWS)} | {
        f"s{row}" for row in range(ROWS)
    }


def test_labels_are_class_names_of_the_run(client: LossClient) -> None:
    run = client.put_run("names", class_names=["1", "0", "dog"])
    logits = np.zeros((4, 3), np.float32)
    run.push(0, "a", {"logits": logits, "label": ["1", "dog", "2", 1], "id": np.arange(4, dtype=np.uint64) + 2**63})
    assert {row["id"]: row["target"] for row in run.all_examples()} == {
        str(2**63 + number): target for number, target in enumerate([0, 2, 2, 0])
    }
    with pytest.raises(
        InvalidTargetError, match="row 1: 'cat' is not the name of a class; the names are '1', '0', 'dog'"
    ):
        run.push(0, "b", logits[:2], ["dog", "cat"], ["x", "y"])
    with RunRecorder(run) as recorder, pytest.raises(InvalidTargetError, match="labels of a recorder are numbers"):
        recorder.add(0, ["x"], logits[:1], ["dog"])


def test_an_invalid_batch_raises_the_error_of_its_fault(run: RunClient) -> None:
    with pytest.raises(InvalidIdsError, match="ids missing"):
        run.push(2, "x", LOGITS, TARGETS)
    with pytest.raises(UnknownOutputError):
        run.push(2, "x", LOGITS, TARGETS, IDS, outputs=["margin"])
    bad = LOGITS.copy()
    bad[5, 1] = np.nan
    with pytest.raises(InvalidLogitError, match="row 5, column 1"):
        run.push(2, "x", bad, TARGETS, IDS)
    assert run.push(2, "x", bad, TARGETS, IDS, on_invalid="exclude").num_excluded == 1
    with pytest.raises(InvalidRequestError):
        run.push(2, "y", LOGITS, TARGETS, IDS, attributes={"text": ["one"]})


def test_attributes_are_scalars_and_dates_become_text(client: LossClient) -> None:
    run = client.put_run("attributes")
    attributes = {"n": np.arange(2), "day": [date(2026, 1, 2), None], "new": [True, False]}
    run.push(0, "b", LOGITS[:2], TARGETS[:2], ["a", "b"], attributes=attributes)
    stored = {row["id"]: row["attributes"] for row in run.all_examples()}
    assert stored == {"a": {"n": 0, "day": "2026-01-02", "new": True}, "b": {"n": 1, "new": False}}
    with pytest.raises(InvalidRequestError, match="attribute 'tags', row 1: an object"):
        run.push(0, "c", LOGITS[:2], TARGETS[:2], ["c", "d"], attributes={"tags": ["x", {"y": 1}]})


def test_examples_are_paged_filtered_and_sorted(run: RunClient) -> None:
    page = run.examples(limit=25, epoch=0)
    assert (len(page["rows"]), page["num_matching"]) == (25, ROWS)
    next_page = run.examples(limit=25, epoch=0, cursor=page["next_cursor"])
    assert not {row["id"] for row in page["rows"]} & {row["id"] for row in next_page["rows"]}
    losses = [row["loss"] for row in run.all_examples(limit=25, epoch=0)]
    assert losses == pytest.approx(sorted(expected(LOGITS, 2.0), reverse=True), rel=1e-5)
    wrong = list(run.all_examples(correct=False, target=1, sort="p_t", max_p_t=0.5))
    assert all(row["target"] == 1 and row["prediction"] != 1 and row["p_t"] <= 0.5 for row in wrong)
    assert [row["p_t"] for row in wrong] == sorted(row["p_t"] for row in wrong)
    assert [row["id"] for row in run.all_examples(attributes={"text": "t7"})] == [IDS[7]]
    with pytest.raises(InvalidRequestError, match="colour"):
        run.examples(colour="red")


def test_scores_and_diagnostics_are_recomputed_for_another_alpha_and_gamma(run: RunClient) -> None:
    largest = max(row["loss"] for row in run.all_examples(epoch=0, gamma=0.5))
    assert largest == pytest.approx(max(expected(LOGITS, 0.5)), rel=1e-5)
    weighted = run.diagnostics(alpha=np.array([1.0, 2.0, 3.0, 4.0]), gamma=0)
    assert (weighted["alpha"], weighted["gamma"]) == ([1.0, 2.0, 3.0, 4.0], 0)
    assert run.diagnostics(alpha=())["alpha"] is None


def test_an_example_has_a_course_and_its_id_is_escaped(run: RunClient) -> None:
    example = run.example(IDS[3], gamma=1)
    assert example["id"] == IDS[3]
    assert [row["epoch"] for row in example["course"]] == [0, 1]
    assert example["attributes"] == {"text": "t3"}
    with pytest.raises(UnknownExampleError):
        run.example("absent")


def test_diagnostics_dynamics_and_a_comparison(client: LossClient, run: RunClient) -> None:
    diagnostics = run.diagnostics(epoch=0)
    assert (diagnostics["epoch"], diagnostics["num_examples"]) == (0, ROWS)
    assert diagnostics["loss"]["mean"] == pytest.approx(np.mean(expected(LOGITS, 2.0)), rel=1e-5)
    dynamics = run.dynamics(first=2, sort="-confidence", limit=5, offset=1)
    assert (len(dynamics["rows"]), dynamics["summary"]["num_examples"]) == (5, ROWS)
    other = client.put_run("other")
    other.push(0, "b", LOGITS, TARGETS, IDS)
    assert run.compare(other, epoch=0, top=7)["overlap"] == 1
    assert run.compare("other", other_epoch=0)["num_common"] == ROWS


def test_errors_left_gain_and_agreement(client: LossClient, run: RunClient) -> None:
    queue = run.create_queue("random", 20, name="control")
    ids = [row["id"] for row in queue["rows"]]
    for reviewer in ("kim", "lee"):
        verdicts = ["wrong" if number == 3 and reviewer == "kim" else "ok" for number in range(12)]
        run.review(
            {"id": id_, "verdict": verdict, "reviewer": reviewer} for id_, verdict in zip(ids, verdicts, strict=False)
        )
    left = run.remaining(queue="control", rows=5, control="control")
    assert (left["status"], left["slice"]["judged"], left["slice"]["undecided"]) == ("none_found", 11, 1)
    assert left["next"] is not None
    assert [one["rows"] for one in left["next"]["predictions"]] == [5]
    agreement = run.agreement(limit=1)
    assert agreement["num_compared"] == 12
    assert [conflict["id"] for conflict in agreement["conflicts"]] == [ids[3]]
    assert run.agreement(offset=1)["conflicts"] == []
    other = client.put_run("another")
    other.push(0, "b", LOGITS, TARGETS, IDS)
    assert run.gain(other, epoch=0, gamma=1)["num_common"] == ROWS
    assert run.gain()["left_out"]["conflict"] == 1


def test_a_limit_of_zero_rows_is_an_error_of_the_service(run: RunClient) -> None:
    run.create_queue("logit_margin", name="all")
    with pytest.raises(InvalidRequestError, match="limit"):
        run.queue("all", limit=0)


def test_a_queue_is_returned_with_all_its_rows(run: RunClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_calls, "PAGE_ROWS", 11)
    created = run.create_queue("logit_margin", budget=50, name="monday", epoch=0)
    assert [row["rank"] for row in created["rows"]] == list(range(1, 51))
    assert [row["id"] for row in run.queue("monday")["rows"]] == [row["id"] for row in created["rows"]]
    assert run.create_queue("logit_margin", budget=50, name="monday", epoch=0)["created_at"] == created["created_at"]
    with pytest.raises(QueueConflictError):
        run.create_queue("top_loss", name="monday")
    mixed = run.create_queue("mix", 10, mix={"top_loss": 0.5, "random": 0.5}, per_class="equal", gamma=0)
    assert {row["strategy"] for row in mixed["rows"]} == {"top_loss", "random"}
    assert {queue["name"] for queue in run.queues()} == {"monday", mixed["name"]}
    with pytest.raises(UnknownQueueError):
        run.queue("tuesday")


def test_the_rows_of_a_queue_can_be_filtered_sorted_and_paged(run: RunClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_calls, "PAGE_ROWS", 4)
    created = run.create_queue("top_loss", budget=50, name="monday")
    target = created["rows"][0]["target"]
    matching = sorted((row for row in created["rows"] if row["target"] == target), key=lambda row: row["entropy"])
    assert len(matching) > 8
    queue = run.queue("monday", target=target, sort="entropy")
    assert [row["id"] for row in queue["rows"]] == [row["id"] for row in matching]
    page = run.queue("monday", target=target, sort="entropy", limit=5, offset=2, fields=["id"])
    assert page["rows"] == [{"id": row["id"]} for row in matching[2:7]]
    assert page["num_matching"] == len(matching)
    assert run.queue("monday", attributes={"nobody": "x"}, verdict="open")["rows"] == []


def test_reviews_are_stored_and_counted(run: RunClient) -> None:
    reply = run.review([{"id": IDS[0], "verdict": "wrong", "label": "elk"}, {"id": IDS[1], "verdict": "ok"}])
    assert (reply["added"], reply["num_wrong"]) == (2, 1)
    run.review([{"id": IDS[1], "verdict": None}])
    history = run.reviews(history=True)
    assert (len(history["reviews"]), history["num_reviewed"], history["reviews"][0]["label"]) == (3, 1, 3)
    assert [review["id"] for review in run.reviews()["reviews"]] == [IDS[0]]


def test_a_file_of_reviews_is_stored_once(run: RunClient, tmp_path: Path) -> None:
    path = tmp_path / "filled in.csv.gz"
    path.write_bytes(gzip.compress(f"id,verdict,label\n{IDS[0]},wrong,elk\n{IDS[1]},,\n".encode()))
    counts = [(reply["added"], reply["unchanged"], reply["left_out"]) for reply in (run.review(path), run.review(path))]
    assert counts == [(1, 0, 1), (0, 1, 1)]
    plain = tmp_path / "filled in.jsonl"
    plain.write_text(json.dumps({"id": IDS[1], "verdict": "ok"}))
    assert run.review(str(plain), reviewer="kim", queue="q", adjudicate=True)["added"] == 1
    last = run.reviews()["reviews"][-1]
    assert (last["id"], last["reviewer"], last["queue"], last["adjudicated"]) == (IDS[1], "kim", "q", True)
    with pytest.raises(InvalidRequestError, match=r"unknown extension '.xlsx': expected one of .csv, .tsv"):
        run.review(tmp_path / "filled in.xlsx")
    with pytest.raises(FileNotFoundError):
        run.review(tmp_path / "absent.csv")


def test_an_export_is_returned_as_bytes_or_written_to_a_file(run: RunClient, tmp_path: Path) -> None:
    run.create_queue("top_loss", 5, name="q")
    rows = list(csv.DictReader(io.StringIO(run.export(format="csv", queue="q").decode())))
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4", "5"]
    path = tmp_path / "tasks.json"
    assert run.export(path, format="label-studio", to_name="text") == b""
    assert len(json.loads(path.read_bytes())) == ROWS
    with pytest.raises(InvalidRequestError, match="xlsx"):
        run.export(path, format="xlsx")
    with pytest.raises(UnknownQueueError):
        run.export(tmp_path / "absent.csv", format="csv", queue="absent")
    assert [file.name for file in tmp_path.iterdir()] == ["tasks.json"]


def test_an_interrupted_download_is_retried_and_leaves_no_partial_file(tmp_path: Path) -> None:
    paths: list[str] = []

    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise httpx.ReadError("gone")

    def reply(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.path)
        return httpx.Response(200, content=pieces() if len(paths) < 3 else b"whole")

    client = LossClient(transport=httpx.MockTransport(reply), sleep=lambda seconds: None)
    with client:
        client.run("r").export(tmp_path / "out.csv", format="csv")
    assert (len(paths), (tmp_path / "out.csv").read_bytes()) == (3, b"whole")
    paths.clear()
    client = LossClient(transport=httpx.MockTransport(reply), retry=RetryPolicy(attempts=1))
    with client, pytest.raises(ConnectionFailedError):
        client.run("r").export(tmp_path / "other.csv", format="csv")
    assert [file.name for file in tmp_path.iterdir()] == ["out.csv"]


@pytest.mark.parametrize(
    ("send", "times"),
    [
        (lambda run: run.create_queue("random"), 1),
        (lambda run: run.create_queue("random", name="named"), 4),
        (lambda run: run.review([{"id": "a", "verdict": "ok"}]), 1),
        (lambda run: run.delete(), 1),
        (lambda run: run.delete_epoch(0), 1),
        (lambda run: run.delete_batch(0, "b"), 1),
        (lambda run: run.push(0, "b", LOGITS, TARGETS, IDS, replace=True), 4),
        (lambda run: run.push(0, "b", LOGITS, TARGETS, IDS), 4),
        (lambda run: run.diagnostics(), 4),
    ],
)
def test_only_repeatable_requests_are_retried(send: Any, times: int) -> None:
    paths: list[str] = []

    def reply(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.path)
        raise httpx.ReadError("gone", request=request)

    transport, policy = httpx.MockTransport(reply), RetryPolicy(attempts=4)
    client = LossClient(transport=transport, retry=policy, sleep=lambda seconds: None)
    with client, pytest.raises(ConnectionFailedError):
        send(client.run("r"))
    assert len(paths) == times


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> set[str]:
        return {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}

    assert methods(RunClient) == methods(AsyncRunClient)
    assert methods(LossClient) == methods(AsyncLossClient)


def test_the_asynchronous_client_returns_the_same(
    server: ServerProcess, run: RunClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_calls, "PAGE_ROWS", 11)

    async def work() -> None:
        async with AsyncLossClient(server.url) as client:
            other = await client.put_run("later", class_names=NAMES)
            reply = await other.push(0, "b", LOGITS, TARGETS, IDS)
            assert reply.per_example["loss"].tolist() == pytest.approx(expected(LOGITS, 2.0), rel=1e-5)
            assert [described["run"] for described in await client.runs()] == ["animals", "later"]
            assert (await other.describe())["num_rows"] == ROWS
            same_run = client.run("animals")
            assert [row async for row in same_run.all_examples(limit=9)] == list(run.all_examples())
            assert (await same_run.examples(limit=3))["rows"] == run.examples(limit=3)["rows"]
            assert await same_run.example(IDS[0]) == run.example(IDS[0])
            assert await same_run.diagnostics(gamma=1) == run.diagnostics(gamma=1)
            assert await same_run.dynamics(limit=3) == run.dynamics(limit=3)
            assert await same_run.compare(other, epoch=0) == run.compare("later", epoch=0)
            assert await same_run.gain(other, epoch=0) == run.gain("later", epoch=0)
            assert await same_run.remaining() == run.remaining()
            assert await same_run.agreement() == run.agreement()
            created = await same_run.create_queue("top_loss", 30, name="q")
            assert [row["rank"] for row in created["rows"]] == list(range(1, 31))
            assert (await same_run.queue("q"))["rows"] == created["rows"]
            assert (await same_run.queue("q", sort="-rank", offset=2))["rows"] == created["rows"][-3::-1]
            assert [queue["name"] for queue in await same_run.queues()] == ["q"]
            assert (await same_run.review([{"id": IDS[0], "verdict": "ok"}]))["added"] == 1
            assert await same_run.reviews() == run.reviews()
            await same_run.export(tmp_path / "q.csv", format="csv", queue="q")
            assert (tmp_path / "q.csv").read_bytes() == await same_run.export(format="csv", queue="q")
            with pytest.raises(UnknownQueueError):
                await same_run.export(tmp_path / "no.csv", format="csv", queue="no")
            await other.delete()
            with pytest.raises(UnknownRunError):
                await other.describe()

    asyncio.run(work())
