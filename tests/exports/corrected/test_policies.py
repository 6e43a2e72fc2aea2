"""Labels to use where no review settles them: precise suggestions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from service.client import LossClient, RunClient
from service.errors import InvalidRequestError

CLASSES = ["cat", "dog", "owl"]
ROWS = 400


@pytest.fixture
def run(loss_client: LossClient) -> Iterator[RunClient]:
    """A run in which the model is right about 300 of 400 wrong labels, those with the smallest margins."""
    run = loss_client.put_run("policies", class_names=CLASSES)
    logits = np.zeros((ROWS, 3))
    logits[:, 1] = np.linspace(8, 1, ROWS)
    run.push(0, "b", logits, np.zeros(ROWS, int), range(ROWS))
    yield run
    run.delete()


def rows_of(run: RunClient, policy: Any) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in map(json.loads, run.corrected(format="jsonl", policy=policy).splitlines())}


def labels_of(rows: dict[str, dict[str, Any]], ids: str) -> list[tuple[Any, Any]]:
    return [(rows[identity]["label"], rows[identity]["status"]) for identity in ids]


def test_precise_suggestions_are_used_without_a_review(run: RunClient) -> None:
    with pytest.raises(InvalidRequestError, match=r"needs at least 100 examples .* the run has 0"):
        run.corrected(policy="auto")
    # Every other row: right up to row 300, then wrong.
    run.review(
        [
            {"id": str(row), "verdict": "wrong", "label": "dog"} if row < 300 else {"id": str(row), "verdict": "ok"}
            for row in range(0, ROWS, 2)
        ]
    )
    run.review([{"id": "1", "verdict": "unsure"}, {"id": "3", "verdict": "exclude"}])
    rows = rows_of(run, "auto")
    automatic = [int(name) for name, row in rows.items() if (row["comment"] or "").startswith("automatic")]
    # Of the first 150 reviewed rows, 0 to 298, all are right; of all 200 they are not.
    assert automatic == list(range(5, 298, 2))
    assert {(rows[str(row)]["label"], rows[str(row)]["status"]) for row in automatic} == {("dog", "corrected")}
    assert rows["5"]["comment"].startswith("automatic: 150 of the 150 reviewed suggestions with a margin up to -")
    assert labels_of(rows, "13") == [(None, "unsure"), (None, "excluded")]
    assert rows["399"]["status"] == "unreviewed"


def test_imprecise_suggestions_are_refused_with_their_precision(run: RunClient) -> None:
    verdicts = [{"id": str(row), "verdict": "wrong", "label": 1 if row % 10 else 2} for row in range(120)]
    run.review(verdicts)
    with pytest.raises(InvalidRequestError, match=r"90 of the 100 reviewed suggestions .* are right"):
        run.corrected(policy="auto")


def test_other_tasks_have_reviews_only(loss_client: LossClient) -> None:
    run = loss_client.put_run("tokens", task="tokens")
    with pytest.raises(InvalidRequestError, match="policy auto is for runs of the task classification"):
        run.corrected(policy="auto")
