from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.errors import StorageFullError, StorageUnavailableError
from service.storage.files import check_files, open_files
from service.storage.local_files import LocalFiles
from service.storage.remote_files import RemoteFiles


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


@pytest.mark.parametrize("location", ["folder", "memory"])
def test_the_check_raises_if_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    files = open_files(str(tmp_path) if location == "folder" else f"memory://{tmp_path.name}")
    check_files(files)
    assert files.names("checks") == []
    monkeypatch.setattr(type(files), "create", lambda *_: (_ for _ in ()).throw(StorageFullError("full")))
    with pytest.raises(StorageFullError):
        check_files(files)
