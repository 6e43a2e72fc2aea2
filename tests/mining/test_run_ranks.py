"""Queues that rank by the mean of the ranks in several runs, compared with ranks in Python."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import httpx
import numpy as np
import pytest

from service.errors import InvalidRequestError, UnknownRunError
from service.mining.queues import create_queue
from service.mining.requests import MAX_RUNS, QueueRequest
from tests.mining.queue_dicts import whole
from tests.mining.structured_runs import Data
from tests.runs.temp_runs import TempRuns, noisy, temp_runs

# The examples of each run: b lacks some, c has some more and lacks others.
EXAMPLES = {"a": range(120), "b": range(20, 120), "c": range(10, 180)}


@pytest.fixture(scope="module")
def runs() -> Iterator[TempRuns]:
    with temp_runs() as temp:
        for number, (run, examples) in enumerate(EXAMPLES.items()):
            temp.create(run=run)
            logits, targets = noisy(len(examples), 4, number)
            temp.put(logits, targets, [f"e{example:03d}" for example in examples], run=run)
        temp.create(run="bare", store_logits=False)
        temp.put(*noisy(120, 4, 7), [f"e{example:03d}" for example in EXAMPLES["a"]], run="bare")
        temp.create(run="two")
        temp.put(*noisy(30, 2, 0), run="two")
        yield temp


def mined(temp: TempRuns, run: str = "a", /, **request: Any) -> dict[str, Any]:
    queue_request = QueueRequest.parse({"budget": 1000} | request)
    return whole(temp.ask(lambda view: create_queue(temp.store, view, queue_request, view.weighting(), [])[0], run))


def ids(queue: dict[str, Any]) -> list[str]:
    return [row["id"] for row in queue["rows"]]


def mean_ranks(runs: TempRuns, strategy: str, names: Sequence[str]) -> dict[str, Fraction]:
    """The mean rank of each row of the first run that it ranks, by the queues of the single runs."""
    orders = {name: ids(mined(runs, name, strategy=strategy)) for name in names}
    total = len(EXAMPLES[names[0]])
    means = {}
    for identity in orders[names[0]]:
        ranks = []
        for name in names:
            if int(identity[1:]) in EXAMPLES[name]:
                number = len(EXAMPLES[name])
                place = orders[name].index(identity) + 1 if identity in orders[name] else number
                ranks.append(Fraction(place * total, number))
        means[identity] = sum(ranks, Fraction()) / len(ranks)
    return means


@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "c")])
@pytest.mark.parametrize("strategy", ["logit_margin", "adjusted_margin", "suspected_errors", "area_under_margin"])
def test_rows_are_ranked_by_the_mean_of_their_ranks(runs: TempRuns, strategy: str, names: Sequence[str]) -> None:
    means = mean_ranks(runs, strategy, names)
    found = mined(runs, strategy=strategy, runs=list(names[1:]))
    assert [row["score"] for row in found["rows"]] == pytest.approx(
        [float(means[identity]) for identity in ids(found)], abs=1e-5
    )
    # Ranks that were scaled are rounded, so that some may be equal here and not there.
    assert ids(found) == sorted(means, key=lambda identity: (round(float(means[identity]), 5), identity))
    for row in found["rows"]:
        mean = f"{row['score']:,.8g}"
        assert row["reason"].startswith(f"Rank {mean} on average over {len(names)} runs: the model ")
        assert row["strategy"] == strategy


def test_the_order_of_the_runs_does_not_matter_and_the_run_itself_may_be_named(runs: TempRuns) -> None:
    first = mined(runs, strategy="logit_margin", runs=["b", "c"])
    again = mined(runs, strategy="logit_margin", runs=["c", "a", "b"])
    assert [(row["id"], row["score"]) for row in again["rows"]] == [(row["id"], row["score"]) for row in first["rows"]]
    alone = mined(runs, strategy="logit_margin", runs=["a"])
    assert alone["rows"] == mined(runs, strategy="logit_margin")["rows"]


def test_a_mix_averages_the_ranks_of_each_strategy(runs: TempRuns) -> None:
    found = mined(runs, strategy="mix", mix={"top_loss": 1, "ambiguous": 1}, runs=["b"], budget=6)
    for strategy in ("top_loss", "ambiguous"):
        single = ids(mined(runs, strategy=strategy, runs=["b"]))
        ours = [row["id"] for row in found["rows"] if row["strategy"] == strategy]
        assert set(ours) <= set(single[:6])
        assert ours == [identity for identity in single if identity in ours]


def test_conditions_hold_for_the_rows_of_the_run_and_leave_the_ranks(runs: TempRuns) -> None:
    every = mined(runs, strategy="top_loss", runs=["b"])
    some = mined(runs, strategy="top_loss", runs=["b"], only={"correct": False}, budget=5)
    expected = [row for row in every["rows"] if row["prediction"] != row["target"]][:5]
    assert [(row["id"], row["score"]) for row in some["rows"]] == [(row["id"], row["score"]) for row in expected]


def test_recommended_takes_what_all_runs_have(runs: TempRuns) -> None:
    assert mined(runs, runs=["b", "c"])["chosen"]["strategy"] == "mix"
    chosen = mined(runs, runs=["bare"])["chosen"]
    assert chosen["strategy"] == "logit_margin"
    assert chosen["why"].endswith("Epoch 0 of run bare stores no logits, which adjusted_margin needs.")


@pytest.mark.parametrize(
    ("members", "error", "message"),
    [
        ({"runs": ["nobody"]}, UnknownRunError, "nobody"),
        ({"runs": ["b", "two"]}, InvalidRequestError, "run two has 2 classes, run a 4"),
        ({"runs": ["bare"], "strategy": "adjusted_margin"}, InvalidRequestError, "not stored in run bare"),
    ],
)
def test_runs_that_do_not_fit_are_refused(
    runs: TempRuns, members: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        mined(runs, **members)


@pytest.mark.parametrize("names", [[], ["b", "b"], [f"r{number}" for number in range(MAX_RUNS + 1)], ["../x"]])
def test_names_are_few_and_different(names: list[str]) -> None:
    with pytest.raises(InvalidRequestError, match="runs"):
        QueueRequest.parse({"runs": names})


def test_of_structured_runs_whole_examples_are_ranked(client: httpx.Client) -> None:
    for seed in range(2):
        Data.of("tokens", 12, seed).put(client, f"tokens-{seed}")
    refused = client.post("/runs/tokens-0/queues", json={"strategy": "top_loss", "runs": ["tokens-1"]})
    assert refused.status_code == 422
    assert re.search("rows of top_loss are units", refused.json()["detail"])
    body = {"strategy": "label_quality", "runs": ["tokens-1"]}
    rows = client.post("/runs/tokens-0/queues", json=body).json()["rows"]
    single = [
        [row["id"] for row in client.post(f"/runs/tokens-{seed}/queues", json=body | {"runs": None}).json()["rows"]]
        for seed in range(2)
    ]
    means = {identity: float(np.mean([order.index(identity) + 1 for order in single])) for identity in single[0]}
    assert [(row["id"], row["score"]) for row in rows] == sorted(means.items(), key=lambda item: (item[1], item[0]))
    assert rows[0]["reason"].startswith("Rank ")
    other = client.put("/runs/classes", json={})
    other.raise_for_status()
    assert "has the task classification" in client.post("/runs/tokens-0/queues", json={"runs": ["classes"]}).text
