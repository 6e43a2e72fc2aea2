"""`RunRecorder`: it blocks a training loop for a bounded time, and reports every row that was not stored."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from service.client import LossClient, RecordingError, RetryPolicy, RunClient, RunRecorder, recording
from service.errors import BatchConflictError, InvalidIdsError, InvalidRequestError, ShapeError, UnknownRunError
from tests.live.server_process import ServerProcess, wait_for

ROWS, CLASSES = 100, 3
GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(ROWS, CLASSES, generator=GENERATOR)
TARGETS = torch.randint(CLASSES, (ROWS,), generator=GENERATOR)


@pytest.fixture
def run(server: ServerProcess) -> Iterator[RunClient]:
    with LossClient(server.url) as client:
        run = client.put_run("training")
        yield run
        run.delete()


def record(recorder: RunRecorder, epoch: int, logits: Any = LOGITS, step: int = 8) -> None:
    for start in range(0, ROWS, step):
        part = slice(start, start + step)
        recorder.add(epoch, torch.arange(ROWS)[part], logits[part], TARGETS[part])


class SlowRun(RunClient):
    """A run whose service replies after `may_reply` is set."""

    def __init__(self) -> None:
        self.name = "slow"
        self.may_reply = threading.Event()
        self.pushed: list[tuple[int, str]] = []

    def push(self, epoch: int, batch: str, *arguments: Any, **options: Any) -> Any:
        assert self.may_reply.wait(60)
        self.pushed.append((epoch, batch))


def test_every_row_of_every_epoch_is_stored(run: RunClient) -> None:
    with RunRecorder(run, batch_rows=32) as recorder:
        for epoch in range(3):
            record(recorder, epoch, (LOGITS * (epoch + 1)).requires_grad_())
    epochs = [(epoch["epoch"], epoch["num_examples"], epoch["num_batches"]) for epoch in run.describe()["epochs"]]
    assert epochs == [(epoch, ROWS, 4) for epoch in range(3)]
    assert recorder.num_sent == 3 * ROWS
    rows = {int(row["id"]): row for row in run.all_examples(epoch=2)}
    expected = (LOGITS.double() * 3).log_softmax(1)[torch.arange(ROWS), TARGETS]
    assert [-rows[row]["cross_entropy"] for row in range(ROWS)] == pytest.approx(expected.tolist(), rel=1e-4)
    assert {row["batch"] for row in rows.values()} == {f"rank-0-{number:06}" for number in range(4)}


def test_wide_rows_make_smaller_batches(run: RunClient, monkeypatch: pytest.MonkeyPatch) -> None:
    # 8 rows of 3 float32 and one int64 each.
    monkeypatch.setattr(recording, "BATCH_BYTES", 2 * 8 * 20)
    with RunRecorder(run) as recorder:
        record(recorder, 0)
    (epoch,) = run.describe()["epochs"]
    assert (epoch["num_examples"], epoch["num_batches"]) == (ROWS, 7)


def test_the_loop_can_reuse_its_arrays(run: RunClient) -> None:
    logits = np.zeros((4, CLASSES), np.float32)
    with RunRecorder(run) as recorder:
        for step in range(5):
            logits[:] = LOGITS[4 * step : 4 * step + 4]
            recorder.add(0, [4 * step + row for row in range(4)], logits, TARGETS[4 * step : 4 * step + 4])
    stored = {int(row["id"]): run.example(row["id"])["logits"] for row in run.all_examples()}
    assert [stored[row] for row in range(20)] == LOGITS[:20].tolist()


def test_bfloat16_and_attributes_are_stored(run: RunClient) -> None:
    with RunRecorder(run) as recorder:
        for row in range(3):
            logits = LOGITS[row : row + 1].bfloat16()
            recorder.add(0, [f"r{row}"], logits, TARGETS[row : row + 1], {"text": [f"text {row}"]})
        with pytest.raises(InvalidRequestError, match="previous rows of epoch 0"):
            recorder.add(0, ["r3"], LOGITS[3:4].bfloat16(), TARGETS[3:4])
    assert {row["id"]: row["attributes"]["text"] for row in run.all_examples()} == {
        f"r{row}": f"text {row}" for row in range(3)
    }


def test_recording_an_epoch_again_changes_nothing_is_a_conflict_or_replaces_it(run: RunClient) -> None:
    for _ in range(2):
        with RunRecorder(run, batch_rows=40) as recorder:
            record(recorder, 0)
    assert run.describe()["num_rows"] == ROWS
    recorder = RunRecorder(run, batch_rows=40)
    record(recorder, 0, LOGITS + 1)
    with pytest.raises(RecordingError, match="100 rows were not stored") as raised:
        recorder.close()
    assert [type(error) for error in raised.value.errors] == [BatchConflictError] * 3
    with RunRecorder(run, batch_rows=40, replace=True) as recorder:
        record(recorder, 0, LOGITS * 2)
    assert run.describe()["num_rows"] == ROWS
    assert run.example("7")["logits"] == pytest.approx((LOGITS[7] * 2).tolist())
    with RunRecorder(run, prefix="rank-1") as recorder:
        record(recorder, 1)
    assert {row["batch"] for row in run.all_examples(epoch=1)} == {"rank-1-000000"}


def test_a_repeated_row_drops_no_batch(run: RunClient) -> None:
    with RunRecorder(run) as recorder:
        record(recorder, 0)
        recorder.add(0, [0, 1], LOGITS[:2], TARGETS[:2])
        with pytest.raises(InvalidIdsError, match="already"):
            recorder.add(0, [7, 7], LOGITS[:2], TARGETS[:2])
    assert run.diagnostics()["num_duplicates"] == 2


def test_an_invalid_row_is_left_out_and_counted(run: RunClient) -> None:
    bad = LOGITS.clone()
    bad[3, 1] = float("nan")
    with RunRecorder(run) as recorder:
        record(recorder, 0, bad)
    (epoch,) = run.describe()["epochs"]
    assert (epoch["num_examples"], epoch["num_excluded"]) == (ROWS - 1, 1)


def test_invalid_arrays_raise_an_error_in_add(run: RunClient) -> None:
    with RunRecorder(run) as recorder:
        with pytest.raises(ShapeError, match="2 ids for 3 rows"):
            recorder.add(0, [1, 2], LOGITS[:3], TARGETS[:3])
        with pytest.raises(InvalidIdsError, match="ids missing"):
            recorder.add(0, None, LOGITS[:3], TARGETS[:3])
    with pytest.raises(ValueError, match="closed"):
        recorder.add(0, [1], LOGITS[:1], TARGETS[:1])


def test_rejected_batches_are_logged_and_raised_by_close(
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


def test_strict_raises_errors_in_add(server: ServerProcess) -> None:
    with LossClient(server.url) as client:
        recorder = RunRecorder(client.run("absent"), batch_rows=8, strict=True)
        with pytest.raises(RecordingError):
            while True:
                record(recorder, 0)
        with pytest.raises(RecordingError):
            recorder.close()


def test_an_error_in_the_loop_is_not_hidden_by_a_recording_error(server: ServerProcess) -> None:
    with (
        LossClient(server.url) as client,
        pytest.raises(ZeroDivisionError),
        RunRecorder(client.run("absent")) as recorder,
    ):
        record(recorder, 0)
        raise ZeroDivisionError


def test_a_service_that_does_not_reply_blocks_training_for_patience_s(caplog: pytest.LogCaptureFixture) -> None:
    run = SlowRun()
    recorder = RunRecorder(run, batch_rows=10, max_waiting=2, patience_s=0.5)
    # One batch is being sent, two wait: the fourth uses up the patience, and those after it do not wait.
    record(recorder, 0, step=10)
    assert recorder.num_lost >= 60
    run.may_reply.set()
    with pytest.raises(RecordingError, match="too slow") as raised:
        recorder.close()
    assert raised.value.num_lost == recorder.num_lost
    assert recorder.num_sent == ROWS - recorder.num_lost == 10 * len(run.pushed)
    assert run.pushed == sorted(run.pushed)


def test_an_unreachable_service_gets_no_further_batches_after_training() -> None:
    paths: list[str] = []

    def reply(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.path)
        wait_for(lambda: recorder._recording.get()._closed, "the end of training")
        raise httpx.ConnectError("no", request=request)

    transport, policy = httpx.MockTransport(reply), RetryPolicy(attempts=3)
    with LossClient(transport=transport, retry=policy, sleep=lambda seconds: None) as client:
        recorder = RunRecorder(client.run("gone"), batch_rows=20)
        record(recorder, 0, step=20)
        with pytest.raises(RecordingError, match="100 rows were not stored"):
            recorder.close()
    assert len(paths) == 3


def test_add_waits_for_the_queue_before_it_drops_rows() -> None:
    run = SlowRun()
    recorder = RunRecorder(run, batch_rows=10, max_waiting=1, patience_s=60)
    threading.Timer(0.05, run.may_reply.set).start()
    record(recorder, 0, step=10)
    recorder.close()
    assert (recorder.num_lost, recorder.num_sent) == (0, ROWS)
    assert run.pushed == [(0, f"rank-0-{number:06}") for number in range(10)]


def test_close_waits_for_patience_s_while_nothing_is_stored() -> None:
    run = SlowRun()
    recorder = RunRecorder(run, batch_rows=10, max_waiting=2, patience_s=0.1)
    record(recorder, 0, step=10)
    started = time.monotonic()
    with pytest.raises(RecordingError, match="100 rows were not stored"):
        recorder.close()
    assert time.monotonic() - started < 5
    run.may_reply.set()
    assert (recorder.num_lost, recorder.num_sent) == (ROWS, 0)


def test_rows_of_a_recorder_that_is_not_closed_are_stored_at_exit(run: RunClient) -> None:
    recorder = RunRecorder(run)
    record(recorder, 0)
    recorder._recording.get()._close_at_exit()
    assert run.describe()["num_rows"] == ROWS


def test_attributes_have_the_same_names_in_an_epoch_and_one_value_per_row(run: RunClient) -> None:
    with RunRecorder(run, batch_rows=1) as recorder:
        recorder.add(0, [0], LOGITS[:1], TARGETS[:1], {"text": ["a"]})
        with pytest.raises(InvalidRequestError, match="previous rows of epoch 0"):
            recorder.add(0, [1], LOGITS[:1], TARGETS[:1], {"txt": ["a"]})
        recorder.add(1, [0], LOGITS[:1], TARGETS[:1])
        with pytest.raises(InvalidRequestError, match="previous rows of epoch 0"):
            recorder.add(0, [1], LOGITS[:1], TARGETS[:1])
        with pytest.raises(ShapeError, match="attribute 'text' has 1 values for 2 rows"):
            recorder.add(2, [0, 1], LOGITS[:2], TARGETS[:2], {"text": ["a"]})
    assert [epoch["epoch"] for epoch in run.describe()["epochs"]] == [0, 1]
