"""Batches of runs that the client has reduced: the same scores as from the logits, which the run does not have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from service.client import LossClient, RunClient, RunRecorder
from service.errors import BatchConflictError, InvalidRequestError, InvalidTargetError, UnknownRunError

ROWS, CLASSES = 40, 4
RNG = np.random.default_rng(7)
LOGITS = (RNG.normal(size=(ROWS, CLASSES)) * 3).astype(np.float32)
TARGETS = RNG.integers(0, CLASSES, ROWS)
IDS = [f"e{row}" for row in range(ROWS)]
SCORES = ("log_odds", "logit_margin", "normalized_margin", "entropy", "el2n", "loss", "p_t", "prediction")


@pytest.fixture
def run(loss_client: LossClient) -> Iterator[RunClient]:
    run = loss_client.put_run("reduced", config={"gamma": 1.5})
    yield run
    run.delete()


def scores(run: RunClient, epoch: int, **options: Any) -> dict[str, list[Any]]:
    rows = {row["id"]: row for row in run.all_examples(epoch=epoch, **options)}
    return {name: [rows[identity][name] for identity in IDS if identity in rows] for name in SCORES}


def test_scores_are_those_of_the_logits(run: RunClient) -> None:
    targets = np.where(np.arange(ROWS) % 9 == 8, -100, TARGETS)
    full = run.push(0, "b", LOGITS, targets, IDS, outputs=["loss", "grad_norm"])
    thin = run.push(1, "b", LOGITS, targets, IDS, outputs=["loss", "grad_norm"], reduce=True)
    np.testing.assert_allclose(thin.per_example["grad_norm"], full.per_example["grad_norm"], rtol=1e-5)
    assert thin.num_ignored == full.num_ignored == 4
    for options in ({}, {"gamma": 0.5, "alpha": "1,2,3,4"}):
        expected, got = scores(run, 0, **options), scores(run, 1, **options)
        assert len(got["loss"]) == ROWS - 4
        for name in SCORES:
            np.testing.assert_allclose(got[name], expected[name], rtol=1e-5, atol=2e-6, err_msg=name)


def test_what_needs_logits_says_so(run: RunClient) -> None:
    run.push(0, "b", LOGITS, TARGETS, IDS, reduce=True)
    example = run.example("e0")
    assert (example["logits"], example["probabilities"]) == (None, None)
    diagnostics = run.diagnostics()
    assert (diagnostics["calibration"], diagnostics["label_errors"]) == (None, None)
    assert [warning["message"] for warning in diagnostics["warnings"] if warning["code"] == "no_logits"] == [
        "The epoch keeps not all logits: there is no estimate of label errors, no calibration and no suspected_errors "
        "queue."
    ]
    with pytest.raises(InvalidRequestError, match="logits of this epoch are not stored"):
        run.create_queue(strategy="suspected_errors", budget=3)
    assert len(run.create_queue(strategy="top_loss", budget=3)["rows"]) == 3
    # An epoch needs the logits of all of its batches.
    run.push(1, "a", LOGITS[:20], TARGETS[:20], IDS[:20])
    assert run.diagnostics()["calibration"] is not None
    run.push(1, "b", LOGITS[20:], TARGETS[20:], IDS[20:], reduce=True)
    assert run.diagnostics()["calibration"] is None
    run.push(1, "b", LOGITS[20:], TARGETS[20:], IDS[20:], replace=True)
    assert run.diagnostics()["calibration"] is not None
    assert run.diagnostics(epoch=0)["calibration"] is None


def test_reduced_batches_are_idempotent(run: RunClient) -> None:
    run.push(0, "b", LOGITS, TARGETS, IDS, reduce=True)
    run.push(0, "b", LOGITS, TARGETS, IDS, reduce=True)
    run.push(0, "b", LOGITS, TARGETS.tolist(), IDS, reduce=True)
    (epoch,) = run.describe()["epochs"]
    assert (epoch["num_examples"], epoch["num_batches"]) == (ROWS, 1)
    for other in ({}, {"reduce": True, "logits": LOGITS + RNG.random((ROWS, CLASSES))}):
        with pytest.raises(BatchConflictError):
            run.push(0, "b", **{"logits": LOGITS, "targets": TARGETS, "ids": IDS} | other)


def test_invalid_rows_are_excluded(run: RunClient) -> None:
    logits, targets = LOGITS.copy(), TARGETS.copy()
    logits[3, 1], targets[5] = np.nan, 7
    for _ in range(2):
        reply = run.push(0, "b", logits, targets, IDS, on_invalid="exclude", reduce=True)
        assert [(row.id, row.code) for row in reply.excluded] == [("e3", "invalid_logit"), ("e5", "invalid_target")]
    run.push(1, "b", logits, targets, IDS, on_invalid="exclude")
    thin, full = scores(run, 0), scores(run, 1)
    assert len(thin["loss"]) == ROWS - 2
    np.testing.assert_allclose(thin["loss"], full["loss"], rtol=1e-5, atol=1e-7)


def test_binary_logits_follow_from_log_odds(loss_client: LossClient) -> None:
    run = loss_client.put_run("binary", config={"mode": "sigmoid"})
    targets = np.where(np.arange(ROWS) % 7 == 6, -100, TARGETS % 2)
    run.push(0, "b", LOGITS[:, 0], targets, IDS, reduce=True)
    # The same content.
    run.push(0, "b", LOGITS[:, 0], targets, IDS)
    run.push(0, "b", LOGITS[:, :1], targets[:, None], IDS, reduce=True)
    assert run.example("e3")["logits"] == [0, LOGITS[3, 0]]
    assert run.diagnostics()["calibration"] is not None
    with pytest.raises(InvalidTargetError, match="neither 0 nor 1"):
        run.push(1, "b", LOGITS[:, 0], np.full(ROWS, 0.5), IDS, reduce=True)
    run.delete()


def test_number_of_classes(loss_client: LossClient, run: RunClient) -> None:
    run.push(0, "b", LOGITS, TARGETS, IDS, reduce=True)
    assert run.describe()["num_classes"] == CLASSES
    with pytest.raises(InvalidRequestError, match="num_classes is 3, run reduced has 4 classes"):
        run.push(0, "c", LOGITS[:, :3], TARGETS % 3, IDS, reduce=True)
    with pytest.raises(InvalidTargetError, match=r"target 4 is outside \[0, 4\)"):
        run.push(0, "c", LOGITS, TARGETS + 1, IDS, reduce=True)
    named = loss_client.put_run("named", class_names=["a", "b", "c", "d"])
    named.push(0, "b", LOGITS, [named.describe()["class_names"][target] for target in TARGETS], IDS, reduce=True)
    np.testing.assert_allclose(scores(named, 0)["log_odds"], scores(run, 0)["log_odds"])
    named.delete()


def test_recorder(loss_client: LossClient, run: RunClient) -> None:
    with RunRecorder(run, batch_rows=16, reduce=True) as recorder:
        for start in range(0, ROWS, 8):
            part = slice(start, start + 8)
            recorder.add(0, IDS[part], LOGITS[part], TARGETS[part])
    assert (recorder.num_sent, recorder.num_lost) == (ROWS, 0)
    run.push(1, "b", LOGITS, TARGETS, IDS)
    expected, got = scores(run, 1), scores(run, 0)
    np.testing.assert_allclose(got["log_odds"], expected["log_odds"], rtol=1e-5, atol=1e-6)
    assert run.example("e0", epoch=0)["logits"] is None
    with pytest.raises(UnknownRunError):
        RunRecorder(loss_client.run("missing"), reduce=True)
