"""The peers that run in our environment give correct replies over HTTP, and wrk can load them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.bodies import JSON, SAFETENSORS, Batch, is_correct, write
from benchmarks.contenders import FLOOR, TEN_MINUTE, Contender
from benchmarks.load import run_wrk
from benchmarks.process import StartError
from tests.loss.reference import relative_error, softmax_focal

PROCESS = pytest.mark.live
BATCH = Batch.random(300, 7)


def test_the_losses_of_the_batch_are_correct() -> None:
    for row in range(0, 300, 50):
        exact = softmax_focal(tuple(BATCH.logits[row].tolist()), int(BATCH.targets[row]), 2.0)
        assert relative_error(float(BATCH.per_example[row]), exact) < 1e-5


@PROCESS
def test_the_ten_minute_app_is_correct_and_wrong_replies_are_detected(tmp_path: Path) -> None:
    with TEN_MINUTE.running(tmp_path) as process:
        assert TEN_MINUTE.fault(process, BATCH, JSON, tmp_path) == ""
        wrong = Batch(BATCH.logits[:200], BATCH.targets[:200], BATCH.per_example[100:])
        assert TEN_MINUTE.fault(process, wrong, JSON, tmp_path) == "wrong reply"
        assert process.memory_bytes() > 10**7
        process.reset_peak()
        assert process.peak_bytes() >= process.memory_bytes() * 0.9
    assert process.popen.poll() is not None


def test_a_reply_in_an_unknown_format_is_wrong() -> None:
    assert not is_correct(BATCH, b"ok", {"content-type": "text/plain"})
    assert not is_correct(BATCH, b"ok", {})


@PROCESS
@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_wrk_loads_the_floor(tmp_path: Path) -> None:
    body = write(BATCH, SAFETENSORS, tmp_path)
    with FLOOR.running(tmp_path) as process:
        load = run_wrk(f"{process.url}/", body.path, body.headers, clients=2, seconds=1, count_statuses=True)
    assert load.statuses == {"200": load.requests}
    assert load.rate > 10
    assert 0 < load.p50_ms <= load.p99_ms


@PROCESS
def test_a_peer_that_does_not_start_raises_the_reason(tmp_path: Path) -> None:
    absent = Contender("absent", ("benchmarks.peers.absent",), {JSON: "/"}, "", "")
    with pytest.raises(StartError, match="No module named"), absent.running(tmp_path):
        pass
    with (
        pytest.raises(StartError, match=r"\.venv-absent"),
        Contender("absent", (), {}, "", "", venv=".venv-absent").running(tmp_path),
    ):
        pass
