"""`GET /runs/{run}/remaining`: the random rows that count, and the statuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

from service.api.app import create_app
from service.diagnostics.exact import most_wrong
from service.schema.replies.remaining import Remaining
from service.settings import Settings
from tests.mining.structured_runs import Data
from tests.replies import assert_is

EXAMPLES, CLASSES = 400, 3
rng = np.random.default_rng(5)
TRUE = rng.integers(0, CLASSES, EXAMPLES)
IS_WRONG = rng.random(EXAMPLES) < 0.1
TARGETS = np.where(IS_WRONG, (TRUE + 1) % CLASSES, TRUE)
LOGITS = rng.standard_normal((EXAMPLES, CLASSES)) + 3 * np.eye(CLASSES)[TRUE]


class Run:
    """A run of the service with 10 % of wrong labels, and its reviewers, who are right."""

    def __init__(self, client: httpx.Client, name: str) -> None:
        self.client, self.path = client, f"/runs/{name}"
        assert client.put(self.path, json={}).status_code == 201
        self.put(0)

    def put(self, epoch: int, targets: np.ndarray = TARGETS) -> None:
        ids = [str(number) for number in range(len(targets))]
        batch = {"logits": LOGITS[: len(targets)].tolist(), "targets": targets.tolist(), "ids": ids}
        self.client.put(f"{self.path}/epochs/{epoch}/batches/b", json=batch).raise_for_status()

    def queue(self, name: str, **members: object) -> list[str]:
        reply = self.client.post(f"{self.path}/queues", json={"name": name, **members})
        assert reply.status_code == 201, reply.text
        rows = self.client.get(f"{self.path}/queues/{name}", params={"limit": 1000}).json()["rows"]
        return [row["id"] for row in rows]

    def review(self, ids: list[str], queue: str | None = None, verdict: str | None = None) -> None:
        words = [verdict or ("wrong" if IS_WRONG[int(identity)] else "ok") for identity in ids]
        reviews = [{"id": id_, "verdict": word, "queue": queue} for id_, word in zip(ids, words, strict=True)]
        assert self.client.post(f"{self.path}/reviews", json=reviews).status_code == 201

    def remaining(self, **query: object) -> Remaining:
        reply = self.client.get(f"{self.path}/remaining", params=query)
        assert reply.status_code == 200, reply.text
        assert_is(Remaining, reply.json())
        result: Remaining = reply.json()
        return result


def num_wrong(ids: list[str]) -> int:
    return int(sum(IS_WRONG[int(identity)] for identity in ids))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder: Path = tmp_path_factory.mktemp("remaining")
    with TestClient(create_app(Settings(device="cpu", data_dir=str(folder))), base_url="http://localhost") as client:
        yield client


@pytest.fixture
def run(client: httpx.Client, request: pytest.FixtureRequest) -> Run:
    return Run(client, request.node.name.removeprefix("test_"))


def test_without_a_random_slice(run: Run) -> None:
    assert run.remaining()["next"] is None
    run.queue("q", strategy="logit_margin", budget=30)
    run.queue("by-class", strategy="random", budget=30, per_class="equal")
    result = run.remaining()
    assert (result["status"], result["upper"], result["estimate"]) == ("no_random_slice", None, None)
    assert "random" in result["message"]
    assert (result["num_examples"], result["num_left"]) == (EXAMPLES, EXAMPLES)


def test_bound_and_estimate(run: Run) -> None:
    ids = run.queue("control", strategy="random", budget=80)
    run.review(ids, "control")
    result, found = run.remaining(), num_wrong(ids)
    assert result["status"] == "estimated"
    assert result["slice"] == {
        "queues": ["control"],
        "rows": 80,
        "judged": 80,
        "wrong": found,
        "undecided": 0,
        "set_apart": 0,
    }
    assert result["upper"] == most_wrong(EXAMPLES, 80, found) - found
    assert result["estimate"] == pytest.approx(found / 80 * EXAMPLES - found)
    assert (result["num_judged"], result["num_wrong"], result["num_left"]) == (80, found, EXAMPLES - 80)
    assert str(result["upper"]) in result["message"]


def test_too_few_and_none_found_are_two_answers(run: Run) -> None:
    ids = run.queue("control", strategy="random", budget=60)
    right = [identity for identity in ids if not IS_WRONG[int(identity)]]
    run.review(right[:9], "control")
    few = run.remaining()
    assert (few["status"], few["slice"]["judged"]) == ("too_few_verdicts", 9)
    assert "too few" in few["message"]
    run.review(right[9:], "control")
    none = run.remaining()
    assert (none["status"], none["estimate"]) == ("none_found", 0)
    assert none["upper"] == most_wrong(EXAMPLES, len(right), 0)
    assert "no proof" in none["message"]


def test_unsure_conflict_and_exclude_are_no_verdict(run: Run) -> None:
    ids = run.queue("control", strategy="random", budget=40)
    run.review(ids, "control", "ok")
    run.review(ids[:3], "control", "unsure")
    run.review(ids[3:5], "control", "exclude")
    conflict = [{"id": ids[5], "verdict": "wrong", "reviewer": "kim", "queue": "control"}]
    run.client.post(f"{run.path}/reviews", json=conflict).raise_for_status()
    result = run.remaining()
    assert (result["slice"]["judged"], result["slice"]["undecided"]) == (34, 6)
    assert result["num_left"] == EXAMPLES - 34
    assert result["upper"] == most_wrong(EXAMPLES, 34, 0)
    assert result["upper_if_undecided_wrong"] == most_wrong(EXAMPLES, 40, 6)


def test_rows_of_other_queues_are_no_sample(run: Run) -> None:
    """Random rows that are reviewed only since another queue ranks them high must not count."""
    random = run.queue("control", strategy="random", budget=200)
    others = run.queue("q", strategy="random", budget=60, seed=3, per_class="equal")
    assert set(random) & set(others)
    run.review(others, "q")
    assert run.remaining()["slice"]["judged"] == 0
    run.review(random[:50], "control")
    result = run.remaining()
    # Some of the most suspicious rows are set apart, but not judged.
    counted = result["slice"]["judged"] + result["slice"]["set_apart"]
    assert counted == 50
    judged = {*random[:50], *others}
    assert (result["num_judged"], result["num_wrong"]) == (len(judged), num_wrong(list(judged)))
    assert result["upper"] >= IS_WRONG.sum() - num_wrong(list(judged))


def test_rows_reviewed_before_the_drawing_are_known(run: Run) -> None:
    """After a review of the suspicious rows a random slice of the rest gives a smaller bound."""
    suspicious = run.queue("q", strategy="logit_margin", budget=100)
    run.review(suspicious, "q")
    random = run.queue("control", strategy="random", budget=150)
    new = [identity for identity in random if identity not in set(suspicious)]
    run.review(new, "control")
    result = run.remaining()
    # The next rows of the ranking are set apart, too, until 5 of 20 are open.
    assert len(new) - result["slice"]["judged"] in range(15)
    assert result["upper"] >= IS_WRONG.sum() - result["num_wrong"]
    whole = most_wrong(EXAMPLES, 150, num_wrong(random), result["num_wrong"]) - result["num_wrong"]
    assert result["upper"] < whole


def test_one_queue_of_several(run: Run) -> None:
    first = run.queue("first", strategy="random", budget=30)
    run.review(first, "first")
    second = run.queue("second", strategy="random", budget=50, seed=1)
    run.review(second, "second")
    both = run.remaining()
    assert both["slice"]["queues"] == ["first", "second"]
    assert both["slice"]["judged"] == len({*first, *second})
    one = run.remaining(control="second")
    assert (one["slice"]["queues"], one["slice"]["judged"] + one["slice"]["set_apart"]) == (["second"], 50)
    assert one["slice"]["set_apart"] >= len(set(second) & set(first))
    for name in ("unknown", "q"):
        reply = run.client.get(f"{run.path}/remaining", params={"control": name})
        assert (reply.status_code, reply.json()["code"]) == (404, "unknown_queue")


def test_a_slice_of_other_examples_does_not_count(run: Run) -> None:
    ids = run.queue("control", strategy="random", budget=30)
    run.review(ids, "control")
    run.put(1, TARGETS[:300])
    assert run.remaining()["status"] == "no_random_slice"
    assert run.remaining(epoch=0)["slice"]["judged"] == 30
    assert run.remaining()["num_judged"] == sum(int(identity) < 300 for identity in ids)


def test_next_rows(run: Run) -> None:
    ids = run.queue("q", strategy="logit_margin", budget=200)
    assert run.remaining()["next"]["status"] == "too_few_verdicts"
    run.review(ids[:60], "q")
    result = run.remaining()["next"]
    assert (result["queue"], result["num_open"], result["num_judged"]) == ("q", 140, 60)
    assert [one["rows"] for one in result["predictions"]] == [10, 100, 140]
    for one in result["predictions"]:
        assert one["low"] <= num_wrong(ids[60 : 60 + one["rows"]]) <= one["high"]
        assert one["low"] <= one["expected"] <= one["high"]
    (asked,) = run.remaining(queue="q", rows=25)["next"]["predictions"]
    assert asked["rows"] == 25
    assert [one["rows"] for one in run.remaining(rows=5000)["next"]["predictions"]] == [140]
    run.review(ids[60:], "q")
    assert run.remaining()["next"]["status"] == "no_open_rows"
    assert run.client.get(f"{run.path}/remaining?queue=x").json()["code"] == "unknown_queue"


def test_next_rows_of_a_mix(run: Run) -> None:
    """Random rows have no trend, so the suspicious rows before them say nothing about them."""
    members: dict[str, Any] = {"strategy": "mix", "mix": {"logit_margin": 0.5, "random": 0.5}, "budget": 100}
    ids = run.queue("q", **members)
    run.review(ids[:60], "q")
    (one,) = run.remaining(queue="q", rows=40)["next"]["predictions"]
    assert one["low"] <= num_wrong(ids[60:]) <= one["high"]
    assert one["expected"] < num_wrong(ids[:40])


def test_structured_examples(client: httpx.Client) -> None:
    Data.of("tokens").put(client, "tokens")
    rows = client.post("/runs/tokens/queues", json={"name": "c", "strategy": "random", "budget": 20}).json()["rows"]
    reviews: list[dict[str, Any]] = [{"id": row["id"], "verdict": "ok", "queue": "c"} for row in rows]
    reviews[0] |= {"verdict": "wrong"}
    reviews += [{"id": rows[1]["id"], "unit": [0, 1], "verdict": "wrong", "label": 0, "queue": "c"}]
    client.post("/runs/tokens/reviews", json=reviews).raise_for_status()
    result = client.get("/runs/tokens/remaining").json()
    assert (result["status"], result["slice"]["judged"], result["slice"]["wrong"]) == ("estimated", 20, 2)
    assert result["upper"] == most_wrong(40, 20, 2) - 2
