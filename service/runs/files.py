"""Files of the data directory: in a local folder, or at any URL that fsspec supports.

A file is written under a temporary name, synced, and linked to its name in one step, which fails if the name is taken.
So a reader never sees a partial file, even if the writing process dies.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast
from uuid import uuid4

import fsspec

from service.errors import LossServiceError, StorageFullError, StorageUnavailableError

STAGED = ".staged-"
# The process that wrote an older temporary file has died.
STAGED_MAX_AGE_S = 3600.0
WRITEBACK_BYTES = 512 * 1024
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


class Files(Protocol):
    """A tree of files, which are created and deleted, but never changed."""

    filesystem: Any
    """Filesystem to register with DuckDB, None for local paths."""

    def create(self, path: str, write: Callable[[BinaryIO], object]) -> bool:
        """Durably create a file and the folders above it; returns False and changes nothing if the name is taken."""

    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder, sorted; empty if there is no such folder."""

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder, sorted; empty if there is no such folder."""

    def exists(self, path: str) -> bool:
        """True if the file exists."""

    def modified(self, folder: str) -> dict[str, float]:
        """Names of the files in a folder with their modification times, in seconds since 1970."""

    def touch(self, path: str) -> None:
        """Set the modification time of a file to now, if it exists and the storage can."""

    def open(self, path: str) -> BinaryIO:
        """Open a file to read.

        Raises:
            FileNotFoundError: There is no such file.
        """

    def delete(self, path: str) -> None:
        """Delete a file if it exists."""

    def delete_folder(self, path: str) -> bool:
        """Delete a folder with all files, on a local disk in one step; False if there is no such folder."""

    def url(self, path: str) -> str:
        """URL or path of a file for DuckDB."""

    def lock(self, path: str) -> AbstractContextManager[bool]:
        """Context manager that locks a folder for merging; its value is False if the lock is not available."""


def open_files(location: str) -> Files:
    """Open a data directory at a path or URL; creates nothing.

    Raises:
        StorageUnavailableError: fsspec does not support the URL, or the package for it is not installed.
    """
    if "://" not in location:
        return LocalFiles(Path(location).expanduser())
    if location.startswith("file://"):
        return LocalFiles(Path(location.removeprefix("file://")))
    try:
        filesystem, root = fsspec.core.url_to_fs(location)
    except (ValueError, ImportError) as err:
        raise StorageUnavailableError(f"data_dir {location}: {err}") from err
    return RemoteFiles(filesystem, root)


@contextmanager
def storage_errors() -> Iterator[None]:
    """Convert errors of the operating system to errors of the service, except FileNotFoundError.

    Raises:
        StorageFullError: The disk or quota is full.
        StorageUnavailableError: Reading or writing is not possible.
    """
    try:
        yield
    except (FileNotFoundError, LossServiceError):
        raise
    except OSError as err:
        if err.errno in FULL:
            raise StorageFullError(f"the data directory is full: {err.strerror}") from err
        if err.errno in REFUSED:
            raise StorageUnavailableError(
                f"the data directory cannot be used: {err.strerror}", headers={"Retry-After": "30"}
            ) from err
        raise


class LocalFiles:
    """Files in a local folder; they survive a killed process and a power failure."""

    filesystem = None

    def __init__(self, root: Path) -> None:
        self._root = root

    def create(self, path: str, write: Callable[[BinaryIO], object]) -> bool:
        with storage_errors():
            target = self._root / path
            _make_folder(target.parent)
            staged = target.parent / f"{STAGED}{uuid4().hex}"
            try:
                with open(staged, "xb") as file:
                    write(cast(BinaryIO, _EarlyWriteback(file)))
                    file.flush()
                    os.fsync(file.fileno())
                # rename would replace a file of another process; link fails if the name is taken.
                os.link(staged, target)
            except FileExistsError:
                return False
            finally:
                staged.unlink(missing_ok=True)
            _sync_folder(target.parent)
        return True

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

    def modified(self, folder: str) -> dict[str, float]:
        times: dict[str, float] = {}
        for name in self.names(folder):
            with storage_errors(), suppress(FileNotFoundError):
                times[name] = (self._root / folder / name).stat().st_mtime
        return times

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

    def delete_folder(self, path: str) -> bool:
        target = self._root / path
        renamed = target.parent / f"{STAGED}{uuid4().hex}"
        try:
            with storage_errors():
                os.rename(target, renamed)
                _sync_folder(target.parent)
        except FileNotFoundError:
            return False
        shutil.rmtree(renamed, ignore_errors=True)
        return True

    def url(self, path: str) -> str:
        return str(self._root / path)

    @contextmanager
    def lock(self, path: str) -> Iterator[bool]:
        """Lock the folder with flock, and delete temporary files of dead processes.

        The kernel releases the lock when the process ends.
        """
        folder = self._root / path
        with storage_errors(), open(folder / ".lock", "wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            for staged in folder.glob(f"{STAGED}*"):
                with suppress(FileNotFoundError):
                    if time.time() - staged.stat().st_mtime > STAGED_MAX_AGE_S:
                        staged.unlink()
            yield True


class RemoteFiles:
    """Files in an object store, where a file appears, complete, when its writer closes it.

    fsspec has no atomic "create if absent": if two processes write the same name at the same time, the last one wins.
    So a batch must have one writer, and files are not merged.
    """

    def __init__(self, filesystem: Any, root: str) -> None:
        self.filesystem = filesystem
        self._root = root.rstrip("/")

    def _path(self, path: str) -> str:
        return f"{self._root}/{path}"

    def create(self, path: str, write: Callable[[BinaryIO], object]) -> bool:
        with storage_errors():
            target = self._path(path)
            if self.filesystem.exists(target):
                return False
            self.filesystem.makedirs(target.rpartition("/")[0], exist_ok=True)
            with self.filesystem.open(target, "wb") as file:
                write(file)
        return True

    def names(self, folder: str) -> list[str]:
        return sorted(name for name, kind in self._listing(folder) if kind == "file")

    def folders(self, folder: str) -> list[str]:
        return sorted(name for name, kind in self._listing(folder) if kind == "directory")

    def _listing(self, folder: str) -> list[tuple[str, str]]:
        with storage_errors(), suppress(FileNotFoundError):
            entries = self.filesystem.ls(self._path(folder), detail=True, refresh=True)
            return [(entry["name"].rstrip("/").rpartition("/")[2], entry["type"]) for entry in entries]
        return []

    def exists(self, path: str) -> bool:
        with storage_errors():
            return bool(self.filesystem.exists(self._path(path)))

    def modified(self, folder: str) -> dict[str, float]:
        times: dict[str, float] = {}
        for name in self.names(folder):
            with storage_errors(), suppress(FileNotFoundError, NotImplementedError):
                times[name] = self.filesystem.modified(f"{self._path(folder)}/{name}").timestamp()
        return times

    def touch(self, path: str) -> None:
        """Do nothing: in an object store a file keeps the time of its creation."""

    def open(self, path: str) -> BinaryIO:
        with storage_errors():
            file: BinaryIO = self.filesystem.open(self._path(path), "rb")
            return file

    def delete(self, path: str) -> None:
        with storage_errors(), suppress(FileNotFoundError):
            self.filesystem.rm_file(self._path(path))

    def delete_folder(self, path: str) -> bool:
        with storage_errors():
            if not self.filesystem.exists(self._path(path)):
                return False
            self.filesystem.rm(self._path(path), recursive=True)
        return True

    def url(self, path: str) -> str:
        protocol = self.filesystem.protocol
        return f"{protocol if isinstance(protocol, str) else protocol[0]}://{self._path(path).lstrip('/')}"

    @contextmanager
    def lock(self, path: str) -> Iterator[bool]:
        yield False


class _EarlyWriteback:
    """A file whose pages the kernel starts to write to disk early, so that the final fsync takes less time.

    Args:
        file: Empty file, open for writing.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._written = self._started = 0

    def write(self, data: Any) -> int:
        written = self._file.write(data)
        self._written += written
        # On POSIX_FADV_DONTNEED Linux starts to write dirty pages (mm/fadvise.c); macOS has no such call.
        if self._written - self._started >= WRITEBACK_BYTES and hasattr(os, "posix_fadvise"):
            self._file.flush()
            length = self._written - self._started
            os.posix_fadvise(self._file.fileno(), self._started, length, os.POSIX_FADV_DONTNEED)
            self._started = self._written
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _make_folder(folder: Path) -> None:
    """Create a folder and the folders above it durably."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir()
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; fsync of a file does not sync its name (fsync(2))."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
