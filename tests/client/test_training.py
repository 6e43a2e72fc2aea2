"""`RunRecorder`: a training loop that is never held up for long, and nothing that is lost without a word."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from service.client import LossClient, RecordingError, RetryPolicy, RunClient, RunRecorder, training
from service.errors import BatchConflictError, InvalidIdsError, InvalidRequestError, ShapeError, UnknownRunError
from tests.live.server_process import ServerProcess, wait_for

ROWS, CLASSES = 100, 3
GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(ROWS, CLASSES, generator=GENERATOR)
TARGETS = torch.randint(CLASSES, (ROWS,), generator=GENERATOR)


@pytest.fixture
def run(server: ServerProcess) -> Iterator[RunClient]:
    with LossClient(server.url) as client:
        made = client.put_run("training")
        yield made
        made.delete()


def record(recorder: RunRecorder, epoch: int, logits: Any = LOGITS, step: int = 8) -> None:
    for start in range(0, ROWS, step):
        part = slice(start, start + step)
        recorder.add(epoch, torch.arange(ROWS)[part], logits[part], TARGETS[part])


class SlowRun(RunClient):
    """A run whose service answers when it is told to."""

    def __init__(self) -> None:
        self.name = "slow"
        self.may_answer = threading.Event()
        self.asked: list[tuple[int, str]] = []

    def push(self, epoch: int, batch: str, *arguments: Any, **options: Any) -> Any:
        assert self.may_answer.wait(60)
        self.asked.append((epoch, batch))


def test_every_row_of_every_epoch_arrives(run: RunClient) -> None:
    with RunRecorder(run, batch_rows=32) as recorder:
        for epoch in range(3):
            record(recorder, epoch, (LOGITS * (epoch + 1)).requires_grad_())
    told = run.describe()
    assert [(one["epoch"], one["num_examples"], one["num_batches"]) for one in told["epochs"]] == [
        (epoch, ROWS, 4) for epoch in range(3)
    ]
    assert recorder.num_sent == 3 * ROWS
    rows = {int(row["id"]): row for row in run.all_examples(epoch=2)}
    expected = (LOGITS.double() * 3).log_softmax(1)[torch.arange(ROWS), TARGETS]
    assert [-rows[row]["cross_entropy"] for row in range(ROWS)] == pytest.approx(expected.tolist(), rel=1e-4)
    assert {row["batch"] for row in rows.values()} == {f"rank-0-{number:06}" for number in range(4)}


def test_wide_rows_make_smaller_batches(run: RunClient, monkeypatch: pytest.MonkeyPatch) -> None:
    # 8 rows of 3 float32 and one int64 each.
    monkeypatch.setattr(training, "BATCH_BYTES", 2 * 8 * 20)
    with RunRecorder(run) as recorder:
        record(recorder, 0)
    (epoch,) = run.describe()["epochs"]
    assert (epoch["num_examples"], epoch["num_batches"]) == (ROWS, 7)


def test_the_loop_may_use_its_arrays_again(run: RunClient) -> None:
    held = np.zeros((4, CLASSES), np.float32)
    with RunRecorder(run) as recorder:
        for step in range(5):
            held[:] = LOGITS[4 * step : 4 * step + 4]
            recorder.add(0, [4 * step + row for row in range(4)], held, TARGETS[4 * step : 4 * step + 4])
    kept = {int(row["id"]): run.example(row["id"])["logits"] for row in run.all_examples()}
    assert [kept[row] for row in range(20)] == LOGITS[:20].tolist()


def test_half_precision_and_attributes(run: RunClient) -> None:
    with RunRecorder(run) as recorder:
        for row in range(3):
            logits = LOGITS[row : row + 1].bfloat16()
            recorder.add(0, [f"r{row}"], logits, TARGETS[row : row + 1], {"text": [f"text {row}"]})
        with pytest.raises(InvalidRequestError, match="other attributes"):
            recorder.add(0, ["r3"], LOGITS[3:4].bfloat16(), TARGETS[3:4])
    assert {row["id"]: row["attributes"]["text"] for row in run.all_examples()} == {
        f"r{row}": f"text {row}" for row in range(3)
    }


def test_an_epoch_trained_again_changes_nothing_or_is_refused(run: RunClient) -> None:
    for _ in range(2):
        with RunRecorder(run, batch_rows=40) as recorder:
            record(recorder, 0)
    assert run.describe()["num_rows"] == ROWS
    recorder = RunRecorder(run, batch_rows=40)
    record(recorder, 0, LOGITS + 1)
    with pytest.raises(RecordingError, match="100 rows were not stored") as raised:
        recorder.close()
    assert [type(error) for error in raised.value.errors] == [BatchConflictError] * 3
    with RunRecorder(run, prefix="rank-1") as recorder:
        record(recorder, 1)
    assert {row["batch"] for row in run.all_examples(epoch=1)} == {"rank-1-000000"}


def test_a_row_that_comes_twice_costs_no_batch(run: RunClient) -> None:
    with RunRecorder(run) as recorder:
        record(recorder, 0)
        recorder.add(0, [0, 1], LOGITS[:2], TARGETS[:2])
        with pytest.raises(InvalidIdsError, match="already"):
            recorder.add(0, [7, 7], LOGITS[:2], TARGETS[:2])
    assert run.diagnostics()["num_duplicates"] == 2


def test_a_bad_row_is_left_out_and_counted(run: RunClient) -> None:
    bad = LOGITS.clone()
    bad[3, 1] = float("nan")
    with RunRecorder(run) as recorder:
        record(recorder, 0, bad)
    (epoch,) = run.describe()["epochs"]
    assert (epoch["num_examples"], epoch["num_excluded"]) == (ROWS - 1, 1)


def test_what_is_wrong_with_the_arrays_is_said_at_once(run: RunClient) -> None:
    with RunRecorder(run) as recorder:
        with pytest.raises(ShapeError, match="2 ids for 3 rows"):
            recorder.add(0, [1, 2], LOGITS[:3], TARGETS[:3])
        with pytest.raises(InvalidIdsError, match="ids missing"):
            recorder.add(0, None, LOGITS[:3], TARGETS[:3])
    with pytest.raises(ValueError, match="closed"):
        recorder.add(0, [1], LOGITS[:1], TARGETS[:1])


def test_training_goes_on_without_the_service_and_hears_of_it_in_the_end(
    server: ServerProcess, caplog: pytest.LogCaptureFixture
) -> None:
    with LossClient(server.url) as client:
        recorder = RunRecorder(client.run("absent"), batch_rows=50)
        record(recorder, 0)
        recorder.end_epoch()
        with pytest.raises(RecordingError) as raised:
            recorder.close()
    assert raised.value.num_lost == ROWS
    assert all(isinstance(error, UnknownRunError) for error in raised.value.errors)
    assert "rows were not stored" in caplog.text


def test_strict_says_so_while_training(server: ServerProcess) -> None:
    with LossClient(server.url) as client:
        recorder = RunRecorder(client.run("absent"), batch_rows=8, strict=True)
        with pytest.raises(RecordingError):
            while True:
                record(recorder, 0)
        with pytest.raises(RecordingError):
            recorder.close()


def test_what_ended_the_loop_is_not_hidden_by_what_was_not_kept(server: ServerProcess) -> None:
    with (
        LossClient(server.url) as client,
        pytest.raises(ZeroDivisionError),
        RunRecorder(client.run("absent")) as recorder,
    ):
        record(recorder, 0)
        raise ZeroDivisionError


def test_a_service_that_does_not_answer_holds_training_up_for_so_long_in_all(caplog: pytest.LogCaptureFixture) -> None:
    run = SlowRun()
    recorder = RunRecorder(run, batch_rows=10, max_waiting=2, patience_s=0.05)
    # One on its way, two waiting: the fourth waits out the patience, and those after it do not wait at all.
    record(recorder, 0, step=10)
    assert recorder.num_lost >= 60
    run.may_answer.set()
    with pytest.raises(RecordingError, match="too slow") as raised:
        recorder.close()
    assert raised.value.num_lost == recorder.num_lost
    assert recorder.num_sent == ROWS - recorder.num_lost == 10 * len(run.asked)
    assert run.asked == sorted(run.asked)


def test_a_service_that_is_gone_is_not_asked_for_each_batch_again_in_the_end() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        wait_for(lambda: recorder._closed, "the end of training")
        raise httpx.ConnectError("no", request=request)

    transport, policy = httpx.MockTransport(answer), RetryPolicy(attempts=3)
    with LossClient(transport=transport, retry=policy, sleep=lambda seconds: None) as client:
        recorder = RunRecorder(client.run("gone"), batch_rows=20)
        record(recorder, 0, step=20)
        with pytest.raises(RecordingError, match="100 rows were not stored"):
            recorder.close()
    assert len(asked) == 3


def test_training_waits_for_room_rather_than_lose_rows() -> None:
    run = SlowRun()
    recorder = RunRecorder(run, batch_rows=10, max_waiting=1, patience_s=60)
    threading.Timer(0.05, run.may_answer.set).start()
    record(recorder, 0, step=10)
    recorder.close()
    assert (recorder.num_lost, recorder.num_sent) == (0, ROWS)
    assert run.asked == [(0, f"rank-0-{number:06}") for number in range(10)]
