"""Files that are either complete or absent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replace_atomically(path: Path, folder: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path whose file replaces `path` after the block, synced to disk, unless the block raises.

    Args:
        path: File to create or replace. A device or a named pipe, e.g. /dev/null, is written directly.
        folder: Folder of the temporary file, on the same disk. Default: that of `path`.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    temporary = (folder or path.parent) / f".{path.name}.{os.getpid()}.tmp"
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        if os.name == "posix":
            _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
