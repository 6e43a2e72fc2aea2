"""Files of the data directory: in a local folder, or at any URL that fsspec supports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from uuid import uuid4

import fsspec

from service.errors import StorageUnavailableError
from service.storage.local_files import CHECKS, LocalFiles
from service.storage.remote_files import RemoteFiles


class Files(Protocol):
    """A tree of files, which are created and deleted, but never changed."""

    filesystem: Any
    """Filesystem to register with DuckDB, None for local paths."""

    def create(self, path: str, write: Callable[[BinaryIO], object], *, within: str | None = None) -> bool:
        """Durably create a file and the folders above it; returns False and changes nothing if the name is taken.

        The file of that name is durable too when False is returned, even if another process is still writing it.

        Args:
            path: Path of the file.
            write: Writes the content.
            within: A folder above the file that is not created, so that nothing is written into a deleted run.

        Raises:
            FileNotFoundError: The folder `within` does not exist, or a folder was deleted meanwhile.
        """

    def create_folder(self, path: str, contents: Mapping[str, bytes]) -> bool:
        """Durably create a folder with files, on a local disk in one step; False if it exists and is not empty.

        Args:
            path: Path of the folder.
            contents: Content of each file, by its path in the folder; the first exists in every folder of this kind.
        """

    def sync(self, path: str) -> None:
        """Make the name of a file that another process has created durable.

        Raises:
            FileNotFoundError: Its folder does not exist.
        """

    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder, sorted; empty if there is no such folder."""

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder, sorted; empty if there is no such folder."""

    def exists(self, path: str) -> bool:
        """True if the file exists."""

    def modified_at(self, path: str) -> float | None:
        """Modification time of a file, in seconds since 1970; None if there is no such file."""

    def touch(self, path: str) -> None:
        """Set the modification time of a file to now, if it exists and the storage can."""

    def open(self, path: str) -> BinaryIO:
        """Open a file to read.

        Raises:
            FileNotFoundError: There is no such file.
        """

    def delete(self, path: str) -> None:
        """Delete a file if it exists."""

    def move(self, path: str, to: str) -> None:
        """Move a file or a folder to a name that is not taken.

        Raises:
            FileNotFoundError: There is no such file.
        """

    def delete_folder(self, path: str) -> bool:
        """Delete a folder with all files, on a local disk in one step; False if there is no such folder.

        Raises:
            StorageUnavailableError: The folder is gone from its place, but some of its files could not be deleted.
        """

    def url(self, path: str) -> str:
        """URL or path of a file for DuckDB."""

    def sweep(self) -> None:
        """Delete temporary files, and folders being deleted, of processes that have died.

        A temporary file may belong to a process of another service on the same folder, so it has to be an hour old.
        """

    def lock(self, path: str) -> AbstractContextManager[bool]:
        """Context manager that locks a folder for merging; its value is False if the lock is not available."""

    def appending(self, folder: str, *, within: str) -> AbstractContextManager[None]:
        """Context manager in which no other thread or process of this machine appends to a folder.

        On an object store, no other thread of this process.

        Args:
            folder: The folder, which is created.
            within: A folder above it that must exist.
        """

    def reading(self, folder: str) -> AbstractContextManager[None]:
        """Context manager that marks the files below a folder as read; see `unread`."""

    def unread(self, folder: str) -> AbstractContextManager[bool]:
        """Context manager whose value is True if no process reads files below a folder; readers wait until it ends."""


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
    # A cached listing lacks the files of other processes. No argument, since SFTP would pass it on to its client.
    filesystem.dircache.use_listings_cache = False
    return RemoteFiles(filesystem, root)


def modified_times(files: Files, folder: str) -> dict[str, float]:
    """Names of the files in a folder with their modification times, in seconds since 1970."""
    times = {name: files.modified_at(f"{folder}/{name}") for name in files.names(folder)}
    return {name: time for name, time in times.items() if time is not None}


def check_files(files: Files) -> None:
    """Check that a file can be written, read and deleted.

    Raises:
        StorageFullError, StorageUnavailableError: The check failed.
    """
    path = f"{CHECKS}/{uuid4().hex}"
    files.create(path, lambda file: file.write(b"ok"))
    try:
        with files.open(path) as file:
            content = file.read()
    finally:
        files.delete(path)
    if content != b"ok":
        raise StorageUnavailableError("a file in the data directory has other bytes than were written")
