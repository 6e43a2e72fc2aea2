"""Adjusted scores against their definition in float64, and the queues that they rank."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from service.diagnostics.adjusted import adjusted, class_means
from service.diagnostics.chunks import Chunk
from service.errors import InvalidRequestError
from service.mining.queues import create_queue
from service.mining.requests import QueueRequest
from tests.mining.queue_dicts import whole
from tests.runs.temp_runs import TempRuns, noisy, temp_runs

SCORES = ("adjusted_margin", "adjusted_self_confidence")


def reference(logits: Any, targets: Any) -> tuple[Any, Any, Any]:
    """The adjusted margin, the adjusted self-confidence, and the adjusted logits of each row."""
    log_p = scipy.special.log_softmax(np.asarray(logits, dtype=np.float64), axis=1)
    shifted = log_p - np.log(np.exp(log_p).mean(axis=0))
    rows = np.arange(len(targets))
    others = shifted.copy()
    others[rows, targets] = -np.inf
    margin = shifted[rows, targets] - others.max(axis=1)
    return margin, scipy.special.softmax(shifted, axis=1)[rows, targets], shifted


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(1, 40), st.sampled_from([0.1, 1.0, 3.0]))
def test_they_equal_their_definition_however_the_rows_are_cut(seed: int, classes: int, rows: int, scale: float) -> None:
    generator = np.random.default_rng(seed)
    logits = (generator.normal(size=(rows, classes)) * scale).astype(np.float32)
    targets = generator.integers(0, classes, rows)
    cuts = [0, *sorted(generator.integers(0, rows + 1, 2)), rows]
    chunks = [Chunk(targets[a:b], logits[a:b]) for a, b in pairwise(cuts)]
    means = class_means(lambda: chunks, classes)
    np.testing.assert_array_equal(means, class_means(lambda: [Chunk(targets, logits)], classes))
    margin, log_odds, largest = (
        np.concatenate(parts) for parts in zip(*(adjusted(chunk, means) for chunk in chunks), strict=True)
    )
    expected, confidence, shifted = reference(logits, targets)
    # The means are multiples of 2^-52; probabilities are rounded to them one by one.
    error = 1e-12 + 2.0**-51 / means.min()
    np.testing.assert_allclose(margin, expected, rtol=1e-12, atol=2 * error)
    np.testing.assert_allclose(scipy.special.expit(log_odds), confidence, rtol=2 * error)
    np.testing.assert_allclose(shifted[np.arange(rows), largest], shifted.max(axis=1), rtol=1e-12, atol=2 * error)


def test_masked_classes_and_classes_without_probability_have_finite_scores() -> None:
    logits = np.array([[0.0, -math.inf, 1.0], [2.0, -math.inf, -math.inf], [0.0, -math.inf, -2000.0]])
    chunk = Chunk(np.array([0, 0, 2]), logits)
    margin, log_odds, suggested = adjusted(chunk, class_means(lambda: [chunk], 3))
    assert np.isfinite(margin[[0, 2]]).all()
    assert np.isfinite(log_odds[[0, 2]]).all()
    assert margin[1] == log_odds[1] == math.inf
    assert suggested.tolist() == [2, 0, 0]


def test_the_log_odds_order_rows_whose_probabilities_are_equal() -> None:
    chunk = Chunk(np.array([0, 0, 0, 1]), np.array([[60.0, 0.0], [80.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))
    log_odds = adjusted(chunk, class_means(lambda: [chunk], 2))[1]
    assert scipy.special.expit(log_odds)[0] == scipy.special.expit(log_odds)[1] == 1
    assert log_odds[1] - log_odds[0] == pytest.approx(20)


@pytest.fixture(scope="module")
def rows() -> Any:
    """Logits of two epochs, and targets. Class 0 is frequent."""
    logits, targets = noisy(200, 4, 3)
    return [(logits + np.array([2, 0, 0, 0]) * epoch).astype(np.float32) for epoch in range(2)], targets


@pytest.fixture(scope="module")
def runs(rows: Any) -> Any:
    logits, targets = rows
    with temp_runs() as temp:
        temp.create()
        for epoch in range(2):
            for batch in range(2):
                part = slice(100 * batch, 100 * batch + 100)
                ids = [f"e{row:03d}" for row in range(200)][part]
                temp.put(logits[epoch][part], targets[part], ids, epoch=epoch, batch=f"b{batch}")
        yield temp


def mined(runs: TempRuns, strategy: str, **request: Any) -> list[dict[str, Any]]:
    queue_request = QueueRequest.parse({"strategy": strategy, "budget": 200} | request)
    queue = runs.ask(lambda view: create_queue(runs.store, view, queue_request, view.weighting(), [])[0])
    rows: list[dict[str, Any]] = whole(queue)["rows"]
    return rows


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("strategy", SCORES)
def test_a_queue_ranks_by_them(runs: TempRuns, rows: Any, strategy: str, epoch: int) -> None:
    logits, targets = rows[0][epoch], rows[1]
    margin, confidence, shifted = reference(logits, targets)
    suggested = shifted.argmax(axis=1)
    score = margin if strategy == "adjusted_margin" else confidence
    p = scipy.special.softmax(logits.astype(np.float64), axis=1)
    found = mined(runs, strategy, epoch=epoch)
    order = [int(row["id"][1:]) for row in found]
    assert sorted(order) == list(range(200))
    assert [row["score"] for row in found] == pytest.approx(score[order].tolist(), rel=1e-9)
    assert (np.diff(score[order]) >= -1e-12).all()
    for row, number in zip(found, order, strict=True):
        if suggested[number] == targets[number]:
            assert (row["suggested"], row["suggested_p"]) == (None, None)
        else:
            assert row["suggested"] == suggested[number]
            assert row["suggested_p"] == pytest.approx(p[number, suggested[number]], rel=1e-9)
        assert row["reason"].startswith("Adjusted for the frequency of the classes, the label")
    # Classes that the model prefers are suspected more: the order is not that of the plain score.
    plain = "logit_margin" if strategy == "adjusted_margin" else "self_confidence"
    assert [row["id"] for row in mined(runs, plain, epoch=epoch)] != [row["id"] for row in found]


@pytest.mark.parametrize("strategy", SCORES)
def test_they_need_logits(strategy: str) -> None:
    with temp_runs() as runs:
        runs.create(store_logits=False)
        runs.put([[0.0, 1.0]], [1])
        with pytest.raises(
            InvalidRequestError, match=f"{strategy} needs .*; the logits of this epoch are not stored in run r"
        ):
            mined(runs, strategy)
