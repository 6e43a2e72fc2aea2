"""Leases of the rows of a queue: several reviewers, and two stores on one folder as two processes have them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import QueueFullError
from service.mining import leases
from service.mining.leases import LeasedRows, give_back, lease_rows
from service.mining.queue_table import QueueTable
from service.mining.queues import create_queue, delete_queue, queue, rename_queue
from service.mining.requests import QueueRequest
from service.mining.reviews import add_reviews
from service.runs.lease_files import Lease
from service.runs.manifest import RunDescription
from service.runs.store import RunStore
from service.schema.people import ANYONE
from service.storage.files import open_files
from tests.runs.temp_runs import TempRuns, noisy, temp_runs

ROWS, REVIEWERS = 6, (None, "kim", "lee", "mia")
LEASE_S = 600.0


@pytest.fixture(scope="module")
def module_runs() -> Iterator[TempRuns]:
    with temp_runs() as temp:
        yield temp


class Clock:
    """The time of `service.mining.leases`."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(leases, "time", clock)
    return clock


def new_queue(runs: TempRuns, overlap: int = 1, rows: int = ROWS) -> QueueTable:
    """A queue of a new run."""
    if "r" in runs.store.names():
        runs.store.delete("r")
    runs.create()
    runs.put(*noisy(rows, 3, 1))
    request = QueueRequest.parse({"strategy": "top_loss", "budget": rows, "name": "q", "overlap": overlap})
    return runs.ask(lambda view: create_queue(runs.store, view, request, view.weighting(), [])[0])


def leased(store: RunStore, reviewer: str | None, number: int = 2, name: str = "q") -> LeasedRows:
    snapshot = store.snapshot("r")
    return lease_rows(store, snapshot, queue(store, snapshot, name), reviewer, number, LEASE_S)


def rows_held(store: RunStore, now: float) -> defaultdict[str | None, list[int]]:
    """The rows that each reviewer has leased, by the file."""
    snapshot, found = store.snapshot("r"), list[Lease]()

    def look(current: list[Lease]) -> list[Lease]:
        found.extend(current)
        return current

    store.leases.change(snapshot, queue(store, snapshot, "q").identity, look)
    return defaultdict(list, {lease["reviewer"]: lease["rows"] for lease in found if lease["until"] > now})


def judge(runs: TempRuns, reviewer: str | None, identity: str, verdict: str | None = "ok", **members: Any) -> None:
    review = {"id": identity, "verdict": verdict, "reviewer": reviewer, **members}
    runs.ask(lambda view: add_reviews(runs.store, view, [review], ANYONE))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["next", "next", "judge", "judge", "withdraw", "give back", "expire"]),
        st.sampled_from(REVIEWERS),
        st.integers(0, 1),
        st.integers(1, 3),
    ),
    min_size=10,
    max_size=60,
)


@pytest.mark.slow
@given(STEPS, st.integers(1, 3))
@settings(deadline=None)
def test_no_row_has_more_reviewers_than_the_overlap_and_all_get_done(
    module_runs: TempRuns, steps: list[tuple[str, str | None, int, int]], overlap: int
) -> None:
    clock, runs = Clock(), module_runs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leases, "time", clock)
        ids = new_queue(runs, overlap).ids
        stores = (runs.store, RunStore(open_files(runs.store.files.url("")), 10**7))
        judges: defaultdict[int, set[str | None]] = defaultdict(set)

        def held(reviewer: str | None) -> list[int]:
            return [row for row in rows_held(runs.store, clock.now)[reviewer] if reviewer not in judges[row]]

        def take(reviewer: str | None, number: int, store: RunStore) -> list[int]:
            before, rows = held(reviewer), leased(store, reviewer, number).rows
            # A reload shows the same rows.
            assert rows[: len(before)] == before[:number]
            assert not any(reviewer in judges[row] for row in rows)
            holders = {who: held(who) for who in REVIEWERS}
            for row in range(ROWS):
                assert len(judges[row] | {who for who, rows in holders.items() if row in rows}) <= overlap
            return rows

        for step, reviewer, process, number in steps:
            if step == "next":
                take(reviewer, number, stores[process])
            elif step == "judge":
                for row in held(reviewer)[:number]:
                    judge(runs, reviewer, ids[row])
                    judges[row].add(reviewer)
            elif step == "withdraw":
                for row in [row for row in range(ROWS) if reviewer in judges[row]][:number]:
                    judge(runs, reviewer, ids[row], None)
                    judges[row].discard(reviewer)
            elif step == "give back":
                snapshot = runs.store.snapshot("r")
                give_back(stores[process], snapshot, queue(runs.store, snapshot, "q"), reviewer)
                assert held(reviewer) == []
            elif step == "expire":
                clock.now += LEASE_S + 1
        clock.now += LEASE_S + 1
        for _ in range(ROWS):
            for reviewer in REVIEWERS:
                for row in take(reviewer, 3, stores[0]):
                    judge(runs, reviewer, ids[row])
                    judges[row].add(reviewer)
        assert all(len(judges[row]) == overlap for row in range(ROWS))
        assert all(leased(stores[1], reviewer).num_left == 0 for reviewer in REVIEWERS)


def test_the_same_rows_are_never_leased_twice_by_threads_of_two_stores(module_runs: TempRuns) -> None:
    new_queue(module_runs, rows=40)
    stores = [module_runs.store, RunStore(open_files(module_runs.store.files.url("")), 10**7)]
    with ThreadPoolExecutor(8) as threads:
        names = [f"reviewer {number}" for number in range(20)]
        found = list(threads.map(lambda name: leased(stores[int(name[9:]) % 2], name).rows, names))
    assert sorted(row for rows in found for row in rows) == list(range(40))


def test_leases_expire_and_follow_their_queue(module_runs: TempRuns, clock: Clock) -> None:
    runs = module_runs
    new_queue(runs)
    assert leased(runs.store, "kim", 4).rows == [0, 1, 2, 3]
    assert leased(runs.store, "lee", 4) == LeasedRows([4, 5], clock.now + LEASE_S, 0, ROWS)
    clock.now += LEASE_S - 1
    assert leased(runs.store, "kim", 2).rows == [0, 1]  # renews all four
    clock.now += 2
    assert leased(runs.store, "mia", 4).rows == [4, 5]
    rename_queue(runs.store, runs.store.snapshot("r"), "q", "renamed")
    assert leased(runs.store, "kim", 4, "renamed").rows == [0, 1, 2, 3]
    assert runs.store.files.folders(f"{runs.store.snapshot('r').root}/leases") != []
    delete_queue(runs.store, runs.store.snapshot("r"), "renamed")
    assert runs.store.files.folders(f"{runs.store.snapshot('r').root}/leases") == []


def test_an_adjudicated_row_needs_no_further_reviewer(module_runs: TempRuns) -> None:
    ids = new_queue(module_runs, overlap=2).ids
    judge(module_runs, "kim", ids[0], adjudicate=True)
    assert leased(module_runs.store, "lee", 2).rows == [1, 2]


def test_a_damaged_file_counts_as_one_without_leases(module_runs: TempRuns) -> None:
    identity = new_queue(module_runs).identity
    folder = f"{module_runs.store.snapshot('r').root}/leases/{identity}"
    assert leased(module_runs.store, "kim").rows == [0, 1]
    for stamp, content in enumerate((b"[", b"[1]"), start=9 * 10**18):
        path = f"{folder}/{2 * stamp:020d}.json"
        module_runs.store.files.create(path, lambda file, text=content: file.write(text))
        assert leased(module_runs.store, "lee").rows == [0, 1]
        assert module_runs.store.files.names(folder) == [f"{2 * stamp + 1:020d}.json"]


def test_a_few_hundred_reviewers_can_hold_rows(module_runs: TempRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    new_queue(module_runs)
    monkeypatch.setattr(leases, "MAX_HOLDERS", 2)
    for name in ("kim", "lee", "kim"):
        assert leased(module_runs.store, name, 1).rows
    with pytest.raises(QueueFullError):
        leased(module_runs.store, "mia")


def test_leases_in_an_object_store() -> None:
    store = RunStore(open_files("memory://leases"), 10**7)
    snapshot, _ = store.create("r", RunDescription.parse({"config": {}}))
    found: list[Lease] = []
    lease: Lease = {"reviewer": "kim", "until": 1.5, "rows": [0, 2]}
    store.leases.change(snapshot, "queue", lambda leases: [*leases, lease])
    store.leases.change(snapshot, "queue", lambda leases: found.extend(leases) or [])
    assert found == [lease]
    store.leases.delete(snapshot, "queue")
    store.delete("r")
