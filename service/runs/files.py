"""Where runs are kept: a local folder, or any place that fsspec knows by its URL.

A file is written beside its place, synced, and then put there in one step that fails where the name is taken. So a
reader never sees half a file, whatever dies when.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast
from uuid import uuid4

import fsspec

from service.errors import LossServiceError, StorageFullError, StorageUnavailableError

STAGED = ".staged-"
# A file that is still being written is younger than this; an older one was left by a process that died.
STAGED_FOR_AT_MOST_S = 3600.0
AHEAD_BYTES = 512 * 1024
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


class Files(Protocol):
    """A tree of files that are created once, never changed, and deleted."""

    filesystem: Any
    """For DuckDB, where the paths are not local; else None."""

    def create(self, path: str, write: Callable[[BinaryIO], object]) -> bool:
        """Durably create a file and the folders above it; False, and nothing changed, where the name is taken."""

    def names(self, folder: str) -> list[str]:
        """The names of the files in a folder, sorted; none where it is not there."""

    def folders(self, folder: str) -> list[str]:
        """The names of the folders in a folder."""

    def exists(self, path: str) -> bool:
        """True if the file is there."""

    def modified(self, folder: str) -> dict[str, float]:
        """The names of the files in a folder with the times of their last change, seconds since 1970."""

    def touch(self, path: str) -> None:
        """Set the time of a file's last change to now; does nothing where the file is gone or the place cannot."""

    def open(self, path: str) -> BinaryIO:
        """A file to read.

        Raises:
            FileNotFoundError: It is not there.
        """

    def delete(self, path: str) -> None:
        """Delete a file; nothing happens where it is not there."""

    def delete_folder(self, path: str) -> bool:
        """Take a folder away as a whole; False where it is not there."""

    def url(self, path: str) -> str:
        """The name of a file for DuckDB."""

    def lock(self, path: str) -> Any:
        """A context that is True where this process alone may rearrange the folder."""


def open_files(location: str) -> Files:
    """The files at a folder or URL; nothing is created yet.

    Raises:
        StorageUnavailableError: fsspec does not know the URL, or the package for it is missing.
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
    """Turns what the disk says into errors of the service; a file that is not there stays what it is.

    Raises:
        StorageFullError: No room is left.
        StorageUnavailableError: Reading or writing is refused.
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
    """Files below a local folder, durable against the end of the process and of the power."""

    filesystem = None

    def __init__(self, root: Path) -> None:
        self._root = root

    def create(self, path: str, write: Callable[[BinaryIO], object]) -> bool:
        with storage_errors():
            place = self._root / path
            _make_folder(place.parent)
            staged = place.parent / f"{STAGED}{uuid4().hex}"
            try:
                with open(staged, "xb") as file:
                    write(cast(BinaryIO, _Ahead(file)))
                    file.flush()
                    os.fsync(file.fileno())
                # Not rename, which would replace a file that another process has put there.
                os.link(staged, place)
            except FileExistsError:
                return False
            finally:
                staged.unlink(missing_ok=True)
            _sync_folder(place.parent)
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
        found: dict[str, float] = {}
        for name in self.names(folder):
            with storage_errors(), suppress(FileNotFoundError):
                found[name] = (self._root / folder / name).stat().st_mtime
        return found

    def touch(self, path: str) -> None:
        with storage_errors(), suppress(FileNotFoundError):
            # Without a time the kernel takes one of its coarse clock, and touches within 4 ms would have no order.
            now = time.time_ns()
            os.utime(self._root / path, ns=(now, now))

    def open(self, path: str) -> BinaryIO:
        with storage_errors():
            return open(self._root / path, "rb")

    def delete(self, path: str) -> None:
        with storage_errors():
            (self._root / path).unlink(missing_ok=True)

    def delete_folder(self, path: str) -> bool:
        place = self._root / path
        doomed = place.parent / f"{STAGED}{uuid4().hex}"
        try:
            with storage_errors():
                os.rename(place, doomed)
                _sync_folder(place.parent)
        except FileNotFoundError:
            return False
        shutil.rmtree(doomed, ignore_errors=True)
        return True

    def url(self, path: str) -> str:
        return str(self._root / path)

    @contextmanager
    def lock(self, path: str) -> Iterator[bool]:
        """The kernel lets the lock go when the process ends, however it ends. Sweeps up what a dead one left."""
        folder = self._root / path
        with storage_errors(), open(folder / ".lock", "wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            for staged in folder.glob(f"{STAGED}*"):
                with suppress(FileNotFoundError):
                    if time.time() - staged.stat().st_mtime > STAGED_FOR_AT_MOST_S:
                        staged.unlink()
            yield True


class RemoteFiles:
    """Files of an object store, where a file appears whole when it is closed.

    Such stores know no "create where nothing is": of two processes that write one name in the same moment the last
    one wins. So one batch has one writer, as the contract's names make it, and nothing is rearranged here.
    """

    def __init__(self, filesystem: Any, root: str) -> None:
        self.filesystem = filesystem
        self._root = root.rstrip("/")

    def _path(self, path: str) -> str:
        return f"{self._root}/{path}"

    def create(self, path: str, write: Callable[[BinaryIO], object]) -> bool:
        with storage_errors():
            place = self._path(path)
            if self.filesystem.exists(place):
                return False
            self.filesystem.makedirs(place.rpartition("/")[0], exist_ok=True)
            with self.filesystem.open(place, "wb") as file:
                write(file)
        return True

    def names(self, folder: str) -> list[str]:
        return sorted(name for name, kind in self._listing(folder) if kind == "file")

    def folders(self, folder: str) -> list[str]:
        return sorted(name for name, kind in self._listing(folder) if kind == "directory")

    def _listing(self, folder: str) -> list[tuple[str, str]]:
        with storage_errors(), suppress(FileNotFoundError):
            found = self.filesystem.ls(self._path(folder), detail=True, refresh=True)
            return [(one["name"].rstrip("/").rpartition("/")[2], one["type"]) for one in found]
        return []

    def exists(self, path: str) -> bool:
        with storage_errors():
            return bool(self.filesystem.exists(self._path(path)))

    def modified(self, folder: str) -> dict[str, float]:
        found: dict[str, float] = {}
        for name in self.names(folder):
            with storage_errors(), suppress(FileNotFoundError, NotImplementedError):
                found[name] = self.filesystem.modified(f"{self._path(folder)}/{name}").timestamp()
        return found

    def touch(self, path: str) -> None:
        """Object stores cannot: there a file keeps the time of its creation."""

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


class _Ahead:
    """A file that the kernel begins to write while more of it is made, so that fsync has less left to wait for.

    Args:
        file: Opened to write, at its start.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._made = self._begun = 0

    def write(self, data: Any) -> int:
        written = self._file.write(data)
        self._made += written
        # Linux begins to write what is dirty of a range that is not needed (mm/fadvise.c); macOS has no such call.
        if self._made - self._begun >= AHEAD_BYTES and hasattr(os, "posix_fadvise"):
            self._file.flush()
            os.posix_fadvise(self._file.fileno(), self._begun, self._made - self._begun, os.POSIX_FADV_DONTNEED)
            self._begun = self._made
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir()
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable (fsync(2), "Calling fsync() does not necessarily ...")."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
