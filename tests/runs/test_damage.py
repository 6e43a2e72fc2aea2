"""Formats of later versions, members of later versions, errors of one file, and file systems with limits."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
import structlog
from fsspec.implementations.memory import MemoryFile

from service.errors import RunDamagedError, StorageUnavailableError
from service.queries.view import View
from service.runs import damage
from service.runs.damage import log_damage, named_damage
from service.runs.data_files import METADATA_KEY
from service.runs.manifest import RunDescription
from service.runs.store import RunStore
from service.storage import compaction
from service.storage.errors import storage_errors
from service.storage.files import open_files
from tests.runs.plain_rows import add, ids_in
from tests.runs.temp_runs import temp_runs

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    runs = RunStore(open_files(str(tmp_path)), 1_000_000)
    runs.create("r", RunDescription.parse({"config": {"gamma": 1.0}}))
    add(runs, "r", 0, "b", ["x", "y"])
    return runs


def change_manifest(store: RunStore, change: Change) -> None:
    path = Path(store.files.url("runs/r/run.json"))
    members = json.loads(path.read_text())
    change(members)
    path.write_text(json.dumps(members))


def change_footer(store: RunStore, change: Change) -> RunStore:
    (file,) = store.snapshot("r").data
    path = store.files.url(file.path)
    table = pq.read_table(path)
    members = orjson.loads(pq.read_metadata(path).metadata[METADATA_KEY])
    change(members)
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({METADATA_KEY: orjson.dumps(members)})
    # Another process, without this one's caches.
    return RunStore(store.files, 1_000_000)


def set_format(value: object) -> Change:
    return lambda members: members.update(format=value)


def test_the_format_is_written(store: RunStore) -> None:
    formats: list[object] = []
    change_manifest(store, lambda members: formats.append(members["format"]))
    change_footer(store, lambda members: formats.append(members["format"]))
    assert formats == [1, 1]


def test_a_newer_format_is_refused_by_its_number(store: RunStore) -> None:
    newer = r"was written by a newer version \(format 2\); this one reads 1"
    other = change_footer(store, set_format(2))
    with pytest.raises(RunDamagedError, match=rf"^run r is damaged: epochs/0/batch-b\.parquet {newer}$"):
        other.snapshot("r")
    change_manifest(store, set_format(3))
    newer = r"was written by a newer version \(format 3\); this one reads 2"
    with pytest.raises(RunDamagedError, match=rf"^run r is damaged: run\.json {newer}$"):
        store.manifest("r")


@pytest.mark.parametrize("value", ["1", 0, -1, 1.5, None, True, []])
def test_a_format_that_is_no_number_is_damage(store: RunStore, value: object) -> None:
    change_manifest(store, set_format(value))
    with pytest.raises(RunDamagedError, match="its format is not a number"):
        store.manifest("r")


def test_members_of_later_versions_are_left_out(store: RunStore) -> None:
    def extend(members: dict[str, Any]) -> None:
        members["later"] = 1
        if "description" in members:
            members["description"]["later"] = {"x": 1}
            members["description"]["config"]["later"] = 2

    change_manifest(store, extend)
    other = change_footer(store, extend)
    assert other.snapshot("r").description.config.gamma == 1.0
    assert ids_in(other, "r", 0) == ["x", "y"]
    # The same request again is still the same run.
    assert not other.create("r", RunDescription.parse({"config": {"gamma": 1.0}}))[1]


def test_a_large_display_of_version_0_1_0_is_read(store: RunStore) -> None:
    change_manifest(store, lambda members: members["description"].update(display={"a": "x" * 100_000}))
    assert len(str(store.snapshot("r").description.display["a"])) == 100_000


def test_a_wrong_uid_is_damage(store: RunStore) -> None:
    """Otherwise a run would look as if it had no rows."""
    change_manifest(store, lambda members: members.update(uid="0" * 32))
    with pytest.raises(RunDamagedError, match="data of its uid is missing"):
        store.snapshot("r")
    change_manifest(store, lambda members: members.update(uid="../../x"))
    with pytest.raises(RunDamagedError, match="uid"):
        store.snapshot("r")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EISDIR])
def test_an_error_of_one_file_names_it(number: int) -> None:
    with (
        pytest.raises(RunDamagedError, match=r"run r is damaged: epochs/0/f\.parquet cannot be read: "),
        named_damage("runs/r/uid/epochs/0/f.parquet"),
        storage_errors(),
    ):
        raise OSError(number, os.strerror(number), "/secret/path")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.ETIMEDOUT, errno.ESTALE])
def test_an_error_of_the_machine_is_no_damage(number: int) -> None:
    with pytest.raises(StorageUnavailableError) as error, named_damage("runs/r/uid/epochs/0/f.parquet"):
        raise OSError(number, os.strerror(number), "/secret/path")
    assert "secret" not in error.value.detail


def test_a_damage_is_logged_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damage, "log", structlog.get_logger("test"))
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            for run in ("logged-a", "logged-b"):
                log_damage(RunDamagedError.of(run, "run.json", "is missing"))
    assert [(line["log_level"], line["detail"]) for line in logs] == [
        ("error", f"run {run} is damaged: run.json is missing") for run in ("logged-a", "logged-b")
    ]


def test_merging_stops_at_a_damaged_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise damage would get a new, valid checksum."""
    monkeypatch.setattr(compaction, "MERGED_AT_ONCE", 2)
    with temp_runs() as runs:
        runs.create()
        for batch in "ab":
            runs.put([[0.0, 1.0]] * 50, [1] * 50, batch=batch)
        (first, _) = runs.store.snapshot("r").data
        path = Path(runs.store.files.url(first.path))
        content = bytearray(path.read_bytes())
        content[300] ^= 1
        path.write_bytes(content)
        with pytest.raises(RunDamagedError, match="batch-a"):
            runs.merge(0)
        assert len(runs.store.snapshot("r").data) == 2


def test_a_slow_reader_meets_no_error_while_files_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "MERGED_AT_ONCE", 2)
    with temp_runs() as runs:
        runs.create()
        for number in range(4):
            runs.put([[0.0, 1.0]], [1], [f"e{number}"], batch=f"b{number}")
        calls = []

        def slow(view: View) -> int:
            calls.append(view)
            number = 0
            for file in view.snapshot.data:
                merging = threading.Thread(target=runs.merge, args=[0])
                merging.start()
                merging.join()
                number += len(view.rows(f"SELECT id FROM read_parquet('{runs.store.files.url(file.path)}')"))
            return number

        assert runs.ask(slow) == 4
        assert len(calls) == 1, "the question was asked again"
        runs.merge(0)
        (merged,) = runs.store.snapshot("r").data
        assert [path.name for path in Path(runs.store.files.url(merged.path)).parent.glob("*.parquet")] == [merged.name]


def test_a_batch_that_is_sent_again_is_durable_before_the_reply(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first sender may have died between the link and the sync of the folder."""
    synced: list[str] = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(os.readlink(f"/proc/self/fd/{file}")), sync(file)))
    assert not add(store, "r", 0, "b", ["x", "y"])
    root = tmp_path / store.snapshot("r").root
    assert {str(folder) for folder in (root / "epochs" / "0", root / "epochs", root)} <= set(synced)


def test_a_deletion_that_leaves_files_is_an_error(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refuse)
        with pytest.raises(StorageUnavailableError, match="a deleted folder cannot be used"):
            store.delete("r")
    assert store.names() == []
    store.files.sweep()
    assert list(Path(store.files.url("runs")).iterdir()) == []


def test_an_object_store_that_goes_down_while_a_run_is_read_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    files = open_files("memory://goes-down")
    files.create("runs/r/run.json", lambda file: file.write(b"{}"))
    with files.open("runs/r/run.json") as file:
        assert file.read() == b"{}"

    def down(*_: object) -> None:
        raise RuntimeError("the client of an object store has errors of its own")

    monkeypatch.setattr(MemoryFile, "read", down, raising=False)
    with (
        pytest.raises(StorageUnavailableError),
        named_damage("runs/r/run.json"),
        files.open("runs/r/run.json") as file,
    ):
        file.read()
