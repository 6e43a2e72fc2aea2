"""Warnings about the elements of structured runs, each exactly when it applies."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from service.diagnostics import element_summary, element_warnings
from service.diagnostics.element_warnings import rank_correlation
from service.diagnostics.elements import run_chunks
from tests.diagnostics.structured_runs import create, diagnostics, noisy_elements, noisy_labels, put
from tests.services import Services

WEIGHTS = {"inverse_frequency_alpha", "class_weights"}


def warnings_of(client: httpx.Client, run: str, **query: Any) -> dict[str, str]:
    return {row["code"]: row["message"] for row in diagnostics(client, run, **query)["warnings"]}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=12))
def test_rank_correlation_is_spearmans(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(pairs, np.float64).T
    assume(len({*first}) > 1)
    assume(len({*second}) > 1)
    assert rank_correlation(first, second) == pytest.approx(spearmanr(first, second).statistic, abs=1e-12)


def test_equal_values_have_no_rank_correlation() -> None:
    assert rank_correlation(np.ones(3), np.arange(3.0)) == 0


WEIGHTS_OF_MASKS: list[tuple[list[float] | None, str | None]] = [
    (None, None),
    ([1, 1, 1], None),
    ([0.01, 1, 3], "inverse_frequency_alpha"),
    # The background has the smallest weight.
    ([0.5, 0.9, 0.6], "inverse_frequency_alpha"),
    ([1, 0.4, 0.5], "class_weights"),
]


@pytest.fixture
def client(services: Services) -> httpx.Client:
    """A client of an app in this process, whose limits the tests change."""
    return services.client(in_process=True)


@pytest.fixture(scope="module")
def masks() -> tuple[list[np.ndarray[Any, Any]], list[np.ndarray[Any, Any]]]:
    generator = np.random.default_rng(0)
    targets = generator.choice(3, (30, 5, 5), p=[0.9, 0.07, 0.03])
    logits = (3 * np.eye(3)[targets] + generator.normal(size=(30, 5, 5, 3))).transpose(0, 3, 1, 2).astype(np.float32)
    return list(logits), list(targets)


def test_weights_of_masks(client: httpx.Client, masks: Any) -> None:
    create(client, "weights", "masks", {"alpha": [0.01, 1, 3]}, class_names=["background", "car", "bus"])
    put(client, "weights", *masks)
    message = warnings_of(client, "weights")["inverse_frequency_alpha"]
    assert "class background, the most frequent one, has the weight 0.01" in message
    for alpha, code in WEIGHTS_OF_MASKS:
        text = "none" if alpha is None else ",".join(map(str, alpha))
        assert WEIGHTS & {*warnings_of(client, "weights", alpha=text)} == ({code} if code else set()), alpha


def test_weights_of_labels(client: httpx.Client) -> None:
    generator = np.random.default_rng(0)
    targets = (generator.random((100, 3)) < 0.15).astype(np.int64)
    logits = np.where(targets == 1, 2.0, -2.0) + generator.normal(size=targets.shape)
    create(client, "weights-of-labels", "multi_label", {"mode": "sigmoid"})
    put(client, "weights-of-labels", list(logits), list(targets))
    for alpha, codes in (
        ("0.9", {"inverse_frequency_alpha"}),
        ("0.9,0.9,0.8", {"inverse_frequency_alpha"}),
        ("0.2", {"class_weights"}),
        ("0.5", set()),
    ):
        assert WEIGHTS & {*warnings_of(client, "weights-of-labels", alpha=alpha)} == codes, alpha


def test_small_classes(client: httpx.Client) -> None:
    logits, targets = noisy_labels(40, 3)
    targets[:, 0] = np.arange(40) < 20
    targets[:, 1] = np.arange(40) < 6
    targets[:, 2] = np.arange(40) >= 9
    create(client, "small-labels", "multi_label", {"mode": "sigmoid"}, class_names=["a", "b", "c"])
    put(client, "small-labels", list(logits), list(targets))
    message = warnings_of(client, "small-labels")["small_classes"]
    assert message.startswith("Labels with fewer than 10 positive or negative elements: b (6), c (9).")
    values, classes = noisy_elements([(10,)] * 6, 3)
    classes = [np.where(part == 2, 0, part) for part in classes]
    create(client, "small-classes", "tokens", {})
    put(client, "small-classes", values, classes)
    message = warnings_of(client, "small-classes")["small_classes"]
    assert message.startswith("Classes with fewer than 10 elements: 2 (0).")


def test_many_labels(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_chunks, "MAX_LABELS", 2)
    create(client, "many-labels", "multi_label", {"mode": "sigmoid"})
    put(client, "many-labels", [np.zeros(3)] * 20, [np.ones(3, np.int64)] * 20)
    reply = diagnostics(client, "many-labels")
    codes = {row["code"]: row["message"] for row in reply["warnings"]}
    assert codes["no_logits"].endswith("the run has 3 labels, and label issues are found for at most 2.")
    assert reply["elements"]["label_issues"] is None
    queue = client.post("/runs/many-labels/queues", json={"strategy": "suspected_errors"})
    assert (queue.status_code, queue.json()["code"]) == (422, "invalid_request")


def test_many_classes(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (element_summary, element_warnings):
        monkeypatch.setattr(module, "TABLE_CLASSES", 2)
    monkeypatch.setattr(run_chunks, "MAX_CLASSES", 2)
    logits, targets = noisy_elements([(10,)] * 6, 3)
    create(client, "many-classes", "tokens", {})
    put(client, "many-classes", logits, targets)
    reply = diagnostics(client, "many-classes")
    codes = {row["code"]: row["message"] for row in reply["warnings"]}
    assert codes["many_classes"] == "The run has 3 classes: the table has the 2 with the largest loss."
    assert codes["no_logits"].endswith("the run has 3 classes, and a table of their pairs has at most 2.")
    assert reply["elements"]["label_issues"] is None
    table = reply["elements"]["classes"]
    assert len(table) == 2
    flat = np.concatenate(targets)
    assert [row["count"] for row in table] == [int((flat == row["class"]).sum()) for row in table]
