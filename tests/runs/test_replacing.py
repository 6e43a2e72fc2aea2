"""Replacing and deleting batches: in one step, also after merging, and by several writers at once."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import BatchConflictError, RunFullError, UnknownBatchError, UnknownEpochError, UnknownRunError
from service.runs.data_files import Footer
from service.runs.epoch_writer import Stored
from service.runs.manifest import RunDescription
from service.runs.store import RunStore
from service.storage import compaction
from service.storage.compaction import compact
from service.storage.files import open_files
from tests.runs.plain_rows import NUM_CLASSES, rows_of
from tests.runs.temp_runs import TempRuns, temp_runs

PLAIN = RunDescription()


def put(store: RunStore, batch: str, version: str, rows: int = 2, *, epoch: int = 0, over: bool = False) -> Stored:
    """Store a batch whose ids are `<version>-<row>`."""
    table = rows_of(epoch, batch, [f"{version}-{row}" for row in range(rows)])
    footer = Footer(rows, {batch: version}, num_ignored=1, num_excluded=2)
    return store.add(store.snapshot("r"), epoch, batch, table, lambda: footer, NUM_CLASSES, over=over)


def rows_in(store: RunStore, epoch: int = 0) -> dict[str, set[str]]:
    """Versions of the rows of each batch that count; raises if a batch has rows of two versions or some twice."""
    ids: dict[str, list[str]] = {}
    with store.reading("r") as snapshot:
        for file in snapshot.with_rows(epoch):
            with store.files.open(file.path) as opened:
                for row in pq.read_table(opened, columns=["batch", "id"]).to_pylist():
                    if row["batch"] not in file.hidden:
                        ids.setdefault(row["batch"], []).append(row["id"])
    for batch, found in ids.items():
        assert len(found) == len(set(found)), f"batch {batch} is there twice"
    return {batch: {identity.partition("-")[0] for identity in found} for batch, found in ids.items()}


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> RunStore:
    location = str(tmp_path / "data") if request.param == "folder" else f"memory://replacing-{tmp_path.name}"
    runs = RunStore(open_files(location), 1_000)
    runs.create("r", PLAIN)
    return runs


@pytest.fixture
def local(tmp_path: Path) -> RunStore:
    runs = RunStore(open_files(str(tmp_path / "data")), 1_000_000)
    runs.create("r", PLAIN)
    return runs


def test_a_batch_is_replaced_on_request_only(store: RunStore) -> None:
    assert put(store, "b", "old") is Stored.NEW
    with pytest.raises(BatchConflictError, match="batch b of epoch 0"):
        put(store, "b", "new")
    assert put(store, "b", "new", 3, over=True) is Stored.REPLACED
    assert put(store, "b", "new", 3, over=True) is Stored.SAME
    assert put(store, "b", "new", 3) is Stored.SAME
    assert put(store, "c", "other", over=True) is Stored.NEW
    assert rows_in(store) == {"b": {"new"}, "c": {"other"}}
    assert store.snapshot("r").counts(0) == (5, 2, 4)
    assert put(store, "b", "old", over=True) is Stored.REPLACED
    assert rows_in(store)["b"] == {"old"}


def test_a_deleted_batch_can_be_sent_again(store: RunStore) -> None:
    for batch in ("b", "c"):
        put(store, batch, "old")
    store.delete_batches(store.snapshot("r"), 0, "b")
    assert rows_in(store) == {"c": {"old"}}
    with pytest.raises(UnknownBatchError, match="epoch 0 has no batch b"):
        store.delete_batches(store.snapshot("r"), 0, "b")
    with pytest.raises(UnknownEpochError):
        store.delete_batches(store.snapshot("r"), 1, "b")
    assert put(store, "b", "old") is Stored.NEW
    assert rows_in(store) == {"b": {"old"}, "c": {"old"}}


def test_an_epoch_is_deleted_in_one_step(store: RunStore) -> None:
    for epoch in (0, 1):
        for batch in "bcd":
            put(store, batch, "old", epoch=epoch)
    put(store, "b", "new", over=True)
    store.delete_batches(store.snapshot("r"), 0)
    assert store.snapshot("r").epochs == [1]
    assert store.snapshot("r").counts() == (6, 3, 6)
    with pytest.raises(UnknownEpochError):
        store.delete_batches(store.snapshot("r"), 0)
    assert put(store, "b", "newest") is Stored.NEW
    assert rows_in(store) == {"b": {"newest"}}


def test_a_replacement_does_not_count_as_more_rows(tmp_path: Path) -> None:
    store = RunStore(open_files(str(tmp_path)), 4)
    store.create("r", PLAIN)
    put(store, "b", "old", 4)
    assert put(store, "b", "new", 4, over=True) is Stored.REPLACED
    with pytest.raises(RunFullError):
        put(store, "c", "new", 1, over=True)


def test_a_batch_that_was_merged_is_replaced_and_its_rows_are_dropped(
    local: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "MERGED_AT_ONCE", 4)
    folder = local.epoch_folder(local.snapshot("r").root, 0)
    for batch in range(8):
        put(local, str(batch), "old")
    compact(folder)
    put(local, "3", "new", 5, over=True)
    local.delete_batches(local.snapshot("r"), 0, "5")
    expected = {str(batch): {"new" if batch == 3 else "old"} for batch in range(8) if batch != 5}
    assert rows_in(local) == expected
    assert local.snapshot("r").counts() == (2 * 6 + 5, 7, 14)
    fingerprint = local.snapshot("r").fingerprint
    for batch in ("x", "y", "z"):
        put(local, batch, "old")
        local.delete_batches(local.snapshot("r"), 0, batch)
        compact(folder)
        assert local.snapshot("r").fingerprint == fingerprint
    local.delete_batches(local.snapshot("r"), 0)
    compact(folder)
    assert local.snapshot("r").counts() == (0, 0, 0)
    assert sum(file.footer.rows for file in folder.live()) == 0, "deleted rows are not on the disk any more"
    assert put(local, "3", "newest") is Stored.NEW
    assert rows_in(local) == {"3": {"newest"}}


def test_a_writer_with_an_old_view_changes_nothing_else(local: RunStore) -> None:
    """Another process may merge, replace and delete between a writer's listing and its write."""
    stale = local.snapshot("r")
    put(local, "b", "old")
    local.delete_batches(local.snapshot("r"), 0, "b")
    compact(local.epoch_folder(stale.root, 0))
    footer = Footer(1, {"b": "late"})
    assert local.add(stale, 0, "b", rows_of(0, "b", ["late-0"]), lambda: footer, NUM_CLASSES) is Stored.NEW
    assert rows_in(local) == {"b": {"late"}}
    put(local, "b", "new", over=True)
    compact(local.epoch_folder(stale.root, 0))
    with pytest.raises(BatchConflictError):
        local.add(stale, 0, "b", rows_of(0, "b", ["late-0"]), lambda: footer, NUM_CLASSES)
    assert rows_in(local) == {"b": {"new"}}
    local.delete("r")
    for write in (
        lambda: local.add(stale, 0, "b", rows_of(0, "b", ["late-0"]), lambda: footer, NUM_CLASSES),
        lambda: local.delete_batches(stale, 0),
    ):
        with pytest.raises((UnknownRunError, UnknownEpochError)):
            write()
    assert local.files.folders("runs") == []


STEPS = st.tuples(st.sampled_from(["add", "over", "delete", "epoch", "merge"]), st.sampled_from("abc"))


@settings(deadline=None)
@given(st.lists(STEPS, max_size=12))
def test_any_order_of_changes_and_merges_keeps_the_last_version(steps: list[tuple[str, str]]) -> None:
    with temp_runs() as runs, pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "MERGED_AT_ONCE", 2)
        runs.create(run="r")
        put(runs.store, "z", "v")
        expected = {"z": {"v"}}
        for number, (step, batch) in enumerate(steps):
            if step == "merge":
                runs.merge(0)
            elif step == "over" or (step == "add" and batch not in expected):
                put(runs.store, batch, f"v{number}", over=step == "over")
                expected[batch] = {f"v{number}"}
            elif step == "delete" and batch in expected:
                runs.store.delete_batches(runs.store.snapshot("r"), 0, batch)
                del expected[batch]
            elif step == "epoch" and expected:
                runs.store.delete_batches(runs.store.snapshot("r"), 0)
                expected.clear()
            assert rows_in(runs.store) == expected
        sql = "SELECT batch, any_value(split_part(id, '-', 1)) AS version, count(*) AS n FROM {} GROUP BY batch"
        rows = runs.ask(lambda view: view.rows(sql.format(view.stored(0))))
        assert {row["batch"]: {row["version"]} for row in rows} == expected
        assert all(row["n"] == 2 for row in rows)


def test_data_of_version_0_1_0_without_counts_can_be_replaced() -> None:
    with temp_runs() as runs:
        _merge_without_counts(runs)
        assert runs.store.snapshot("r").counts() == (6, 3, 6)
        put(runs.store, "b1", "new", 1, over=True)
        # Its ignored and excluded rows are known for the whole file only.
        assert runs.store.snapshot("r").counts() == (5, 4, 8)
        assert rows_in(runs.store) == {"b0": {"old"}, "b1": {"new"}, "b2": {"old"}}


def _merge_without_counts(runs: TempRuns) -> None:
    runs.create(run="r")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "MERGED_AT_ONCE", 3)
        patch.setattr(Footer, "known_counts", {})
        for number in range(3):
            put(runs.store, f"b{number}", "old")
        assert runs.merge(0) == 3


@pytest.mark.slow
def test_writers_that_replace_and_merge_at_once_leave_one_version_of_each_batch(tmp_path: Path) -> None:
    """Threads with stores of their own stand for processes: they share only the folder."""
    location = str(tmp_path)
    RunStore(open_files(location), 10**6).create("r", PLAIN)
    last: dict[tuple[int, str], str] = {}
    failures: list[BaseException] = []

    def write(writer: int) -> None:
        store, rng = RunStore(open_files(location), 10**6), random.Random(writer)
        folder = store.epoch_folder(store.snapshot("r").root, 0)
        try:
            for number in range(40):
                batch = f"{writer}{rng.choice('ab')}"
                put(store, batch, f"w{writer}v{number}", over=True)
                last[writer, batch] = f"w{writer}v{number}"
                if number % 3 == writer:
                    compact(folder)
                assert rows_in(store)[batch] == {f"w{writer}v{number}"}
        except BaseException as err:
            failures.append(err)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "MERGED_AT_ONCE", 3)
        threads = [threading.Thread(target=write, args=[writer]) for writer in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures, failures
    assert rows_in(RunStore(open_files(location), 1)) == {batch: {version} for (_, batch), version in last.items()}
