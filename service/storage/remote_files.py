"""Files of the data directory in an object store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from service.storage.errors import storage_errors


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

    def create(self, path: str, write: Callable[[BinaryIO], object], *, within: str | None = None) -> bool:
        """Create a file; `within` is ignored, since an object store has no folders."""
        with storage_errors():
            target = self._path(path)
            if self.filesystem.exists(target):
                return False
            self.filesystem.makedirs(target.rpartition("/")[0], exist_ok=True)
            with self.filesystem.open(target, "wb") as file:
                write(file)
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
        with storage_errors(), suppress(FileNotFoundError):
            entries = self.filesystem.ls(self._path(folder), detail=True, refresh=True)
            return [(entry["name"].rstrip("/").rpartition("/")[2], entry["type"]) for entry in entries]
        return []

    def exists(self, path: str) -> bool:
        with storage_errors():
            return bool(self.filesystem.exists(self._path(path)))

    def modified_at(self, path: str) -> float | None:
        with storage_errors(), suppress(FileNotFoundError, NotImplementedError):
            return float(self.filesystem.modified(self._path(path)).timestamp())
        return None

    def touch(self, path: str) -> None:
        """Do nothing: in an object store a file keeps the time of its creation."""

    def open(self, path: str) -> BinaryIO:
        with storage_errors():
            file: BinaryIO = self.filesystem.open(self._path(path), "rb")
            return file

    def delete(self, path: str) -> None:
        with storage_errors(), suppress(FileNotFoundError):
            self.filesystem.rm_file(self._path(path))

    def move(self, path: str, to: str) -> None:
        with storage_errors():
            self.filesystem.mv(self._path(path), self._path(to), recursive=True)

    def delete_folder(self, path: str) -> bool:
        with storage_errors():
            if not self.filesystem.exists(self._path(path)):
                return False
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
    def reading(self, folder: str) -> Iterator[None]:
        yield

    @contextmanager
    def unread(self, folder: str) -> Iterator[bool]:
        yield True
