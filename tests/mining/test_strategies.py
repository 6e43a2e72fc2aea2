"""Each strategy, compared with sorting the stored rows in Python; confident learning, compared with cleanlab."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from cleanlab.filter import find_label_issues
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from service.errors import InvalidRequestError
from service.mining.queues import create_queue
from service.mining.requests import QueueRequest
from service.queries.weighting import Weighting
from tests.lanes import mostly_slow
from tests.mining.queue_dicts import whole
from tests.runs.temp_runs import Rows, TempRuns, noisy, scored, temp_runs
from tests.strategies import at_most

OWN = Weighting((1.0, 0.25, 2.0), 2.0)
EVERYTHING = 10_000


@pytest.fixture(scope="module")
def runs() -> Iterator[TempRuns]:
    """Three epochs of 300 rows; the last one has thirty ids twice."""
    with temp_runs() as temp:
        temp.create({"alpha": list(OWN.alpha or ())})
        for epoch in range(3):
            logits, targets = noisy(300, 3, epoch)
            # The labels are the same in every epoch.
            targets = noisy(300, 3, 0)[1]
            ids = [f"e{row}" for row in range(300)]
            temp.put(logits, targets, ids, epoch=epoch)
            if epoch == 2:
                temp.put(noisy(30, 3, 9)[0], targets[:30], ids[:30], epoch=epoch, batch="again")
        yield temp


def mined(runs: TempRuns, strategy: str, run: str = "r", **request: Any) -> dict[str, Any]:
    queue_request = QueueRequest.parse({"strategy": strategy, "budget": EVERYTHING} | request)
    return whole(runs.ask(lambda view: create_queue(runs.store, view, queue_request, view.weighting(), [])[0], run))


def ranked(rows: Rows, key: Callable[[dict[str, Any]], Any]) -> list[tuple[str, str, int]]:
    """Smallest key first, then by id, batch and row; each id once."""
    seen: dict[str, tuple[str, str, int]] = {}
    for row in sorted(rows, key=lambda row: (key(row), row["id"], row["batch"], row["row"])):
        seen.setdefault(row["id"], (row["id"], row["batch"], row["row"]))
    return list(seen.values())


def places(queue: dict[str, Any]) -> list[tuple[str, str, int]]:
    return [(row["id"], row["batch"], row["row"]) for row in queue["rows"]]


KEYS: dict[str, tuple[str, int]] = {
    "top_loss": ("log_loss", -1),
    "logit_margin": ("logit_margin", 1),
    "self_confidence": ("log_odds", 1),
    "normalized_margin": ("normalized_margin", 1),
    "ambiguous": ("entropy", -1),
}
SCORES = {"top_loss": "loss", "self_confidence": "p_t", "ambiguous": "entropy"}


@pytest.mark.parametrize("strategy", KEYS)
@pytest.mark.parametrize("epoch", mostly_slow([None, 1], quick=1))
def test_a_ranking_is_sorted_by_its_score(runs: TempRuns, strategy: str, epoch: int | None) -> None:
    column, sign = KEYS[strategy]
    rows = scored(runs.counted(epoch=2 if epoch is None else epoch), OWN.alpha, OWN.gamma)
    result = mined(runs, strategy, epoch=epoch)
    assert places(result) == ranked(rows, lambda row: sign * row[column])
    assert result["epoch"] == (2 if epoch is None else epoch)
    by_place = {(row["id"], row["batch"], row["row"]): row for row in rows}
    for row, place in zip(result["rows"], places(result), strict=True):
        assert row["score"] == pytest.approx(by_place[place][SCORES.get(strategy, strategy)], rel=1e-12)
        assert row["strategy"] == strategy


@pytest.mark.parametrize("margin", [0.25, 1.0, 3.0])
def test_semi_hard_rows_are_correct_by_a_small_margin(runs: TempRuns, margin: float) -> None:
    rows = [row for row in scored(runs.counted(epoch=2)) if 0 < row["logit_margin"] <= margin]
    result = mined(runs, "semi_hard", margin=margin)
    assert places(result) == ranked(rows, lambda row: row["logit_margin"])
    assert {row["logit_margin"] for row in result["rows"]} >= {margin}
    assert all(row["prediction"] == row["target"] and row["suggested"] is None for row in result["rows"])


@pytest.mark.parametrize("first", mostly_slow([None, 1, 2, 9], quick=2))
def test_area_under_the_margin_ranks_by_the_mean_over_epochs(runs: TempRuns, first: int | None) -> None:
    margins: defaultdict[str, list[float]] = defaultdict(list)
    for row in runs.counted():
        if first is None or row["epoch"] < first:
            margins[row["id"]].append(row["logit_margin"])
    # Margins are multiples of 1/4: sums of them are exact.
    means = {identity: sum(values) / len(values) for identity, values in margins.items()}
    result = mined(runs, "area_under_margin", first=first)
    assert places(result) == ranked(runs.counted(epoch=2), lambda row: round(means[row["id"]], 8))
    assert [row["score"] for row in result["rows"]] == pytest.approx(
        [means[row["id"]] for row in result["rows"]], abs=1e-8
    )


@pytest.mark.parametrize("share", mostly_slow([0.01, 0.3, 0.5, 0.9, 1.0], quick=2))
def test_top_share_is_the_smallest_set_with_the_share(runs: TempRuns, share: float) -> None:
    rows = sorted(scored(runs.counted(epoch=1), OWN.alpha, OWN.gamma), key=lambda row: (-row["log_loss"], row["id"]))
    losses = [row["loss"] for row in rows]
    result = mined(runs, "top_share", share=share, epoch=1)
    number = len(result["rows"])
    assert [row["id"] for row in result["rows"]] == [row["id"] for row in rows[:number]]
    total = math.fsum(losses)
    assert math.fsum(losses[:number]) >= share * total * (1 - 1e-12)
    assert math.fsum(losses[: number - 1]) < share * total * (1 + 1e-12)


def test_top_share_by_hand() -> None:
    with temp_runs() as runs:
        runs.create({"alpha": [1, 2, 4], "gamma": 0})
        # Three equal rows of each class: losses are 1, 2 and 4 times log 3.
        runs.put(np.zeros((9, 3)), [0, 1, 2] * 3)
        for share, number in [(1e-9, 1), (4 / 21 - 0.01, 1), (0.25, 2), (0.6, 4), (0.99, 9), (1, 9)]:
            assert len(mined(runs, "top_share", share=share)["rows"]) == number, share
        runs.create(run="even")
        runs.put(np.zeros((4, 2)), [0] * 4, run="even")
        # The share is reached exactly, without a further row.
        assert [len(mined(runs, "top_share", "even", share=k / 4)["rows"]) for k in (1, 2, 3, 4)] == [1, 2, 3, 4]


@pytest.mark.parametrize("seed", mostly_slow([0, 1, 2**62], quick=1))
def test_random_sorts_by_a_digest_of_seed_and_id(runs: TempRuns, seed: int) -> None:
    result = mined(runs, "random", seed=seed)
    assert places(result) == ranked(
        runs.counted(epoch=2), lambda row: hashlib.md5(f"{seed}:{row['id']}".encode()).hexdigest()
    )
    few = mined(runs, "random", seed=seed, budget=20)
    assert places(few) == places(result)[:20]


@pytest.mark.slow
def test_random_is_uniform() -> None:
    """Drawing 10 of 50 examples with each of 120 seeds draws all examples equally often."""
    with temp_runs() as runs:
        runs.create()
        runs.put(np.zeros((50, 2)), [0] * 50)
        drawn: Counter[str] = Counter()
        for seed in range(120):
            digests = runs.ask(lambda view, s=seed: view.rows(_draw(view, s)))
            drawn.update(row["id"] for row in digests)
    assert sum(drawn.values()) == 1200
    # Drawing without replacement varies less than independent draws, so both bounds are on the safe side.
    assert 0.001 < chisquare([drawn[f"e{row:04d}"] for row in range(50)]).pvalue < 0.99999


def _draw(view: Any, seed: int) -> str:
    from service.mining.strategies import ranking

    request = QueueRequest.parse({"strategy": "random", "seed": seed})
    return ranking("random", view, Weighting(None, 2.0), 0, request).sql("true", 10)


@pytest.mark.parametrize(("classes", "seed"), mostly_slow([(2, 1), (3, 2), (7, 3), (20, 4)], quick=2))
def test_suspected_errors_equal_cleanlabs(classes: int, seed: int) -> None:
    logits, targets = noisy(500, classes, seed, spread=1.5)
    with temp_runs() as runs:
        runs.create()
        for start in range(0, 500, 200):
            part = slice(start, start + 200)
            runs.put(logits[part], targets[part], [f"e{row}" for row in range(500)][part], batch=f"b{start}")
            # The result is cached until the epoch has other rows.
            result = mined(runs, "suspected_errors")
        assert places(mined(runs, "suspected_errors", name="again")) == places(result)
    x = logits.astype(np.float64)
    p = np.exp(x - x.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    expected = np.flatnonzero(find_label_issues(targets, p, filter_by="confident_learning", n_jobs=1))
    assert len(expected) > 10
    assert {row["id"] for row in result["rows"]} == {f"e{row}" for row in expected}
    assert [row["log_odds"] for row in result["rows"]] == sorted(row["log_odds"] for row in result["rows"])
    for row in result["rows"]:
        index = int(row["id"][1:])
        assert row["suggested"] != row["target"]
        assert row["suggested_p"] == pytest.approx(p[index, row["suggested"]], rel=1e-12)


def test_the_suggested_class_and_its_probability(runs: TempRuns) -> None:
    logits = {(row["batch"], row["row"]): row["logits"] for row in runs.counted(epoch=2)}
    for row in mined(runs, "top_loss")["rows"]:
        x = np.array(logits[row["batch"], row["row"]], dtype=np.float64)
        p = np.exp(x - x.max()) / np.exp(x - x.max()).sum()
        if x.argmax() == row["target"]:
            assert (row["suggested"], row["suggested_p"]) == (None, None)
        else:
            assert row["suggested"] == x.argmax()
            assert row["suggested_p"] == pytest.approx(p.max(), abs=1e-6)


@pytest.mark.parametrize("first", [None, 2])
def test_area_under_margin_suggests_the_class_that_most_epochs_predicted(runs: TempRuns, first: int | None) -> None:
    epochs: defaultdict[str, set[int]] = defaultdict(set)
    called: defaultdict[str, defaultdict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    for row in runs.counted():
        if first is None or row["epoch"] < first:
            epochs[row["id"]].add(row["epoch"])
            if row["prediction"] != row["target"]:
                called[row["id"]][row["prediction"]].add(row["epoch"])
    for row in mined(runs, "area_under_margin", first=first)["rows"]:
        others = called[row["id"]]
        most = min(others, key=lambda label: (-len(others[label]), label)) if others else None
        assert (row["suggested"], row["num_epochs"]) == (most, len(epochs[row["id"]]))
        assert row["suggested_epochs"] == (0 if most is None else len(others[most]))
        now = None if row["prediction"] == row["target"] else row["prediction"]
        assert (row["suggested_p"] is None) is (most is None or most != now)


def test_a_run_without_logits_has_no_suspected_errors() -> None:
    with temp_runs() as runs:
        runs.create(store_logits=False)
        runs.put([[0.0, 1.0]], [1])
        with pytest.raises(InvalidRequestError, match="logits of this epoch are not stored"):
            mined(runs, "suspected_errors")
        assert len(mined(runs, "top_loss")["rows"]) == 1


@pytest.mark.slow
@at_most(8, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-40, 40), st.integers(0, 1)), min_size=1, max_size=30),
    st.sampled_from([0, 0.5, 2, 5]),
)
def test_for_two_classes_all_strategies_have_one_order(pairs: list[tuple[int, int]], gamma: float) -> None:
    with temp_runs() as runs:
        runs.create({"gamma": gamma})
        runs.put([[0.0, x / 8] for x, _ in pairs], [y for _, y in pairs])
        orders = [places(mined(runs, strategy)) for strategy in [*KEYS, "area_under_margin"] if strategy != "ambiguous"]
        z = {row["id"]: row["log_odds"] for row in runs.counted()}
        by_el2n = ranked(runs.counted(), lambda row: -row["el2n"])
    assert orders == [orders[0]] * 5
    assert orders[0] == sorted(orders[0], key=lambda place: (z[place[0]], place[0])) == by_el2n


@pytest.mark.parametrize("gamma", mostly_slow([2.0, 0.0, 0.5, 5.0], quick=1))
def test_without_class_weights_the_loss_ranks_as_self_confidence(gamma: float) -> None:
    with temp_runs() as runs:
        runs.create({"gamma": gamma})
        logits, targets = noisy(200, 5, 7)
        # Logits so large that the loss underflows to zero.
        logits[:20, 0] += np.arange(20, dtype=np.float32) * 80
        targets[:20] = 0
        runs.put(logits, targets)
        assert places(mined(runs, "top_loss")) == places(mined(runs, "self_confidence"))
