"""Merging many small files into few: a run of ten thousand batches or reviews is read as fast as one of ten.

As soon as a folder has `MERGED_AT_ONCE` files of one level, they are merged into one file of the next level. So each
row is written once per level, and there are few levels. The merged file appears in one step and names the files that it
replaces; these no longer count, and are deleted after that. So a process may die at any moment, and every row is still
there once. A reader whose listed files were deleted lists again.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import BinaryIO, Generic, Protocol, TypeVar

from service.runs.files import Files

MERGED_AT_ONCE = 32
LEVEL = re.compile(r"level(\d+)-")
# Linux lists up to 32 KiB of names in one step; the longest names of batches take 136 bytes each.
NAMES_LISTED_AT_ONCE = 200


class MergeableFile(Protocol):
    """A file of a folder whose files are merged."""

    @property
    def name(self) -> str:
        """Name of the file in its folder."""

    @property
    def size(self) -> int:
        """Number of rows or reviews."""

    @property
    def replaces(self) -> tuple[str, ...]:
        """Names of the files whose content it holds."""


F = TypeVar("F", bound=MergeableFile)


class MergedFolder(ABC, Generic[F]):
    """A folder of files that are never changed, only merged.

    Args:
        files: Of the data directory.
        path: Path of the folder.
    """

    suffix: str
    """Ending of the file names."""
    large: int
    """Files of this size are not merged any more."""

    def __init__(self, files: Files, path: str) -> None:
        self.files = files
        self.path = path

    @abstractmethod
    def read(self, name: str) -> F:
        """A file of the folder.

        Raises:
            FileNotFoundError: It is not there.
        """

    @abstractmethod
    def write(self, file: BinaryIO, group: Sequence[F], replaces: tuple[str, ...]) -> None:
        """Write the content of several files as one.

        Args:
            file: To write to.
            group: Files to merge.
            replaces: Names that the merged file replaces.
        """

    def live(self) -> list[F]:
        """The files that count, by name: those that no other file replaces."""
        try:
            there = [self.read(name) for name in self._names() if name.endswith(self.suffix)]
        except FileNotFoundError:
            # Merged and deleted since it was listed; the merged file was there before that.
            return self.live()
        replaced = {name for file in there for name in file.replaces}
        return [file for file in there if file.name not in replaced]

    def _names(self) -> list[str]:
        """The names of all files, listed again if a merge may have run while they were listed."""
        names = self.files.names(self.path)
        # A listing in several steps can miss both the merged file, added where it has been, and the deleted ones.
        while len(names) > NAMES_LISTED_AT_ONCE:
            again = self.files.names(self.path)
            if not any(_level(name) for name in set(again) - set(names)):
                break
            names = again
        return names


def compact(folder: MergedFolder[F]) -> int:
    """Merge the files of a folder as long as a level has enough of them.

    Only one process merges a folder at a time; while another one does, this call does nothing.

    Returns:
        Number of files that were merged into others.
    """
    merged = 0
    with folder.files.lock(folder.path) as locked:
        while locked:
            live = folder.live()
            _delete_replaced(folder, live)
            group = _full_level(folder, live)
            if not group:
                break
            _merge(folder, group)
            merged += len(group)
    return merged


def _level(name: str) -> int:
    match = LEVEL.match(name)
    return int(match[1]) if match else 0


def _full_level(folder: MergedFolder[F], live: Sequence[F]) -> list[F]:
    """The files of the lowest level that has enough of them, or none."""
    levels: dict[int, list[F]] = {}
    for file in live:
        if file.size < folder.large:
            levels.setdefault(_level(file.name), []).append(file)
    full = [level for level, files in levels.items() if len(files) >= MERGED_AT_ONCE]
    return levels[min(full)] if full else []


def _merge(folder: MergedFolder[F], group: Sequence[F]) -> None:
    # The files that the parts replace may still be there.
    replaces = tuple(sorted({name for file in group for name in (file.name, *file.replaces)}))
    level = 1 + max(_level(file.name) for file in group)
    digest = hashlib.sha256("\n".join(replaces).encode()).hexdigest()[:16]
    path = f"{folder.path}/level{level}-{digest}{folder.suffix}"
    folder.files.create(path, lambda file: folder.write(file, group, replaces))


def _delete_replaced(folder: MergedFolder[F], live: Sequence[F]) -> None:
    there = set(folder.files.names(folder.path))
    for file in live:
        for name in file.replaces:
            if name in there:
                folder.files.delete(f"{folder.path}/{name}")
