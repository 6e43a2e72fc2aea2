"""Files of annotations: the last label of each annotator counts, merged or not, until all are deleted."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import RunDamagedError, UnknownRunError
from service.runs import annotation_files
from service.runs.annotation_files import SCHEMA
from service.runs.manifest import RunDescription
from service.runs.snapshot import Snapshot
from service.runs.store import RunStore
from service.runs.verify import verify
from service.storage import compaction
from service.storage.compaction import compact
from service.storage.files import open_files
from tests.runs.temp_runs import temp_runs

Labels = dict[tuple[str, str], int]


def table(labels: Labels) -> pa.Table:
    rows = [{"id": identity, "annotator": name, "label": label} for (identity, name), label in labels.items()]
    return pa.Table.from_pylist(rows, SCHEMA)


def add(store: RunStore, snapshot: Snapshot, labels: Labels) -> None:
    store.append_annotations(snapshot, lambda _: table(labels))


def stored(store: RunStore, snapshot: Snapshot) -> Labels:
    """The annotations as another process reads them."""
    rows = RunStore(store.files, 1).annotation_folder(snapshot.root).table().to_pylist()
    found = {(row["id"], row["annotator"]): row["label"] for row in rows}
    assert len(found) == len(rows), "a pair of an example and an annotator is there twice"
    return found


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(open_files(str(tmp_path)), 1)


@pytest.fixture
def snapshot(store: RunStore) -> Snapshot:
    return store.create("r", RunDescription())[0]


REQUESTS = st.dictionaries(st.tuples(st.sampled_from("abc"), st.sampled_from("xy")), st.integers(0, 9), min_size=1)


@given(steps=st.lists(REQUESTS | st.sampled_from(["delete", "merge"]), max_size=12))
def test_the_last_label_counts_after_any_merges_and_deletions(steps: list[Labels | str]) -> None:
    with temp_runs() as runs, pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "MERGED_AT_ONCE", 2)
        snapshot, expected = runs.create(), Labels()
        runs.store.delete_annotations(snapshot)
        for step in steps:
            if step == "delete":
                runs.store.delete_annotations(snapshot)
                expected = {}
            elif step == "merge":
                compact(runs.store.annotation_folder(snapshot.root))
            else:
                assert isinstance(step, dict)
                add(runs.store, snapshot, step)
                expected |= step
            assert stored(runs.store, snapshot) == expected


def test_nothing_is_written_without_a_change(store: RunStore, snapshot: Snapshot) -> None:
    store.append_annotations(snapshot, lambda known: known)
    store.delete_annotations(snapshot)
    assert store.files.names(snapshot.annotations.path) == []


def test_deleted_annotations_leave_the_disk(store: RunStore, snapshot: Snapshot) -> None:
    for number in range(3):
        add(store, snapshot, {("a", "x"): number})
    store.delete_annotations(snapshot)
    compact(snapshot.annotations)
    (only,) = snapshot.annotations.live()
    assert only.size == 0
    compact(snapshot.annotations)
    assert [file.name for file in snapshot.annotations.live()] == [only.name]


def test_labels_that_are_replaced_again_and_again_leave_the_disk(
    store: RunStore, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annotation_files, "MAX_ANNOTATIONS", 2)
    monkeypatch.setattr(annotation_files.AnnotationFolder, "large", 1)
    for number in range(3):
        add(store, snapshot, {("a", "x"): number, ("b", "x"): number})
    compact(snapshot.annotations)
    assert [file.size for file in snapshot.annotations.live()] == [2]
    assert stored(store, snapshot) == {("a", "x"): 2, ("b", "x"): 2}


def test_a_clock_that_goes_back_does_not_change_the_order(
    store: RunStore, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stamp in (2_000, 1_000):
        monkeypatch.setattr("time.time_ns", lambda stamp=stamp: stamp)
        add(store, snapshot, {("a", "x"): stamp})
    assert stored(store, snapshot) == {("a", "x"): 1_000}


def test_a_deleted_run_gets_no_annotations(store: RunStore, snapshot: Snapshot) -> None:
    store.delete("r")
    with pytest.raises(UnknownRunError):
        add(store, snapshot, {("a", "x"): 0})
    with pytest.raises(UnknownRunError):
        store.delete_annotations(snapshot)


@pytest.mark.parametrize("place", [10, -5])
def test_a_damaged_file_is_named_and_set_aside(store: RunStore, snapshot: Snapshot, tmp_path: Path, place: int) -> None:
    add(store, snapshot, {("a", "x"): 0})
    add(store, snapshot, {("b", "x"): 1})
    first = store.files.names(snapshot.annotations.path)[0]
    path = tmp_path / snapshot.annotations.path / first
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(RunDamagedError, match=first):
        stored(store, snapshot)
    (finding,) = verify(RunStore(store.files, 1), "r", {})
    assert finding.file.endswith(first)
    assert finding.repair is not None
    finding.repair()
    assert stored(store, snapshot) == {("b", "x"): 1}
