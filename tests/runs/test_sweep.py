"""The sweep deletes the leftovers of processes that died, and nothing that belongs to living ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.runs.manifest import RunDescription
from service.runs.store import RunStore
from service.runs.sweep import sweep
from service.storage import compaction
from service.storage.compaction import compact
from service.storage.files import open_files
from service.storage.temporary import TemporaryFolder
from tests.runs.plain_rows import add

OLD = (1.0, 1.0)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    runs = RunStore(open_files(str(tmp_path)), 1_000_000)
    runs.create("r", RunDescription())
    add(runs, "r", 0, "b", ["x"])
    return runs


def test_temporary_files_in_every_folder_are_deleted_once_they_are_old(store: RunStore, tmp_path: Path) -> None:
    root = tmp_path / store.snapshot("r").root
    folders = [tmp_path / "runs", root.parent, root, root / "epochs" / "0", root / "queues", root / "configs"]
    for folder in folders:
        folder.mkdir(exist_ok=True)
        for name in (".staged-old", ".staged-young"):
            (folder / name).write_bytes(b"half")
        os.utime(folder / ".staged-old", OLD)
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks" / "abc").write_bytes(b"ok")
    os.utime(tmp_path / "checks" / "abc", OLD)
    sweep(store)
    assert sorted(path.name for path in tmp_path.rglob(".staged-*")) == [".staged-young"] * len(folders)
    assert not list((tmp_path / "checks").glob("*"))
    assert store.snapshot("r").num_rows() == 1


def test_a_deletion_that_was_cut_off_is_finished(store: RunStore, tmp_path: Path) -> None:
    os.rename(tmp_path / "runs" / "r", tmp_path / "runs" / ".deleted-abc")
    # Version 0.1.0 used another name.
    (tmp_path / "runs" / ".staged-def" / "uid").mkdir(parents=True)
    os.utime(tmp_path / "runs" / ".staged-def", OLD)
    (tmp_path / "runs" / "empty").mkdir()
    os.utime(tmp_path / "runs" / "empty", OLD)
    assert store.names() == []
    sweep(store)
    assert list((tmp_path / "runs").iterdir()) == []


def test_files_that_were_replaced_while_they_were_read_are_deleted(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "MERGED_AT_ONCE", 2)
    add(store, "r", 0, "c", ["y"])
    with store.reading("r") as snapshot:
        folder = store.epoch_folder(snapshot.root, 0)
        compact(folder)
        sweep(store)
        assert all((tmp_path / file.path).exists() for file in snapshot.data), "a reader may open them"
        (merged,) = store.snapshot("r").data
        os.utime(tmp_path / merged.path, (time.time() - 61, time.time() - 61))
        compact(folder)
        assert not any((tmp_path / file.path).exists() for file in snapshot.data), "a minute is over"
    sweep(store)
    assert store.snapshot("r").num_rows() == 2


def test_a_temporary_folder_lives_as_long_as_its_process(store: RunStore, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from service.storage.files import open_files\n"
        "from service.storage.temporary import TemporaryFolder\n"
        "folder = TemporaryFolder(open_files(sys.argv[1])); print(folder.path(), flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        path = Path(process.stdout.readline().strip())
        (path / "spilled").write_bytes(b"x")
        assert path.parent == tmp_path / "temporary"
        sweep(store)
        assert (path / "spilled").exists()
        process.kill()
        process.wait()
    sweep(store)
    assert not path.exists()


def test_a_temporary_folder_is_deleted_at_the_end(store: RunStore) -> None:
    folder = TemporaryFolder(store.files)
    path = folder.path()
    assert folder.path() == path
    shutil.rmtree(path)
    path = folder.path()
    assert path.is_dir()
    folder.close()
    assert not path.exists()


def test_one_process_sweeps_at_a_time(store: RunStore, tmp_path: Path) -> None:
    (tmp_path / "runs" / ".deleted-abc").mkdir()
    with store.files.lock(""):
        sweep(store)
        assert (tmp_path / "runs" / ".deleted-abc").exists()
    sweep(store)
    assert not (tmp_path / "runs" / ".deleted-abc").exists()


def test_a_store_in_memory_has_nothing_to_sweep() -> None:
    sweep(RunStore(open_files("memory://nothing-to-sweep"), 1))
