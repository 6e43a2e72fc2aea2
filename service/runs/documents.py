"""Documents of a run, such as its queues."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, NamedTuple, Protocol, TypeVar

from service.runs.damage import named_damage
from service.runs.snapshot import Snapshot
from service.storage.cache import BoundedCache
from service.storage.files import Files

DOCUMENT_BYTES_CACHED = 64 * 1024 * 1024


class Document(Protocol):
    """A document, or a part of it, with a size in memory."""

    @property
    def nbytes(self) -> int:
        """Size in bytes."""


D = TypeVar("D", bound=Document)


class Documents:
    """The documents of runs, by kind and name: a file each, which is created and deleted, but never changed.

    Args:
        files: Files of the data directory.
        not_deleted: Context manager for writing into a run, see `RunStore`.
    """

    def __init__(self, files: Files, not_deleted: Callable[[Snapshot], AbstractContextManager[str]]) -> None:
        self._files = files
        self._not_deleted = not_deleted
        self._documents: BoundedCache[Any] = BoundedCache(DOCUMENT_BYTES_CACHED, lambda value: int(value.nbytes))

    def get(
        self, snapshot: Snapshot, folder: str, name: str, read: Callable[[BinaryIO], D], *, part: str = ""
    ) -> D | None:
        """The document of a kind and name, cached up to `DOCUMENT_BYTES_CACHED` in all; None if the run has none.

        Args:
            snapshot: The run.
            folder: Kind of the document.
            name: Name of the document.
            read: Reads the document, or a part of it, from its file.
            part: Name of what `read` returns.

        Raises:
            RunDamagedError: The file cannot be read, or `read` failed.
        """
        path = _path(snapshot, folder, name)

        def read_file() -> D:
            with self._files.open(path) as file:
                return read(file)

        try:
            with named_damage(path):
                document: D = self._documents.cached((*self._version(path), part), read_file)
                return document
        except FileNotFoundError:
            return None

    def derived(self, key: Hashable, version: Hashable, compute: Callable[[], D]) -> D:
        """The result of `compute`, cached with the documents until it is needed for another version of them.

        Args:
            key: Name of the result.
            version: The documents that it follows from.
            compute: Computes the result.
        """
        known = self._documents.get(("derived", key))
        if known is None or known.version != version:
            known = self._documents.put(("derived", key), _Derived(version, compute()))
        result: D = known.result
        return result

    def names(self, snapshot: Snapshot, folder: str) -> list[str]:
        """Names of the documents of a kind, sorted."""
        with named_damage(f"{snapshot.root}/{folder}"):
            names = self._files.names(f"{snapshot.root}/{folder}")
        return [name.removesuffix(".json") for name in names]

    def add(self, snapshot: Snapshot, folder: str, name: str, content: Iterable[bytes]) -> bool:
        """Store a document durably; False if the name is taken.

        Args:
            snapshot: The run.
            folder: Kind of the document.
            name: Name of the document.
            content: Parts of the file.

        Raises:
            UnknownRunError: The run was deleted in the meantime.
        """
        path = _path(snapshot, folder, name)

        def write(file: BinaryIO) -> None:
            for part in content:
                file.write(part)

        with self._not_deleted(snapshot) as within:
            return self._files.create(path, write, within=within)

    def delete(self, snapshot: Snapshot, folder: str, name: str) -> None:
        """Delete a document durably, if it exists."""
        path = _path(snapshot, folder, name)
        self._files.delete(path)
        self._files.sync(path)

    def _version(self, path: str) -> tuple[str, float]:
        """Path and time of a file: a document may be deleted, and another one get its name.

        Raises:
            FileNotFoundError: There is no such file.
        """
        modified = self._files.modified_at(path)
        if modified is None and not self._files.exists(path):
            raise FileNotFoundError(path)
        # Some object stores know no times.
        return path, modified or 0.0


class _Derived(NamedTuple):
    """A result that follows from a version of some documents."""

    version: Hashable
    result: Document

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.result.nbytes


def _path(snapshot: Snapshot, folder: str, name: str) -> str:
    return f"{snapshot.root}/{folder}/{name}.json"
