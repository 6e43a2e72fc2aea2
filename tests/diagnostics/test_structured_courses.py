"""Dynamics and comparison of structured runs, against their definitions in numpy."""

from __future__ import annotations

import httpx
import numpy as np

from service.schema.replies.comparison import Comparison
from service.schema.replies.dynamics import Dynamics
from tests.diagnostics.structured_runs import create, diagnostics, get, noisy_elements, noisy_labels, put
from tests.replies import assert_is


def test_dynamics_of_examples(client: httpx.Client) -> None:
    create(client, "course", "multi_label", {"mode": "sigmoid", "gamma": 1})
    _, targets = noisy_labels(30, 4)
    courses = [noisy_labels(30, 4, seed)[0] for seed in range(3)]
    for epoch, logits in enumerate(courses):
        put(client, "course", list(logits), list(targets), epoch)
    reply = get(client, "/runs/course/dynamics", sort="id", limit=100, bins=4)
    assert_is(Dynamics, reply)
    z = np.where(targets == 1, courses, np.negative(courses)).astype(np.float64)
    right, worst = (z > 0).all(axis=2), z.min(axis=2)
    rows = reply["rows"]
    assert [row["target"] for row in rows] == [None] * 30
    assert [row["correctness"] for row in rows] == right.sum(axis=0).tolist()
    assert [row["forgetting_events"] for row in rows] == (right[:-1] & ~right[1:]).sum(axis=0).tolist()
    np.testing.assert_allclose([row["confidence"] for row in rows], (1 / (1 + np.exp(-worst))).mean(axis=0), rtol=1e-5)
    p_t = 1 / (1 + np.exp(-z))
    loss = ((1 - p_t) * -np.log(p_t)).mean(axis=(0, 2))
    np.testing.assert_allclose([row["mean_loss"] for row in rows], loss, rtol=1e-5)
    np.testing.assert_allclose([row["area_under_margin"] for row in rows], worst.mean(axis=0), rtol=1e-4)


def put_statistics(client: httpx.Client, run: str, **parts: list[list[int]]) -> None:
    """Put the log-odds of two examples and further parts in two epochs."""
    body = {"layout": "ragged", "ids": ["a", "b"], "num_classes": 2, "log_odds": [[1.0, -2.0], [0.5]]}
    for epoch in range(2):
        reply = client.put(f"/runs/{run}/epochs/{epoch}/batches/b", json=body | parts)
        assert reply.status_code == 201, reply.text


def test_margins_that_were_not_sent_are_null(client: httpx.Client) -> None:
    create(client, "thin-course", "tokens", {})
    put_statistics(client, "thin-course", targets=[[0, 0], [1]], prediction=[[0, 1], [1]])
    reply = get(client, "/runs/thin-course/dynamics")
    assert_is(Dynamics, reply)
    assert [row["area_under_margin"] for row in reply["rows"]] == [None, None]
    assert reply["summary"]["mean_area_under_margin"] is None
    assert {row["id"]: row["correctness"] for row in reply["rows"]} == {"a": 0, "b": 2}


def test_compare_counts_elements(client: httpx.Client) -> None:
    logits, targets = noisy_elements([(4,)] * 20, 3)
    others, _ = noisy_elements([(4,)] * 20, 3, seed=5)
    relabelled = [
        np.where(np.arange(4) == 0, (part + 1) % 3, part) if n < 7 else part for n, part in enumerate(targets)
    ]
    for run, x, y in ("before", logits, targets), ("after", others, relabelled):
        create(client, run, "tokens", {})
        put(client, run, x, y)
    reply = get(client, "/runs/before/compare/after")
    assert_is(Comparison, reply)
    before, after = ([part.argmax(axis=1) for part in parts] for parts in (logits, others))
    assert reply["num_relabelled"] == 7
    assert reply["num_predicted_otherwise"] == sum((a != b).any() for a, b in zip(before, after, strict=True))
    wrong = [
        sum(int((part != of).sum()) for part, of in zip(parts, of_run, strict=True))
        for parts, of_run in ((before, targets), (after, relabelled))
    ]
    assert [reply["num_wrong_before"], reply["num_wrong_after"]] == wrong
    assert reply["classes"] == []
    row = reply["moves"][0]
    number = int(row["id"][1:])
    assert row["num_wrong_before"] == (before[number] != targets[number]).sum()
    assert row["target_before"] is None


def test_runs_of_different_tasks_are_not_compared(client: httpx.Client) -> None:
    create(client, "of-tokens", "tokens", {})
    create(client, "of-masks", "masks", {})
    reply = client.get("/runs/of-tokens/compare/of-masks")
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_request")
    assert "run of-masks has the task masks, run of-tokens tokens" in reply.json()["detail"]
    assert client.get("/runs/of-tokens/compare/of-tokens").json()["num_wrong_before"] == 0


def test_masks_sent_as_histograms_have_no_predictions(client: httpx.Client) -> None:
    create(client, "histograms", "masks", {})
    put_statistics(client, "histograms", targets=[[0, 1], [1]], element_count=[[3, 2], [4]])
    reply = get(client, "/runs/histograms/dynamics", bins=2)
    assert_is(Dynamics, reply)
    for name in ("correctness", "forgetting_events", "never_learned"):
        assert [row[name] for row in reply["rows"]] == [None, None]
    assert reply["summary"]["never_learned"] == 0
    assert {cell["correctness"] for cell in reply["map"]} == {None}
    elements = diagnostics(client, "histograms")["elements"]
    assert (elements["num_valid"], elements["error_rate"], elements["label_issues"]) == (9, None, None)
    assert [(row["count"], row["error_rate"]) for row in elements["classes"]] == [(3, None), (6, None)]
    changes = get(client, "/runs/histograms/compare/histograms", epoch=0)
    assert_is(Comparison, changes)
    assert (changes["num_relabelled"], changes["num_predicted_otherwise"]) == (0, 0)
