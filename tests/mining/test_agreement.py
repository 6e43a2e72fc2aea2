"""`GET /runs/{run}/agreement`: categories of verdicts, reviewers, gold rows, suggestions and conflicts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import krippendorff
import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import cohen_kappa_score
from starlette.testclient import TestClient

from service.api.app import create_app
from service.mining.queue_table import QueueTable, table_of
from service.mining.reviewer_quality import observe
from service.runs.review_history import ReviewHistory
from service.schema.replies.agreement import Agreement
from service.settings import Settings
from tests.mining.structured_runs import Data
from tests.replies import assert_is

EXAMPLES, CLASSES = 60, 3
rng = np.random.default_rng(8)
TARGETS = rng.integers(0, CLASSES, EXAMPLES)
Reviews = list[dict[str, Any]]


@pytest.fixture
def client(tmp_path: Path) -> Any:
    with TestClient(create_app(Settings(device="cpu", data_dir=str(tmp_path))), base_url="http://localhost") as client:
        client.put("/runs/r", json={})
        logits = rng.standard_normal((EXAMPLES, CLASSES)) + 2 * np.eye(CLASSES)[TARGETS]
        batch = {"logits": logits.tolist(), "targets": TARGETS.tolist(), "ids": [f"e{n:02}" for n in range(EXAMPLES)]}
        client.put("/runs/r/epochs/0/batches/b", json=batch).raise_for_status()
        yield client


def agreement_of(client: httpx.Client, run: str = "r", **query: int) -> Agreement:
    reply = client.get(f"/runs/{run}/agreement", params=query)
    assert reply.status_code == 200, reply.text
    assert_is(Agreement, reply.json())
    result: Agreement = reply.json()
    return result


def add(client: httpx.Client, reviews: Reviews, run: str = "r") -> None:
    reply = client.post(f"/runs/{run}/reviews", json=reviews)
    assert reply.status_code == 201, reply.text


def random_reviews() -> tuple[Reviews, np.ndarray]:
    """Reviews of three people on different rows, and the matrix of the labels that follow; NaN is missing."""
    reviews: Reviews = []
    labels = np.full((3, EXAMPLES), np.nan)
    for person, name in enumerate(["ann", "ben", None]):
        for row in range(EXAMPLES):
            verdict = rng.choice(["ok", "wrong", "unsure", "exclude", "none"], p=[0.5, 0.2, 0.05, 0.05, 0.2])
            if verdict == "none":
                continue
            label = int((TARGETS[row] + rng.integers(1, 3)) % 3) if verdict == "wrong" and rng.random() < 0.8 else None
            reviews.append({"id": f"e{row:02}", "verdict": verdict, "label": label, "reviewer": name})
            if verdict == "ok":
                labels[person, row] = TARGETS[row]
            elif verdict == "wrong":
                labels[person, row] = -1 if label is None else label
    return reviews, labels


def test_measures_are_those_of_the_labels_that_follow(client: httpx.Client) -> None:
    reviews, labels = random_reviews()
    add(client, reviews)
    result = agreement_of(client)
    judged = ~np.isnan(labels)
    assert result["num_compared"] == (judged.sum(axis=0) > 1).sum()
    assert result["num_items"] == len({review["id"] for review in reviews})
    alpha = result["krippendorff_alpha"]
    assert alpha["value"] == pytest.approx(krippendorff.alpha(labels, level_of_measurement="nominal"))
    assert alpha["low"] < alpha["value"] < alpha["high"]
    rows = {"ann": 0, "ben": 1, None: 2}
    assert len(result["pairs"]) == 3
    for pair in result["pairs"]:
        first, second = labels[rows[pair["first"]]], labels[rows[pair["second"]]]
        both = ~np.isnan(first) & ~np.isnan(second)
        assert pair["num_common"] == both.sum()
        assert pair["cohen_kappa"] == pytest.approx(cohen_kappa_score(first[both], second[both]))
    for one in result["reviewers"]:
        words = Counter(review["verdict"] for review in reviews if review["reviewer"] == one["reviewer"])
        assert (one["num_ok"], one["num_wrong"]) == (words["ok"], words["wrong"])
        assert (one["num_unsure"], one["num_exclude"]) == (words["unsure"], words["exclude"])
        assert one["num_reviewed"] == words.total()


def test_without_reviews(client: httpx.Client) -> None:
    result = agreement_of(client)
    assert (result["num_items"], result["num_reviewers"], result["fleiss_kappa"]) == (0, 0, None)
    assert result["krippendorff_alpha"] == {"value": None, "low": None, "high": None}
    assert (result["reviewers"], result["pairs"], result["conflicts"]) == ([], [], [])


def test_new_reviews_change_the_reply(client: httpx.Client) -> None:
    add(client, [{"id": "e00", "verdict": "ok", "reviewer": "ann"}])
    assert agreement_of(client)["num_reviewers"] == 1
    add(client, [{"id": "e00", "verdict": "wrong", "reviewer": "ben"}])
    assert agreement_of(client)["num_reviewers"] == 2


def test_conflicts_in_pages_until_they_are_settled(client: httpx.Client) -> None:
    both = [
        {"id": f"e{row:02}", "verdict": verdict, "reviewer": name, "comment": name}
        for row in range(12)
        for name, verdict in (("ann", "ok"), ("ben", "ok" if row % 3 else "wrong"))
    ]
    add(client, both)
    result = agreement_of(client, limit=3)
    assert (result["num_conflicts"], [one["id"] for one in result["conflicts"]]) == (4, ["e00", "e03", "e06"])
    assert [one["id"] for one in agreement_of(client, limit=3, offset=3)["conflicts"]] == ["e09"]
    first = result["conflicts"][0]
    assert first["num_reviews"] == 2
    told = [(one["reviewer"], one["verdict"], one["comment"]) for one in first["reviews"]]
    assert told == [("ann", "ok", "ann"), ("ben", "wrong", "ben")]
    add(client, [{"id": "e00", "verdict": "wrong", "label": 1, "adjudicate": True}])
    settled = agreement_of(client)
    assert (settled["num_conflicts"], settled["conflicts"][0]["id"]) == (3, "e03")
    # An adjudication is no second opinion.
    assert [one["reviewer"] for one in settled["reviewers"]] == ["ann", "ben"]
    assert settled["krippendorff_alpha"] == result["krippendorff_alpha"]


def test_structured_verdicts(client: httpx.Client) -> None:
    Data.of("multi_label").put(client, "labels")
    reviews = [
        {"id": f"e{row:03}", "unit": unit, "verdict": "wrong" if row % 4 == unit else "ok", "reviewer": name}
        for row in range(10)
        for unit in (0, 1)
        for name in ("ann", "ben")
    ]
    add(client, reviews, "labels")
    add(client, [{"id": "e000", "unit": 0, "verdict": "ok", "reviewer": "ben"}], "labels")
    result = agreement_of(client, "labels")
    assert (result["num_items"], result["num_compared"], result["num_conflicts"]) == (20, 20, 1)
    assert result["conflicts"][0]["unit"] == 0
    assert result["pairs"][0]["agreement"] == 19 / 20


def queue_of(suggested: list[int | None], gold: list[bool]) -> QueueTable:
    names = ("batch", "reason", "strategy")
    rows = [
        {"id": f"e{row}", "suggested": label, "p_t": 0.5, **dict.fromkeys(names, "x")}
        for row, label in enumerate(suggested)
    ]
    table: pa.Table = table_of(rows).append_column("gold", [gold])  # type: ignore[arg-type]
    return QueueTable.of({"name": "q", "epoch": 0}, table).outline()  # type: ignore[typeddict-item]


def review(row: int, verdict: str | None, label: int | None = None, **members: object) -> dict[str, Any]:
    base = {"unit": None, "reviewer": "ann", "queue": "q", "comment": None, "at": "2026-01-01T00:00:00+00:00"}
    return {"id": f"e{row}", "verdict": verdict, "label": label, **base, **members}


def history_of(*reviews: dict[str, Any]) -> ReviewHistory:
    told = [{**one, "review": f"{number:05}"} for number, one in enumerate(reviews)]
    return ReviewHistory([]).extended([("a", told)])  # type: ignore[list-item]


def test_use_of_suggestions() -> None:
    """Only judged rows with a suggestion count; of one reviewer the last review on each row."""
    history = history_of(
        review(0, "wrong", 1, suggestion="shown"),
        review(1, "wrong", 0, suggestion="shown"),
        review(1, "wrong", 2, suggestion="shown"),
        review(2, "ok", suggestion="shown"),
        review(3, "wrong", 1, suggestion="shown"),  # without a suggestion
        review(4, "unsure", suggestion="shown"),
        review(5, "wrong", 2),  # not known
        review(6, "wrong", suggestion="hidden"),
        review(7, "wrong", 0, suggestion="hidden", reviewer="ben"),
        review(7, "wrong", 0, suggestion="hidden", queue="other"),
    )
    seen = observe([queue_of([1, 2, 0, None, 1, 2, 1, 0], [False] * 8)], history)
    shown, hidden = seen.uptake("shown", "ann"), seen.uptake("hidden")
    assert (shown["rows"], shown["taken"], shown["share"]) == (3, 2, 2 / 3)
    assert shown["low"] < 2 / 3 < shown["high"]
    assert (hidden["rows"], hidden["taken"]) == (2, 1)
    assert seen.uptake("hidden", "ann")["taken"] == 0
    assert seen.uptake("shown", "nobody") == {"rows": 0, "taken": 0, "share": None, "low": None, "high": None}


def test_hits_on_gold_rows() -> None:
    settled = {"adjudicated": True, "reviewer": "owner", "queue": None}
    history = history_of(
        review(0, "wrong", 1, **settled),
        review(1, "ok", **settled),
        review(2, "wrong", 2, **settled),
        review(3, "wrong", 2, **settled),
        review(4, "ok", **settled),
        review(0, "wrong", 1),
        review(1, "wrong", 1),
        review(2, "wrong"),  # no label contradicts none
        review(3, "wrong", 0),
        review(4, "unsure"),
        review(5, "ok"),
        review(1, "ok", reviewer="ben"),
        review(0, "ok", reviewer="ben", queue="other"),
    )
    seen = observe([queue_of([None] * 6, [True, True, True, True, True, False])], history)
    assert seen.gold_rows("ann") == {"rows": 4, "hits": 2, "share": 0.5}
    assert seen.gold_rows("ben") == {"rows": 1, "hits": 1, "share": 1.0}
    assert seen.gold_rows("nobody") == {"rows": 0, "hits": 0, "share": None}
