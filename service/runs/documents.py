"""JSON documents of a run, such as its queues."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar, cast

import orjson
from pydantic import TypeAdapter

from service.runs.damage import named_damage
from service.runs.snapshot import Snapshot
from service.storage.cache import BoundedCache
from service.storage.files import Files

DOCUMENT_BYTES_CACHED = 64 * 1024 * 1024
DERIVED_BYTES_CACHED = 64 * 1024 * 1024


class HasSize(Protocol):
    """A value with a size in memory."""

    @property
    def nbytes(self) -> int:
        """Size in bytes."""


D = TypeVar("D", bound=HasSize)
T = TypeVar("T")


class Documents:
    """The documents of runs, by kind and name: a file each, which is created and deleted, but never changed.

    Args:
        files: Files of the data directory.
        not_deleted: Context manager for writing into a run, see `RunStore`.
    """

    def __init__(self, files: Files, not_deleted: Callable[[Snapshot], AbstractContextManager[str]]) -> None:
        self._files = files
        self._not_deleted = not_deleted
        self._contents: BoundedCache[bytes] = BoundedCache(DOCUMENT_BYTES_CACHED, len)
        self._derived: BoundedCache[Any] = BoundedCache(DERIVED_BYTES_CACHED, lambda value: int(value.nbytes))

    def get(self, snapshot: Snapshot, folder: str, name: str, adapter: TypeAdapter[T]) -> T | None:
        """The document of a kind and name; None if the run has none.

        Args:
            snapshot: The run.
            folder: Kind of the document.
            name: Name of the document.
            adapter: Type of the document.

        Raises:
            RunDamagedError: The file cannot be read, or has another type.
        """
        path = _path(snapshot, folder, name)

        def read() -> bytes:
            with self._files.open(path) as file:
                return file.read()

        try:
            with named_damage(path):
                document = orjson.loads(self._contents.cached(self._version(path), read))
                # The document itself, not the adapter's copy: it has the members of later versions too.
                adapter.validate_python(document)
                return cast(T, document)
        except FileNotFoundError:
            return None

    def derived(self, snapshot: Snapshot, folder: str, name: str, compute: Callable[[], D]) -> D:
        """A value that `compute` derives from a document; cached, up to `DERIVED_BYTES_CACHED` in all.

        Args:
            snapshot: The run.
            folder: Kind of the document.
            name: Name of the document.
            compute: Computes the value; its errors are not cached.

        Raises:
            RunDamagedError: `compute` failed, since the document has not the expected content.
        """
        path = _path(snapshot, folder, name)
        with named_damage(path):
            try:
                version = self._version(path)
            except FileNotFoundError:
                # The error of `compute` says what is missing.
                return compute()
            value: D = self._derived.cached(version, compute)
            return value

    def names(self, snapshot: Snapshot, folder: str) -> list[str]:
        """Names of the documents of a kind, sorted."""
        with named_damage(f"{snapshot.root}/{folder}"):
            names = self._files.names(f"{snapshot.root}/{folder}")
        return [name.removesuffix(".json") for name in names]

    def add(self, snapshot: Snapshot, folder: str, name: str, value: object) -> bool:
        """Store a document durably; False if the name is taken.

        Raises:
            UnknownRunError: The run was deleted in the meantime.
        """
        content = orjson.dumps(value)
        path = _path(snapshot, folder, name)
        with self._not_deleted(snapshot) as within:
            return self._files.create(path, lambda file: file.write(content), within=within)

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


def _path(snapshot: Snapshot, folder: str, name: str) -> str:
    return f"{snapshot.root}/{folder}/{name}.json"
