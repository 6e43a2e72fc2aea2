"""Files of the data directory in a local folder.

A file is written under a temporary name, synced, and linked to its name in one step, which fails if the name is taken.
So a reader never sees a partial file, even if the writing process dies.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from operator import methodcaller
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from service.storage.durable import link, make_folder, sync_folder, write_synced
from service.storage.errors import storage_errors

# Beginnings of the names of temporary files and folders, and of folders that are being deleted.
STAGED, DELETED = ".staged-", ".deleted-"
# The process that wrote an older temporary file has died.
STAGED_MAX_AGE_S = 3600.0
# Folder of files that are written, read and deleted to check the storage.
CHECKS = "checks"
# Files for locks: of the process that merges a folder, of the thread that appends to it, and of its readers.
MERGING, APPENDING, READERS = ".lock", ".appending", ".readers"


class LocalFiles:
    """Files in a local folder; they survive a killed process and a power failure."""

    filesystem = None

    def __init__(self, root: Path) -> None:
        self._root = root

    def create(self, path: str, write: Callable[[BinaryIO], object], *, within: str | None = None) -> bool:
        with storage_errors():
            target = self._root / path
            make_folder(target.parent, None if within is None else self._root / within)
            staged = target.parent / f"{STAGED}{uuid4().hex}"
            try:
                write_synced(staged, write)
                new = link(staged, target)
            finally:
                with suppress(FileNotFoundError):
                    staged.unlink()
            sync_folder(target.parent)
        return new

    def create_folder(self, path: str, contents: Mapping[str, bytes]) -> bool:
        target = self._root / path
        with storage_errors():
            make_folder(target.parent)
            staged = target.parent / f"{STAGED}{uuid4().hex}"
            try:
                staged.mkdir()
                for name, content in contents.items():
                    make_folder((staged / name).parent)
                    write_synced(staged / name, methodcaller("write", content))
                    sync_folder((staged / name).parent)
                # rename replaces an empty folder, and fails for any other.
                os.rename(staged, target)
            except OSError as err:
                with suppress(FileNotFoundError):
                    remove_tree(staged)
                if err.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
                return False
            sync_folder(target.parent)
        return True

    def sync(self, path: str) -> None:
        with storage_errors():
            # The process that created the file, or a folder above it, may have died before it synced the name.
            for folder in (self._root / path).parents:
                sync_folder(folder)
                if folder == self._root:
                    return

    def names(self, folder: str) -> list[str]:
        with storage_errors(), suppress(FileNotFoundError), os.scandir(self._root / folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file())
        return []

    def folders(self, folder: str) -> list[str]:
        with storage_errors(), suppress(FileNotFoundError), os.scandir(self._root / folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
        return []

    def exists(self, path: str) -> bool:
        with storage_errors():
            return (self._root / path).is_file()

    def modified_at(self, path: str) -> float | None:
        with storage_errors(), suppress(FileNotFoundError):
            return (self._root / path).stat().st_mtime
        return None

    def touch(self, path: str) -> None:
        with storage_errors(), suppress(FileNotFoundError):
            # Without an explicit time the kernel uses its coarse clock: touches within 4 ms would get the same time.
            now = time.time_ns()
            os.utime(self._root / path, ns=(now, now))

    def open(self, path: str) -> BinaryIO:
        with storage_errors():
            return open(self._root / path, "rb")

    def delete(self, path: str) -> None:
        with storage_errors():
            (self._root / path).unlink(missing_ok=True)

    def move(self, path: str, to: str) -> None:
        source, target = self._root / path, self._root / to
        with storage_errors():
            make_folder(target.parent)
            os.rename(source, target)
            sync_folder(target.parent)
            sync_folder(source.parent)

    def delete_folder(self, path: str) -> bool:
        target = self._root / path
        renamed = target.parent / f"{DELETED}{uuid4().hex}"
        try:
            with storage_errors():
                os.rename(target, renamed)
                sync_folder(target.parent)
        except FileNotFoundError:
            return False
        with storage_errors("a deleted folder"):
            remove_tree(renamed)
        return True

    def url(self, path: str) -> str:
        return str(self._root / path)

    def sweep(self) -> None:
        for parent, folders, names in os.walk(self._root):
            folder = Path(parent)
            for name in [name for name in folders if name.startswith((STAGED, DELETED))]:
                folders.remove(name)
                with suppress(OSError):
                    if name.startswith(DELETED) or _is_old(folder / name):
                        remove_tree(folder / name)
            for name in names:
                if name.startswith(STAGED) or folder.name == CHECKS:
                    _delete_old(folder / name)
            # A process may have died between the creation of a folder and that of the first file in it.
            if not folders and not names and folder != self._root:
                _delete_old(folder)

    @contextmanager
    def lock(self, path: str) -> Iterator[bool]:
        """Lock the folder with flock, and delete temporary files of dead processes.

        The kernel releases the lock when the process ends.
        """
        folder = self._root / path
        with storage_errors(), open(folder / MERGING, "wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            for staged in folder.glob(f"{STAGED}*"):
                _delete_old(staged)
            yield True

    @contextmanager
    def appending(self, folder: str, *, within: str) -> Iterator[None]:
        """Hold a flock on a file of the folder, which the kernel releases when the process ends."""
        with ExitStack() as stack:
            with storage_errors():
                make_folder(self._root / folder, self._root / within)
                file = stack.enter_context(open(self._root / folder / APPENDING, "ab"))
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def reading(self, folder: str) -> Iterator[None]:
        """Hold a shared flock on a file of the folder; nothing is locked if the folder is missing or read-only."""
        with ExitStack() as stack:
            with suppress(OSError):
                file = stack.enter_context(open(self._root / folder / READERS, "ab"))
                fcntl.flock(file, fcntl.LOCK_SH)
            yield

    @contextmanager
    def unread(self, folder: str) -> Iterator[bool]:
        with ExitStack() as stack:
            free = False
            with suppress(OSError):
                file = stack.enter_context(open(self._root / folder / READERS, "ab"))
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                free = True
            yield free


def _is_old(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > STAGED_MAX_AGE_S


def _delete_old(path: Path) -> None:
    """Delete a file or an empty folder that no living process is about to use."""
    with suppress(OSError):
        if _is_old(path):
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink()


def remove_tree(folder: Path) -> None:
    """Delete a folder that another process may be deleting too.

    Raises:
        OSError: Something could not be deleted.
    """
    while folder.exists():
        # The other process has deleted a file between its listing and its deletion here.
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)
