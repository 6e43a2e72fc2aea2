"""Files of reviews: merged like those of batches, read once, in the order of arrival."""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson
import pytest

from service.mining.listing import QueueFilter
from service.mining.queue_pages import queue_page
from service.mining.queues import create_queue, queue
from service.mining.requests import QueueRequest
from service.queries.run_queries import RunQueries
from service.runs.manifest import RunDescription
from service.runs.snapshot import Snapshot
from service.runs.store import RunStore
from service.schema.people import ANYONE
from service.storage import compaction
from service.storage.compaction import MERGED_AT_ONCE, compact
from service.storage.files import open_files
from service.storage.local_files import LocalFiles
from tests.runs.temp_runs import temp_runs
from tests.runs.writer import review_of

GOLDEN = Path(__file__).parents[1] / "golden" / "data_dir_0_1_0"


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(open_files(str(tmp_path)), 1_000_000)


@pytest.fixture
def snapshot(store: RunStore) -> Snapshot:
    return store.create("r", RunDescription())[0]


def add(store: RunStore, snapshot: Snapshot, *numbers: int) -> None:
    """Add each review in a request of its own."""
    for number in numbers:
        store.add_reviews(snapshot, [review_of(number, f"e{number % 5}")])


def numbers_in(store: RunStore, snapshot: Snapshot) -> list[int]:
    """The numbers of all reviews, as another process reads them."""
    reviews = RunStore(store.files, 1).reviews(snapshot).reviews
    assert reviews == store.reviews(snapshot).reviews, "the cache has the same reviews"
    return [int(review["comment"] or "") for review in reviews]


def names(store: RunStore, snapshot: Snapshot) -> list[str]:
    return store.files.names(f"{snapshot.root}/reviews")


def test_many_files_become_one_with_the_same_reviews(store: RunStore, snapshot: Snapshot) -> None:
    add(store, snapshot, *range(MERGED_AT_ONCE))
    store.add_reviews(snapshot, [review_of(100), review_of(101)])
    before = store.reviews(snapshot)
    assert compact(store.review_folder(snapshot)) == MERGED_AT_ONCE + 1
    assert len(names(store, snapshot)) == 1, "the replaced files are deleted"
    assert store.reviews(snapshot) == before
    add(store, snapshot, 102)
    assert numbers_in(store, snapshot) == [*range(MERGED_AT_ONCE), 100, 101, 102]
    assert compact(store.review_folder(snapshot)) == 0


def test_merged_files_are_merged_again(store: RunStore, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "MERGED_AT_ONCE", 3)
    for number in range(30):
        add(store, snapshot, number)
        compact(store.review_folder(snapshot))
    assert sorted(name[:7] for name in names(store, snapshot)) == ["level1-", "level3-"]
    assert numbers_in(store, snapshot) == list(range(30))


def test_reviews_from_a_process_with_a_slow_clock_come_before_merged_ones(
    store: RunStore, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A merged file does not hide a review with an earlier time that appears later."""
    add(store, snapshot, *range(MERGED_AT_ONCE))
    content = orjson.dumps([review_of(500)])
    compact(store.review_folder(snapshot))
    assert store.files.create(f"{snapshot.root}/reviews/{1:020d}-0.json", lambda file: file.write(content))
    assert numbers_in(store, snapshot) == [500, *range(MERGED_AT_ONCE)]
    monkeypatch.setattr(time, "time_ns", lambda: 5)
    add(store, snapshot, 501)
    assert numbers_in(store, snapshot)[-1] == 501, "the clock is set back, and the last review is still the last"


@pytest.mark.parametrize("deleted", [0, 1, MERGED_AT_ONCE // 2])
def test_after_a_crash_during_a_merge_every_review_counts_once(
    store: RunStore, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch, deleted: int
) -> None:
    add(store, snapshot, *range(MERGED_AT_ONCE))
    deletions = itertools.count()
    delete = LocalFiles.delete

    def delete_or_die(files: LocalFiles, path: str) -> None:
        if next(deletions) >= deleted:
            raise KeyboardInterrupt
        delete(files, path)

    with monkeypatch.context() as patch:
        patch.setattr(LocalFiles, "delete", delete_or_die)
        with pytest.raises(KeyboardInterrupt):
            compact(store.review_folder(snapshot))
    assert len(names(store, snapshot)) == MERGED_AT_ONCE + 1 - deleted
    assert numbers_in(store, snapshot) == list(range(MERGED_AT_ONCE))
    compact(store.review_folder(snapshot))
    assert len(names(store, snapshot)) == 1
    assert numbers_in(store, snapshot) == list(range(MERGED_AT_ONCE))


def test_a_crash_while_the_merged_file_is_written_changes_nothing(
    store: RunStore, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, snapshot, *range(MERGED_AT_ONCE))
    folder = store.review_folder(snapshot)

    def die(file: BinaryIO, *_: Any) -> None:
        file.write(b"half of")
        raise KeyboardInterrupt

    monkeypatch.setattr(folder, "write", die)
    with pytest.raises(KeyboardInterrupt):
        compact(folder)
    assert len(names(store, snapshot)) == MERGED_AT_ONCE
    assert numbers_in(store, snapshot) == list(range(MERGED_AT_ONCE))


def test_files_that_are_merged_while_they_are_read_are_listed_again(
    store: RunStore, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, snapshot, *range(MERGED_AT_ONCE))
    reader, opened = RunStore(store.files, 1), itertools.count()
    open_file = LocalFiles.open

    def merge_in_between(files: LocalFiles, path: str) -> BinaryIO:
        if next(opened) == 3:
            compact(store.review_folder(snapshot))
        return open_file(files, path)

    monkeypatch.setattr(LocalFiles, "open", merge_in_between)
    reviews = reader.reviews(snapshot).reviews
    assert [int(review["comment"] or "") for review in reviews] == list(range(MERGED_AT_ONCE))


def test_a_merge_during_the_listing_of_many_names_hides_nothing(
    store: RunStore, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a listing takes several steps: it may miss the merged file and the files that the merge deletes."""
    add(store, snapshot, *range(MERGED_AT_ONCE))
    assert len(store.reviews(snapshot).reviews) == MERGED_AT_ONCE, "the reviews are cached from here on"
    monkeypatch.setattr(compaction, "NAMES_LISTED_AT_ONCE", 10)
    listings = itertools.count()
    names_in = LocalFiles.names

    def names_with_a_merge(files: LocalFiles, folder: str) -> list[str]:
        names = names_in(files, folder)
        if next(listings) == 0:
            compact(RunStore(files, 1).review_folder(snapshot))
            return names[: MERGED_AT_ONCE // 2]
        return names

    monkeypatch.setattr(LocalFiles, "names", names_with_a_merge)
    assert len(store.reviews(snapshot).reviews) == MERGED_AT_ONCE
    assert numbers_in(store, snapshot) == list(range(MERGED_AT_ONCE))


def test_a_data_directory_of_version_0_1_0_is_read_and_merged(tmp_path: Path) -> None:
    """Each of its files of reviews is a list."""
    with_reviews = RunStore(open_files(str(GOLDEN)), 1)
    golden = with_reviews.reviews(with_reviews.snapshot("mail")).reviews
    assert [(review["id"], review["verdict"]) for review in golden] == [
        ("mail/3", "wrong"),
        ("mail/4", "ok"),
        ("mail/5", "unsure"),
    ]
    store = RunStore(open_files(str(tmp_path)), 1)
    snapshot, _ = store.create("r", RunDescription())
    (old,) = (GOLDEN / "runs").glob("mail/*/reviews/*.json")
    store.files.create(f"{snapshot.root}/reviews/{old.name}", lambda file: file.write(old.read_bytes()))
    add(store, snapshot, *range(MERGED_AT_ONCE))
    assert compact(store.review_folder(snapshot)) == MERGED_AT_ONCE + 1
    assert RunStore(store.files, 1).reviews(snapshot).reviews[:3] == golden


@pytest.mark.slow
def test_after_ten_thousand_single_verdicts_a_page_of_a_queue_reads_a_few_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fewer than 100 files in a new process, none for the next page, one after the next verdict."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
    reads: Counter[str] = Counter()
    open_file = LocalFiles.open

    def count_reads(files: LocalFiles, path: str) -> BinaryIO:
        reads["reviews"] += "/reviews/" in path
        return open_file(files, path)

    with temp_runs() as runs:
        snapshot = runs.create()
        runs.put(np.zeros((5, 2)), [0] * 5, [f"e{number}" for number in range(5)])
        request = QueueRequest.parse({"strategy": "top_loss", "name": "q"})
        runs.ask(lambda view: create_queue(runs.store, view, request, view.weighting(), []))
        for number in range(10_000):
            add(runs.store, snapshot, number)
            if number % MERGED_AT_ONCE == 0:
                compact(runs.store.review_folder(snapshot))
        monkeypatch.setattr(LocalFiles, "open", count_reads)
        store = RunStore(runs.store.files, 10**7)
        queries = RunQueries(store, 2**28)

        def num_reads_of_a_page() -> int:
            reads.clear()
            stored = queue(store, store.snapshot("r"), "q")
            page = queries.ask("r", lambda view: queue_page(store, view, stored, QueueFilter(), ANYONE))
            assert page["num_wrong"] == 5
            return reads["reviews"]

        assert num_reads_of_a_page() < 100
        assert num_reads_of_a_page() == 0
        add(runs.store, snapshot, 10_000)
        assert num_reads_of_a_page() == 1
        assert [int(review["comment"] or "") for review in store.reviews(snapshot).reviews] == list(range(10_001))
        queries.close()
