"""Files of the data directory: what every kind of location does alike, and what a local disk must do."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from service.errors import StorageFullError, StorageUnavailableError
from service.storage.errors import storage_errors
from service.storage.files import Files, check_files, open_files
from service.storage.local_files import LocalFiles
from service.storage.remote_files import RemoteFiles


@pytest.fixture(params=["folder", "memory"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    return open_files(str(tmp_path) if request.param == "folder" else f"memory://{tmp_path.name}-{os.getpid()}")


def content_of(files: Files, path: str) -> bytes:
    with files.open(path) as file:
        return file.read()


def test_a_file_is_created_once(files: Files) -> None:
    assert files.create("a/b/f", lambda file: file.write(b"first"))
    assert not files.create("a/b/f", lambda file: file.write(b"second"))
    assert content_of(files, "a/b/f") == b"first"
    assert files.exists("a/b/f")
    assert not files.exists("a/b"), "a folder is no file"


def test_a_file_whose_writer_fails_does_not_exist(files: Files) -> None:
    def write(file: BinaryIO) -> None:
        file.write(b"half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        files.create("a/f", write)
    assert not files.exists("a/f")
    assert files.create("a/f", lambda file: file.write(b"whole"))


def test_a_folder_is_created_with_its_files_once(files: Files) -> None:
    assert files.create_folder("runs/r", {"run.json": b"1", "deep/run.json": b"2"})
    assert not files.create_folder("runs/r", {"run.json": b"3"})
    assert content_of(files, "runs/r/run.json") == b"1"
    assert content_of(files, "runs/r/deep/run.json") == b"2"
    assert files.folders("runs") == ["r"], "no temporary folder is left"


def test_names_are_listed_sorted_without_folders(files: Files) -> None:
    for path in ("f/b", "f/a", "f/c/d"):
        files.create(path, lambda file: file.write(b""))
    assert (files.names("f"), files.folders("f")) == (["a", "b"], ["c"])
    assert (files.names("nowhere"), files.folders("nowhere")) == ([], [])


def test_what_does_not_exist(files: Files) -> None:
    with pytest.raises(FileNotFoundError):
        files.open("nowhere")
    with pytest.raises(FileNotFoundError):
        files.move("nowhere", "elsewhere")
    assert files.modified_at("nowhere") is None
    assert not files.delete_folder("nowhere")
    files.delete("nowhere")
    files.touch("nowhere")
    assert not files.exists("nowhere")


def test_files_are_moved_and_deleted(files: Files) -> None:
    files.create("a/f", lambda file: file.write(b"x"))
    files.move("a/f", "b/c/f")
    assert not files.exists("a/f")
    assert content_of(files, "b/c/f") == b"x"
    files.delete("b/c/f")
    assert not files.exists("b/c/f")
    files.create("b/c/g", lambda file: file.write(b"x"))
    assert files.delete_folder("b")
    assert files.folders("") in ([], ["a"]), "an object store has no empty folders"


def down(*_: object, **__: object) -> None:
    raise RuntimeError("the client of an object store has errors of its own")


@pytest.mark.parametrize(
    "call",
    [
        lambda files: files.create("new", lambda file: file.write(b"x")),
        lambda files: files.create_folder("new", {"f": b"x"}),
        lambda files: files.names("a"),
        lambda files: files.folders("a"),
        lambda files: files.exists("a/f"),
        lambda files: files.modified_at("a/f"),
        lambda files: files.open("a/f"),
        lambda files: files.delete("a/f"),
        lambda files: files.move("a/f", "b/f"),
        lambda files: files.delete_folder("a"),
    ],
)
def test_an_object_store_that_is_down_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, call: Callable[[Files], object]
) -> None:
    files = open_files("memory://down")
    files.create("a/f", lambda file: file.write(b"x"))
    for name in ("info", "ls", "modified", "open", "pipe_file", "rm_file", "rm", "mv"):
        monkeypatch.setattr(MemoryFileSystem, name, down)
    with pytest.raises(StorageUnavailableError, match="cannot be used: RuntimeError"):
        call(files)


def test_listings_of_an_object_store_are_not_cached() -> None:
    """With a cache of listings a process does not see the files of others, and writes over them."""
    assert not open_files("memory://listings").filesystem.dircache.use_listings_cache


def test_nothing_is_created_in_a_folder_that_was_deleted(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    with pytest.raises(FileNotFoundError):
        files.create("runs/r/epochs/0/f", lambda file: file.write(b"x"), within="runs/r")
    assert files.names("runs/r/epochs/0") == []
    assert files.create("runs/r/f", lambda file: file.write(b"x"))
    assert files.create("runs/r/epochs/0/f", lambda file: file.write(b"x"), within="runs/r")


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.EMLINK])
def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    files = LocalFiles(tmp_path)
    assert files.create("f", lambda file: file.write(b"first"))
    assert not files.create("f", lambda file: file.write(b"second"))
    assert content_of(files, "f") == b"first"
    assert not list(tmp_path.rglob(".staged-*"))


def test_a_file_is_complete_before_it_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [b"a", b"b" * 2**20, b"c" * 5]
    synced: list[int] = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(os.fstat(file).st_size), sync(file)))
    files = LocalFiles(tmp_path)
    assert files.create("f", lambda file: [file.write(part) for part in parts])
    with files.open("f") as file:
        assert file.read() == b"".join(parts)
    assert synced[0] == sum(map(len, parts))


def test_a_data_directory_is_a_folder_or_a_url(tmp_path: Path) -> None:
    assert isinstance(open_files(str(tmp_path)), LocalFiles)
    assert isinstance(open_files(f"file://{tmp_path}"), LocalFiles)
    assert isinstance(open_files("memory://x"), RemoteFiles)
    with pytest.raises(StorageUnavailableError, match="nosuch"):
        open_files("nosuch://x")


def test_the_check_raises_if_nothing_can_be_written(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    check_files(files)
    assert files.names("checks") == []
    monkeypatch.setattr(type(files), "create", lambda *_: (_ for _ in ()).throw(StorageFullError("full")))
    with pytest.raises(StorageFullError):
        check_files(files)


def test_the_message_names_the_folder_that_is_full() -> None:
    with (
        pytest.raises(StorageFullError, match=r"^the folder for exports is full"),
        storage_errors("the folder for exports"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
