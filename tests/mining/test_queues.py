"""Queues: names, requests, quotas, caps and controls, independent of the run's files."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import orjson
import pytest

from service.errors import (
    InvalidNameError,
    InvalidRequestError,
    QueueConflictError,
    UnknownEpochError,
    UnknownQueueError,
)
from service.mining import queue_file
from service.mining.progress import progress
from service.mining.queues import create_queue, outlines, queue
from service.mining.requests import QueueRequest
from service.queries.view import View
from service.runs.units import UnitKey
from tests.lanes import mostly_slow
from tests.mining.queue_dicts import whole
from tests.runs.histories import history_of
from tests.runs.temp_runs import TempRuns, noisy, temp_runs

NAMES = ["cat", "dog", "emu"]


@pytest.fixture(scope="module")
def unchanged() -> Iterator[TempRuns]:
    """The same rows as `runs`, for tests that store nothing."""
    with temp_runs() as temp:
        yield _filled(temp)


@pytest.fixture
def runs() -> Iterator[TempRuns]:
    with temp_runs() as temp:
        yield _filled(temp)


def _filled(temp: TempRuns) -> TempRuns:
    """100 rows of class 0, 20 of class 1 and 3 of class 2, in groups of ten."""
    temp.create(class_names=NAMES)
    logits, _ = noisy(123, 3, 5)
    groups = [f"g{row // 10}" for row in range(123)]
    temp.put(logits, [0] * 100 + [1] * 20 + [2] * 3, attributes={"group": groups})
    return temp


def create(
    runs: TempRuns,
    request: dict[str, Any],
    reviewed: Sequence[str] = (),
    run: str = "r",
    gamma: float | None = None,
) -> tuple[dict[str, Any], bool]:
    queue_request = QueueRequest.parse({"strategy": "top_loss"} | request)
    new_queue, new = runs.ask(
        lambda view: create_queue(
            runs.store, view, queue_request, view.weighting(None, gamma), [UnitKey(identity) for identity in reviewed]
        ),
        run,
    )
    return whole(new_queue), new


def classes(new_queue: dict[str, Any]) -> dict[int, int]:
    return dict(Counter(row["target"] for row in new_queue["rows"]))


def ids(new_queue: dict[str, Any]) -> list[str]:
    return [row["id"] for row in new_queue["rows"]]


def test_a_queue_is_stored_with_ranks_shares_and_reasons(runs: TempRuns) -> None:
    new_queue, new = create(runs, {"budget": 7})
    assert new
    assert new_queue["name"] == "top_loss-1"
    assert (new_queue["run"], new_queue["strategy"], new_queue["epoch"], new_queue["num_examples"]) == (
        "r",
        "top_loss",
        0,
        123,
    )
    stored = whole(queue(runs.store, runs.store.snapshot("r"), "top_loss-1"))
    assert orjson.dumps(stored) == orjson.dumps(new_queue)
    assert [row["rank"] for row in new_queue["rows"]] == list(range(1, 8))
    losses = runs.ask(lambda view: view.row(f"SELECT fsum(loss) AS l FROM {view.scored(view.weighting())}"))["l"]
    for row in new_queue["rows"]:
        assert row["share"] == pytest.approx(row["loss"] / losses, rel=1e-12)
        assert row["reason"].startswith(f"Loss {row['loss']:.4g}, ")
        assert NAMES[row["target"]] in row["reason"]
        assert not {"attributes", "place"} & set(row)


def test_the_same_request_for_a_name_changes_nothing_and_another_one_is_a_conflict(runs: TempRuns) -> None:
    new_queue, new = create(runs, {"name": "mine", "budget": 5})
    again, newer = create(runs, {"name": "mine", "budget": 5, "seed": 0}, reviewed=ids(new_queue))
    assert (new, newer) == (True, False)
    assert again == new_queue
    runs.put(noisy(50, 3, 6)[0], [0] * 50, [f"n{row}" for row in range(50)], epoch=1)
    assert create(runs, {"name": "mine", "budget": 5})[0] == new_queue
    for other, message in (
        ({"budget": 6}, "budget"),
        ({"strategy": "random", "budget": 5}, "strategy"),
        ({"budget": 5, "seed": 1}, "seed"),
        ({"budget": 5, "per_class": {"0": 1}}, "per_class"),
        ({"budget": 5, "epoch": 0}, "epoch"),
    ):
        with pytest.raises(QueueConflictError, match=message):
            create(runs, {"name": "mine"} | other)
    with pytest.raises(QueueConflictError, match="gamma"):
        create(runs, {"name": "mine", "budget": 5}, gamma=0.5)
    assert [outline.head["name"] for outline in outlines(runs.store, runs.store.snapshot("r"))] == ["mine"]


def test_queues_without_a_name_are_numbered_and_invalid_names_are_errors(runs: TempRuns) -> None:
    create(runs, {"name": "top_loss-2", "budget": 1})
    assert [create(runs, {"budget": 1})[0]["name"] for _ in range(3)] == ["top_loss-1", "top_loss-3", "top_loss-4"]
    assert create(runs, {"strategy": "mix", "mix": {"random": 1}, "budget": 1})[0]["name"] == "mix-1"
    for name in ("", "../x", ".x", "a/b", "ü", "x" * 101):
        with pytest.raises(InvalidNameError):
            create(runs, {"name": name})
        with pytest.raises(InvalidNameError):
            queue(runs.store, runs.store.snapshot("r"), name)
    with pytest.raises(UnknownQueueError):
        queue(runs.store, runs.store.snapshot("r"), "other")
    with pytest.raises(UnknownEpochError):
        create(runs, {"epoch": 4})


def test_reviewed_examples_are_left_out_unless_the_queue_is_a_control(runs: TempRuns) -> None:
    first = ids(create(runs, {"budget": 10})[0])
    after = create(runs, {"budget": 10}, reviewed=first)[0]
    assert ids(after) == ids(create(runs, {"budget": 20})[0])[10:]
    assert ids(create(runs, {"budget": 10, "exclude_reviewed": False}, reviewed=first)[0]) == first
    drawn = ids(create(runs, {"strategy": "random", "budget": 10})[0])
    assert ids(create(runs, {"strategy": "random", "budget": 10}, reviewed=drawn)[0]) == drawn
    other = create(runs, {"strategy": "random", "budget": 10, "exclude_reviewed": True}, reviewed=drawn)[0]
    assert not set(ids(other)) & set(drawn)


def test_quotas_of_classes(runs: TempRuns) -> None:
    assert classes(create(runs, {"budget": 9, "per_class": "equal"})[0]) == {0: 3, 1: 3, 2: 3}
    # Class 2 has three rows for its ten places; the hardest rows of any class get the other seven.
    refilled = create(runs, {"budget": 30, "per_class": "equal"})[0]
    assert classes(refilled)[2] == 3
    assert min(classes(refilled)[label] for label in (0, 1)) >= 10
    assert len(refilled["rows"]) == 30
    # 123 rows: 16.26, 3.25 and 0.49 places of 20.
    assert classes(create(runs, {"budget": 20, "per_class": "proportional"})[0]) == {0: 16, 1: 3, 2: 1}
    assert classes(create(runs, {"budget": 20, "per_class": {"1": 4, "2": 9}})[0]) == {1: 4, 2: 3}
    least = classes(create(runs, {"budget": 20, "min_per_class": 2})[0])
    assert min(least.values()) >= 2
    assert create(runs, {"budget": 20, "per_class": {}})[0]["rows"] == []
    losses = [row["loss"] for row in refilled["rows"]]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize(
    "request_",
    [
        {"budget": 5, "min_per_class": 2},
        {"budget": 5, "per_class": {"3": 1}},
        {"budget": 5, "per_class": {"999999999": 1}},
        {"budget": 5, "per_class": {"9" * 5000: 1}},
        {"budget": 5, "per_class": {"0": 3, "00": 1}},
        {"budget": 5, "per_class": {"0": 3, "1": 3}},
        {"budget": 5, "per_class": {"-1": 1}},
        {"budget": 5, "per_class": {"²": 1}},
        {"budget": 5, "per_class": {"0": 1}, "min_per_class": 1},
        {"budget": 5, "per_class": "fair"},
        {"budget": 0},
        {"budget": 100_001},
        {"budget": True},
        {"budget": 5, "margin": 0},
        {"budget": 5, "share": 1.5},
        {"budget": 5, "share": math.nan},
        {"budget": 5, "seed": 2**63},
        {"budget": 5, "mix": {"random": 1.0}},
        {"budget": 5, "at_most": {"attribute": "x" * 1001, "count": 1}},
        {"budget": 5, "only": {"attributes": {"x" * 1001: "a"}}},
        {"strategy": "mix"},
        {"strategy": "mix", "mix": {}},
        {"strategy": "mix", "mix": {"mix": 1.0}},
        {"strategy": "mix", "mix": {"random": math.inf}},
        {"strategy": "best"},
        {"at_most": {"attribute": "group", "count": 0}},
        {"queue": "x"},
    ],
)
def test_invalid_requests_are_errors(unchanged: TempRuns, request_: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        create(unchanged, request_)
    assert caught.value.errors
    assert outlines(unchanged.store, unchanged.store.snapshot("r")) == []


def test_the_rows_with_one_value_of_an_attribute_are_capped(runs: TempRuns) -> None:
    new_queue = create(runs, {"budget": 20, "at_most": {"attribute": "group", "count": 2}})[0]
    groups = Counter(int(identity[1:]) // 10 for identity in ids(new_queue))
    assert len(new_queue["rows"]) == 20
    assert max(groups.values()) == 2
    free = create(runs, {"budget": 20, "at_most": {"attribute": "nobody", "count": 1}})[0]
    assert ids(free) == ids(create(runs, {"budget": 20})[0])
    runs.create(run="lists")
    runs.put(np.zeros((4, 2)), [0] * 4, run="lists", attributes={"tags": [["a"], ["a"], {"b": 1}, None]})
    new_queue = create(runs, {"at_most": {"attribute": "tags", "count": 1}}, run="lists")[0]
    assert ids(new_queue) == ["e0000", "e0002", "e0003"]


def test_an_example_with_two_rows_is_in_a_queue_once_by_its_last_row() -> None:
    with temp_runs() as runs:
        runs.create()
        runs.put([[0.0, 3], [0.0, 1]], [1, 1], ["a", "b"], batch="1")
        runs.put([[0.0, -3]], [1], ["a"], batch="2")
        new_queue = create(runs, {})[0]
        assert [(row["id"], row["batch"]) for row in new_queue["rows"]] == [("a", "2"), ("b", "1")]
        assert new_queue["num_examples"] == 2


def test_a_mix_names_the_strategy_of_each_row_and_warns_of_ambiguous(runs: TempRuns) -> None:
    new_queue = create(runs, {"strategy": "mix", "mix": {"logit_margin": 0.75, "ambiguous": 0.25}, "budget": 40})[0]
    assert len(set(ids(new_queue))) == 40
    assert 5 <= Counter(row["strategy"] for row in new_queue["rows"])["ambiguous"] <= 15
    assert len(new_queue["warnings"]) == 1
    assert create(runs, {"budget": 3})[0]["warnings"] == []


def test_only_random_rows_of_all_examples_are_a_control(runs: TempRuns) -> None:
    alone = create(runs, {"strategy": "random", "budget": 10, "seed": 3})[0]
    assert alone["is_control"]
    assert [row["control"] for row in alone["rows"]] == [True] * 10
    for request in (
        {"strategy": "top_loss"},
        {"strategy": "random", "per_class": "equal"},
        {"strategy": "random", "min_per_class": 1},
        {"strategy": "random", "at_most": {"attribute": "group", "count": 1}},
    ):
        new_queue = create(runs, request)[0]
        assert not new_queue["is_control"]
        assert not any(row["control"] for row in new_queue["rows"])
    reviewed = create(runs, {"strategy": "random", "exclude_reviewed": True}, reviewed=["e0001"])[0]
    assert not reviewed["is_control"]


def test_the_control_of_a_mix_includes_random_rows_that_another_strategy_took_first(runs: TempRuns) -> None:
    """Otherwise the control would lack the hardest examples, and the error rate would be too low."""
    everything = ids(
        create(runs, {"strategy": "random", "budget": 123, "seed": 3, "exclude_reviewed": True}, reviewed=["-"])[0]
    )
    new_queue = create(runs, {"strategy": "mix", "mix": {"top_loss": 1, "random": 1}, "budget": 60, "seed": 3})[0]
    control = {row["id"] for row in new_queue["rows"] if row["control"]}
    assert new_queue["is_control"]
    assert control == set(everything[: len(control)])
    assert {row["strategy"] for row in new_queue["rows"] if row["control"]} == {"random", "top_loss"}
    last = history_of(*({"id": identity, "verdict": "wrong"} for identity in ids(new_queue)))
    result = progress(runs.store, runs.store.snapshot("r"), last)
    assert result["error_rate"]["reviewed"] == len(control)


REQUESTS: list[dict[str, Any]] = [
    {"strategy": "suspected_errors"},
    {"strategy": "area_under_margin"},
    {"strategy": "top_share", "share": 0.7},
    {"strategy": "random", "budget": 30, "per_class": "equal"},
    {"strategy": "mix", "mix": {"top_loss": 0.5, "ambiguous": 0.3, "random": 0.2}, "budget": 40, "min_per_class": 3},
    {"strategy": "ambiguous", "budget": 30, "at_most": {"attribute": "group", "count": 2}},
]


@pytest.mark.slow
def test_files_and_number_of_threads_do_not_change_a_queue() -> None:
    logits, targets = noisy(320, 3, 8)
    names, groups = [f"e{row}" for row in range(320)], [f"g{row % 17}" for row in range(320)]
    seen: list[Any] = []
    with temp_runs() as runs:
        for layout, step in enumerate((80, 10)):
            run = f"r{layout}"
            runs.create(run=run)
            starts = range(0, 320, step)
            for start in starts if layout else reversed(starts):
                part = slice(start, start + step)
                runs.put(
                    logits[part],
                    targets[part],
                    names[part],
                    run=run,
                    batch=f"{start}",
                    attributes={"group": groups[part]},
                )
            for threads in (1, 3):

                def threaded(view: View, threads: int = threads) -> None:
                    view.cursor.execute(f"SET threads = {threads}")

                runs.ask(threaded, run)
                seen.append([_summary(create(runs, request, run=run)[0]) for request in REQUESTS])
            assert runs.merge(0, run) == 32 * layout
            seen.append([_summary(create(runs, request, run=run)[0]) for request in REQUESTS])
    assert all(len(rows) > 10 for rows in seen[0])
    assert all(rows == seen[0] for rows in seen)


def _summary(new_queue: dict[str, Any]) -> list[tuple[Any, ...]]:
    names = ("rank", "id", "target", "strategy", "score", "suggested", "suggested_p", "control", "reason")
    return [tuple(row[name] for name in names) for row in new_queue["rows"]]


@pytest.mark.parametrize(
    "shares", mostly_slow([((3, 2, 1),), ((1.0,),), ((0.5, 0.5),), ((0.9, 0.1),), ((0.7, 0.2, 0.1),)], quick=1)
)
def test_every_prefix_of_a_mix_has_each_strategy_by_its_share(runs: TempRuns, shares: tuple[float, ...]) -> None:
    strategies = ("logit_margin", "ambiguous", "random")[: len(shares)]
    parts = [create(runs, {"strategy": strategy, "budget": 123})[0]["rows"] for strategy in strategies]
    total = sum(shares)
    placed = [
        (((place + 0.5) * total / share, number), row["id"])
        for number, (share, rows) in enumerate(zip(shares, parts, strict=True))
        for place, row in enumerate(rows)
    ]
    mix = dict(zip(strategies, shares, strict=True))
    for budget in (1, 2, 40, 123):
        new_queue, _ = create(runs, {"strategy": "mix", "mix": mix, "budget": budget})
        expected = list(dict.fromkeys(identity for _, identity in sorted(placed)))
        assert ids(new_queue) == expected[:budget]


def test_a_queue_is_read_in_parts_and_as_earlier_versions_wrote_it(
    runs: TempRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_file, "ROWS_AT_ONCE", 10)
    request = {"strategy": "mix", "mix": {"area_under_margin": 0.5, "random": 0.5}, "name": "mine", "budget": 33}
    new_queue, _ = create(runs, request)
    content = b"".join(queue_file.queue_content(queue(runs.store, runs.store.snapshot("r"), "mine")))
    assert orjson.loads(content) == new_queue
    assert content.count(b"\n") == 1 + 33
    for text in (content, orjson.dumps(new_queue)):
        assert whole(queue_file.read_queue(io.BytesIO(text))) == new_queue
    for end in (10, 1000, content.rindex(b"\n"), len(content) - 1):
        with pytest.raises(ValueError, match=r"unexpected|ends within|JSON"):
            queue_file.read_queue(io.BytesIO(content[:end]))
