"""`replace_atomically`: a file is complete or absent, whatever the block does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.client.files import replace_atomically


def test_the_file_appears_after_the_block(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("old")
    with replace_atomically(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["out.csv"]


def test_an_error_in_the_block_leaves_the_old_file(tmp_path: Path) -> None:
    path, folder = tmp_path / "out.csv", tmp_path / "parts"
    folder.mkdir()
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replace_atomically(path, folder) as temporary:
        temporary.write_text("half")
        assert temporary.parent == folder
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(folder.iterdir()) == []


def test_a_device_or_a_pipe_is_written_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with replace_atomically(pipe) as written:
        assert written == pipe
    assert pipe.is_fifo()
