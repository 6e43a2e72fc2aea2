from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import (
    BatchConflictError,
    InvalidNameError,
    RunConflictError,
    RunFullError,
    ShapeError,
    StorageFullError,
    StorageUnavailableError,
    UnknownEpochError,
    UnknownRunError,
)
from service.runs.data_files import Footer
from service.runs.epoch_files import EpochFolder
from service.runs.manifest import RunDescription
from service.runs.names import check_name
from service.runs.store import RunStore
from service.storage import compaction
from service.storage.compaction import MERGED_AT_ONCE, compact
from service.storage.files import open_files
from tests.runs.plain_rows import NUM_CLASSES, add, ids_in, rows_of

PLAIN = RunDescription()


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> RunStore:
    location = str(tmp_path / "data") if request.param == "folder" else f"memory://{tmp_path.name}-{os.getpid()}"
    return RunStore(open_files(location), 1_000_000)


@pytest.fixture
def local(tmp_path: Path) -> RunStore:
    runs = RunStore(open_files(str(tmp_path / "data")), 1_000_000)
    runs.create("r", PLAIN)
    return runs


def test_a_run_is_created_once_and_never_changes(store: RunStore) -> None:
    first, new = store.create("r", RunDescription.parse({"config": {"gamma": 2}, "class_names": ["a", "b"]}))
    assert new
    again, new = store.create("r", RunDescription.parse({"config": {"gamma": 2.0}, "class_names": ["a", "b"]}))
    assert not new
    assert again.manifest == first.manifest
    with pytest.raises(RunConflictError, match="class_names"):
        store.create("r", RunDescription.parse({"class_names": ["a", "c"]}))
    assert store.names() == ["r"]
    assert store.snapshot("r").description.class_names == ("a", "b")


def test_a_batch_that_is_sent_again_is_stored_once(store: RunStore) -> None:
    store.create("r", PLAIN)
    assert add(store, "r", 0, "b", ["x", "y"])
    assert not add(store, "r", 0, "b", ["x", "y"])
    with pytest.raises(BatchConflictError, match="batch b of epoch 0"):
        add(store, "r", 0, "b", ["z"], digest="other")
    assert ids_in(store, "r", 0) == ["x", "y"]
    assert add(store, "r", 1, "b", ["z"])
    assert store.snapshot("r").epochs == [0, 1]
    assert store.snapshot("r").num_rows() == 3


def test_a_run_that_is_deleted_and_created_again_is_empty(store: RunStore) -> None:
    store.create("r", PLAIN)
    add(store, "r", 0, "b", ["x"])
    store.delete("r")
    assert store.names() == []
    for call in (store.snapshot, store.delete):
        with pytest.raises(UnknownRunError, match="no run r"):
            call("r")
    store.create("r", PLAIN)
    assert store.snapshot("r").data == ()


def test_a_batch_for_a_deleted_run_is_an_error_and_leaves_no_files(store: RunStore) -> None:
    before, _ = store.create("r", PLAIN)
    store.delete("r")
    store.create("r", RunDescription.parse({"config": {"gamma": 0}}))
    with pytest.raises(UnknownRunError, match="deleted"):
        store.add(before, 0, "b", rows_of(0, "b", ["x"]), lambda: Footer(1, {"b": "d"}), NUM_CLASSES)
    assert store.snapshot("r").data == ()
    assert before.manifest.uid not in store.files.folders("runs/r")


def test_all_batches_must_have_the_number_of_classes_of_the_first(store: RunStore) -> None:
    store.create("r", PLAIN)
    assert store.snapshot("r").num_classes is None
    add(store, "r", 0, "b", ["x"])
    assert store.snapshot("r").num_classes == NUM_CLASSES
    with pytest.raises(ShapeError, match="4 classes, run r has 3"):
        store.add(store.snapshot("r"), 0, "c", rows_of(0, "c", ["y"]), lambda: Footer(1, {"c": "d"}), 4)
    # Another process may have read the run before its first batch.
    stale = store.snapshot("r")
    object.__setattr__(stale, "num_classes", None)
    with pytest.raises(ShapeError):
        store.add(stale, 0, "c", rows_of(0, "c", ["y"]), lambda: Footer(1, {"c": "d"}), 4)


def test_the_number_of_rows_of_a_run_is_limited(tmp_path: Path) -> None:
    store = RunStore(open_files(str(tmp_path)), 3)
    store.create("r", PLAIN)
    add(store, "r", 0, "b", ["x", "y"])
    with pytest.raises(RunFullError, match="2 rows, 2 more"):
        add(store, "r", 0, "c", ["z", "w"])
    assert add(store, "r", 0, "d", ["z"])


def test_the_default_epoch_is_the_last_one(store: RunStore) -> None:
    store.create("r", PLAIN)
    assert store.snapshot("r").epoch() == 0
    add(store, "r", 3, "b", ["x"])
    add(store, "r", 11, "b", ["x"])
    assert store.snapshot("r").epoch() == 11
    assert store.snapshot("r").epoch(3) == 3
    with pytest.raises(UnknownEpochError, match="no epoch 4; it has 3, 11"):
        store.snapshot("r").epoch(4)


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".x", "a/b", "../x", "a\\b", "a\0", "a b", "ä", "a" * 101, "a\n", "%2e%2e", "~", "a:b"]
)
def test_a_name_that_could_leave_the_folder_is_an_error(store: RunStore, name: str) -> None:
    with pytest.raises(InvalidNameError, match="1 to 100 characters"):
        check_name("run", name)
    for refuse in (store.snapshot, store.delete, lambda run: store.create(run, PLAIN)):
        with pytest.raises(InvalidNameError):
            refuse(name)


@given(st.from_regex(r"\A[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}\Z"))
def test_every_other_name_is_valid(name: str) -> None:
    assert check_name("run", name) == name
    assert Path("runs", name).parts == ("runs", name)


def test_a_document_is_stored_once(store: RunStore) -> None:
    def read(file: BinaryIO) -> memoryview:
        return memoryview(file.read())

    snapshot, _ = store.create("r", PLAIN)
    assert store.documents.names(snapshot, "queues") == []
    assert store.documents.get(snapshot, "queues", "q", read) is None
    assert store.documents.add(snapshot, "queues", "q", [b"fir", b"st"])
    assert not store.documents.add(snapshot, "queues", "q", [b"second"])
    assert store.documents.get(snapshot, "queues", "q", read) == b"first"
    assert RunStore(store.files, 1).documents.get(snapshot, "queues", "q", read) == b"first"
    assert store.documents.names(snapshot, "queues") == ["q"]


class TestMerging:
    def test_many_files_become_one_with_the_same_rows(self, local: RunStore) -> None:
        ids = [f"{batch}-{row}" for batch in range(MERGED_AT_ONCE) for row in range(3)]
        for batch in range(MERGED_AT_ONCE):
            add(local, "r", 0, str(batch), [f"{batch}-{row}" for row in range(3)], digest=f"d{batch}")
        before = local.snapshot("r")
        assert compact(local.epoch_folder(before.root, 0)) == MERGED_AT_ONCE
        after = local.snapshot("r")
        assert len(after.data) == 1
        assert after.fingerprint == before.fingerprint
        assert after.num_rows() == before.num_rows() == 3 * MERGED_AT_ONCE
        assert ids_in(local, "r", 0) == sorted(ids)
        assert compact(local.epoch_folder(before.root, 0)) == 0
        assert len(local.files.names(f"{before.root}/epochs/0")) == 1, "the replaced files are deleted"
        assert not add(local, "r", 0, "5", ["5-0", "5-1", "5-2"], digest="d5"), "a merged batch is still stored"
        with pytest.raises(BatchConflictError):
            add(local, "r", 0, "5", ["other"], digest="other")

    def test_merged_files_are_merged_again(self, local: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(compaction, "MERGED_AT_ONCE", 3)
        root = local.snapshot("r").root
        for batch in range(27):
            add(local, "r", 0, str(batch), [str(batch)])
            compact(local.epoch_folder(root, 0))
        (file,) = local.snapshot("r").data
        assert file.name.startswith("level3-")
        assert ids_in(local, "r", 0) == sorted(map(str, range(27)))

    def test_large_files_are_not_merged(self, local: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(EpochFolder, "large", 2)
        for batch in range(MERGED_AT_ONCE):
            add(local, "r", 0, str(batch), [f"{batch}-0", f"{batch}-1"])
        assert compact(local.epoch_folder(local.snapshot("r").root, 0)) == 0

    @pytest.mark.parametrize("dies", ["delete_replaced", "delete"])
    def test_after_a_crash_during_a_merge_every_row_counts_once(
        self, local: RunStore, monkeypatch: pytest.MonkeyPatch, dies: str
    ) -> None:
        for batch in range(MERGED_AT_ONCE):
            add(local, "r", 0, str(batch), [str(batch)])
        root = local.snapshot("r").root

        class DiedError(Exception):
            pass

        def die(*_: Any) -> None:
            raise DiedError

        with monkeypatch.context() as patch:
            merge = compaction._merge
            patch.setattr(compaction, "_merge", lambda *args: (merge(*args), die()))
            with pytest.raises(DiedError):
                compact(local.epoch_folder(root, 0))
        assert len(local.files.names(f"{root}/epochs/0")) == MERGED_AT_ONCE + 1
        assert ids_in(local, "r", 0) == sorted(map(str, range(MERGED_AT_ONCE)))
        if dies == "delete":
            # The crash came after half of the replaced files were deleted.
            for batch in range(0, MERGED_AT_ONCE, 2):
                local.files.delete(f"{root}/epochs/0/batch-{batch}.parquet")
            assert ids_in(local, "r", 0) == sorted(map(str, range(MERGED_AT_ONCE)))
        compact(local.epoch_folder(root, 0))
        assert len(local.files.names(f"{root}/epochs/0")) == 1
        assert ids_in(local, "r", 0) == sorted(map(str, range(MERGED_AT_ONCE)))

    def test_a_file_written_after_its_batch_was_merged_does_not_count(self, local: RunStore) -> None:
        """A process that lists the files before they are merged may write afterwards."""
        stale = local.snapshot("r")
        for batch in range(MERGED_AT_ONCE):
            add(local, "r", 0, str(batch), [str(batch)])
        compact(local.epoch_folder(stale.root, 0))
        compact(local.epoch_folder(stale.root, 0))
        with pytest.raises(BatchConflictError):
            local.add(stale, 0, "7", rows_of(0, "7", ["other"]), lambda: Footer(1, {"7": "other"}), NUM_CLASSES)
        assert local.add(stale, 0, "8", rows_of(0, "8", ["8"]), lambda: Footer(1, {"8": "same"}), NUM_CLASSES)
        assert ids_in(local, "r", 0) == sorted(map(str, range(MERGED_AT_ONCE)))

    def test_only_one_process_merges_at_a_time(self, local: RunStore) -> None:
        for batch in range(MERGED_AT_ONCE):
            add(local, "r", 0, str(batch), [str(batch)])
        root = local.snapshot("r").root
        with local.files.lock(f"{root}/epochs/0") as mine:
            assert mine
            assert compact(local.epoch_folder(root, 0)) == 0
        assert compact(local.epoch_folder(root, 0)) == MERGED_AT_ONCE


class TestFaults:
    @pytest.mark.parametrize(
        ("number", "kind"),
        [
            (errno.ENOSPC, StorageFullError),
            (errno.EDQUOT, StorageFullError),
            (errno.EROFS, StorageUnavailableError),
            (errno.EACCES, StorageUnavailableError),
            (errno.EIO, StorageUnavailableError),
        ],
    )
    @pytest.mark.parametrize("call", ["fsync", "link", "open"])
    def test_an_error_of_the_disk_loses_no_stored_row(
        self, local: RunStore, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception], call: str
    ) -> None:
        add(local, "r", 0, "old", ["x"])

        def refuse(*_: Any, **__: Any) -> None:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            if call == "open":
                patch.setattr(
                    "builtins.open",
                    lambda path, mode="r": refuse() if "x" in mode else os.fdopen(os.open(path, os.O_RDONLY), mode),
                )
            else:
                patch.setattr(os, call, refuse)
            with pytest.raises(kind):
                add(local, "r", 0, "new", ["y"])
        assert ids_in(local, "r", 0) == ["x"]
        folder = Path(local.files.url(local.snapshot("r").root)) / "epochs" / "0"
        assert [path.name for path in folder.iterdir()] == ["batch-old.parquet"], "no partial file is left"
        assert add(local, "r", 0, "new", ["y"])

    def test_temporary_files_of_dead_processes_are_deleted(self, local: RunStore) -> None:
        add(local, "r", 0, "b", ["x"])
        root = local.snapshot("r").root
        folder = Path(local.files.url(f"{root}/epochs/0"))
        old, young = folder / ".staged-old", folder / ".staged-young"
        for path in (old, young):
            path.write_bytes(b"half")
        os.utime(old, (1, 1))
        assert ids_in(local, "r", 0) == ["x"]
        compact(local.epoch_folder(root, 0))
        assert not old.exists()
        assert young.exists()


def test_the_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    RunStore(open_files("~/data"), 1).create("r", PLAIN)
    assert (tmp_path / "data" / "runs" / "r" / "run.json").is_file()
