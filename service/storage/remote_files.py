"""Files of the data directory in an object store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from io import BytesIO
from threading import Lock
from typing import Any, BinaryIO, cast

from service.storage.errors import storage_errors

remote_errors = partial(storage_errors, of=Exception)


class RemoteFiles:
    """Files in an object store, where a file appears, complete, in one step.

    fsspec has no atomic "create if absent": if two processes write the same name at the same time, the last one wins.
    So a batch must have one writer, and files are not merged.
    """

    def __init__(self, filesystem: Any, root: str) -> None:
        self.filesystem = filesystem
        self._root = root.rstrip("/")
        self._appending = Lock()

    def _path(self, path: str) -> str:
        return f"{self._root}/{path}"

    def create(self, path: str, write: Callable[[BinaryIO], object], *, within: str | None = None) -> bool:
        """Create a file; `within` is ignored, since an object store has no folders."""
        if self._kind(path) is not None:
            return False
        # A file of fsspec appears with half of its content if `write` fails.
        content = BytesIO()
        write(content)
        with remote_errors():
            target = self._path(path)
            self.filesystem.makedirs(target.rpartition("/")[0], exist_ok=True)
            self.filesystem.pipe_file(target, content.getvalue())
        return True

    def create_folder(self, path: str, contents: Mapping[str, bytes]) -> bool:
        first, *others = contents
        if not self._write(f"{path}/{first}", contents[first]):
            return False
        for name in others:
            self._write(f"{path}/{name}", contents[name])
        return True

    def _write(self, path: str, content: bytes) -> bool:
        return self.create(path, lambda file: file.write(content))

    def sync(self, path: str) -> None:
        """Do nothing: a file that can be seen is durable."""

    def names(self, folder: str) -> list[str]:
        return sorted(name for name, kind in self._listing(folder) if kind == "file")

    def folders(self, folder: str) -> list[str]:
        return sorted(name for name, kind in self._listing(folder) if kind == "directory")

    def _listing(self, folder: str) -> list[tuple[str, str]]:
        with remote_errors(), suppress(FileNotFoundError):
            entries = self.filesystem.ls(self._path(folder), detail=True, refresh=True)
            return [(entry["name"].rstrip("/").rpartition("/")[2], entry["type"]) for entry in entries]
        return []

    def exists(self, path: str) -> bool:
        return self._kind(path) == "file"

    def _kind(self, path: str) -> str | None:
        """Return `file` or `directory`, or None if there is neither; `exists` of fsspec hides that a store is down."""
        with remote_errors(), suppress(FileNotFoundError):
            return str(self.filesystem.info(self._path(path))["type"])
        return None

    def modified_at(self, path: str) -> float | None:
        with remote_errors(), suppress(FileNotFoundError, NotImplementedError):
            return float(self.filesystem.modified(self._path(path)).timestamp())
        return None

    def touch(self, path: str) -> None:
        """Do nothing: in an object store a file keeps the time of its creation."""

    def open(self, path: str) -> BinaryIO:
        with remote_errors():
            return cast(BinaryIO, _RemoteFile(self.filesystem.open(self._path(path), "rb")))

    def delete(self, path: str) -> None:
        with remote_errors(), suppress(FileNotFoundError):
            self.filesystem.rm_file(self._path(path))

    def move(self, path: str, to: str) -> None:
        with remote_errors():
            self.filesystem.mv(self._path(path), self._path(to), recursive=True)

    def delete_folder(self, path: str) -> bool:
        if self._kind(path) is None:
            return False
        with remote_errors():
            self.filesystem.rm(self._path(path), recursive=True)
        return True

    def url(self, path: str) -> str:
        protocol = self.filesystem.protocol
        return f"{protocol if isinstance(protocol, str) else protocol[0]}://{self._path(path).lstrip('/')}"

    def sweep(self) -> None:
        """Do nothing: an object store has no temporary files."""

    @contextmanager
    def lock(self, path: str) -> Iterator[bool]:
        yield False

    @contextmanager
    def appending(self, folder: str, *, within: str) -> Iterator[None]:
        with self._appending:
            yield

    @contextmanager
    def reading(self, folder: str) -> Iterator[None]:
        yield

    @contextmanager
    def unread(self, folder: str) -> Iterator[bool]:
        yield True


class _RemoteFile:
    """A file that is open for reading, whose errors are errors of the service."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __enter__(self) -> _RemoteFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._file, name)
        return remote_errors()(member) if callable(member) else member
