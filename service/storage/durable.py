"""Files and folders on a local disk that survive a power failure: each step is synced before the next one."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

# File for a lock of the names in a folder, on a file system without hard links.
NAMES = ".names"
# Errors of link(2) on a file system without hard links, such as exFAT.
WITHOUT_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


def write_synced(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Create a file with durable content; its name is not durable yet."""
    with open(path, "xb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


def link(staged: Path, target: Path) -> bool:
    """Give a file its name in one step; False if the name is taken."""
    try:
        # rename would replace a file of another process; link fails if the name is taken.
        os.link(staged, target)
    except FileExistsError:
        return False
    except OSError as err:
        if err.errno not in WITHOUT_LINKS:
            raise
        with open(target.parent / NAMES, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.path.lexists(target):
                return False
            os.rename(staged, target)
    return True


def make_folder(folder: Path, existing: Path | None = None) -> None:
    """Create a folder and the folders above it durably.

    Args:
        folder: The folder.
        existing: A folder above it that is not created.

    Raises:
        FileNotFoundError: `existing` does not exist.
    """
    if folder.is_dir():
        return
    if folder == existing:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    make_folder(folder.parent, existing)
    with suppress(FileExistsError):
        folder.mkdir()
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; fsync of a file does not sync its name (fsync(2))."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
