"""A folder of this process for intermediate results of queries and for exports.

It is below a local data directory, whose disk has the space, and else in the system's temporary folder. The process
holds a lock in it, which the kernel releases when the process ends: folders without one are deleted at the next start.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
import weakref
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import BinaryIO
from uuid import uuid4

from service.storage.files import Files
from service.storage.local_files import remove_tree

FOLDER = "temporary"
LOCK = ".lock"
# A new folder is not locked yet.
NEW_S = 60.0


class TemporaryFolder:
    """A folder that is created when it is first used, and deleted with its files by `close`.

    Args:
        files: The data directory.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._path: Path | None = None
        self._owner: BinaryIO | None = None
        self._lock = Lock()

    def path(self) -> Path:
        """The folder.

        Raises:
            OSError: It cannot be created.
        """
        with self._lock:
            # The data directory may have been deleted while the service runs.
            if self._path is None or not self._path.is_dir():
                if self._owner is not None:
                    self._owner.close()
                self._path = self._create()
                new = self._path / f"{LOCK}.new"
                new.touch()
                # For reading: a file that is open for writing keeps the file system from being made read-only.
                self._owner = new.open("rb")
                fcntl.flock(self._owner, fcntl.LOCK_EX)
                new.rename(self._path / LOCK)
            return self._path

    def _create(self) -> Path:
        name = f"focal-loss-{os.getpid()}-{uuid4().hex[:12]}"
        if self._files.filesystem is None:
            # The data directory may be read-only.
            with suppress(OSError):
                path = Path(self._files.url(FOLDER)) / name
                path.mkdir(parents=True)
                return path
        return Path(tempfile.mkdtemp(prefix=f"{name}-"))

    def close(self) -> None:
        """Delete the folder."""
        with self._lock:
            if self._path is not None and self._owner is not None:
                self._owner.close()
                with suppress(OSError):
                    remove_tree(self._path)
                self._path = self._owner = None


class TemporaryFile:
    """A new file, which is deleted by `delete`, or when it is no longer referenced.

    A request whose client leaves does not take the result of its thread, so nothing else would delete the file.

    Args:
        folder: Folder of the file.
        prefix: Beginning of its name.

    Raises:
        OSError: It cannot be created.
    """

    def __init__(self, folder: Path, prefix: str) -> None:
        handle, name = tempfile.mkstemp(prefix=prefix, dir=folder)
        os.close(handle)
        self.path = Path(name)
        self.delete = weakref.finalize(self, self.path.unlink, missing_ok=True)


def sweep_temporary(files: Files) -> None:
    """Delete the temporary folders of processes that have ended."""
    if files.filesystem is not None:
        return
    parent = Path(files.url(FOLDER))
    for path in parent.iterdir() if parent.is_dir() else ():
        with suppress(OSError):
            if not _is_used(path):
                remove_tree(path)


def _is_used(path: Path) -> bool:
    try:
        with open(path / LOCK, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return time.time() - path.stat().st_mtime < NEW_S
    except BlockingIOError:
        return True
    return False
