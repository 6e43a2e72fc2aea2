"""Compaction: merges many small files into few, so that a run of ten thousand batches is read as fast as one of ten.

As soon as a folder has `MERGED_AT_ONCE` files of one level, they are merged into one file of the next level. So each
row is written once per level, and there are few levels. The merged file appears in one step and names the files that it
replaces; readers ignore these. So a process may die at any moment: every row still exists, and counts once.

A replaced file is deleted as soon as no question reads the run (`Files.unread`), or a minute after it was replaced. A
reader that fails to open a listed file lists the folder again.
"""

from __future__ import annotations

import hashlib
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from typing import BinaryIO, Generic, Protocol, TypeVar

from service.storage.files import Files

MERGED_AT_ONCE = 32
LEVEL = re.compile(r"level(\d+)-")
# A file that is being read although another one replaces it is kept this long, since readers may never pause.
REPLACED_KEPT_S = 60.0
# getdents64 returns up to 32 KiB of names at a time; the longest names of batches take 136 bytes each.
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
    def replaces(self) -> Collection[str]:
        """Names of the files that were merged into this one; a set, if there may be many."""


F = TypeVar("F", bound=MergeableFile)


class MergedFolder(ABC, Generic[F]):
    """A folder of files that are never changed, only merged.

    Args:
        files: Files of the data directory.
        path: Path of the folder.
        readers: Folder whose readers may still read replaced files; None if files are read only while they are listed.
    """

    suffix: str
    """Ending of the file names."""
    large: int
    """Size (see `MergeableFile.size`) from which a file is not merged further."""

    def __init__(self, files: Files, path: str, readers: str | None = None) -> None:
        self.files = files
        self.path = path
        self.readers = readers

    @abstractmethod
    def read(self, name: str) -> F:
        """Read a file of the folder.

        Raises:
            FileNotFoundError: The file does not exist.
        """

    @abstractmethod
    def write(self, file: BinaryIO, group: Sequence[F], replaces: tuple[str, ...]) -> None:
        """Write the content of several files as one.

        Args:
            file: File to write to.
            group: Files to merge.
            replaces: Names of the files that the merged file replaces.
        """

    def live(self) -> list[F]:
        """The files that no other file replaces, sorted by name."""
        try:
            files = [self.read(name) for name in self._names() if name.endswith(self.suffix)]
        except FileNotFoundError:
            # A listed file was merged and deleted; a new listing has the merged file.
            return self.live()
        names = {file.name for file in files}
        replaced = {name for file in files for name in names.intersection(file.replaces)}
        return [file for file in files if file.name not in replaced]

    def obsolete(self, live: Sequence[F]) -> list[F]:
        """Files to write again, as one, before any are merged; most of their content does not count any more.

        Args:
            live: Result of `live`.
        """
        return []

    def _names(self) -> list[str]:
        """The names of all files, listed again if a merge may have run while they were listed."""
        names = self.files.names(self.path)
        # A long folder is listed in several steps. Meanwhile a merge may add its file to a part that was listed before,
        # and delete the replaced files from a part that was not: the listing would have neither.
        while len(names) > NAMES_LISTED_AT_ONCE:
            again = self.files.names(self.path)
            if not any(_level(name) for name in set(again) - set(names)):
                break
            names = again
        return names


def compact(folder: MergedFolder[F]) -> int:
    """Merge the files of a folder until no level has `MERGED_AT_ONCE` of them.

    Only one process merges a folder at a time; while another one does, this call does nothing.

    Returns:
        Number of files that were merged into others.
    """
    merged = 0
    with folder.files.lock(folder.path) as locked:
        while locked:
            live = folder.live()
            delete_replaced(folder, live)
            if group := folder.obsolete(live):
                _merge(folder, group, max(1, *(_level(file.name) for file in group)))
            elif group := _full_level(folder, live):
                _merge(folder, group, 1 + _level(group[0].name))
            else:
                break
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


def _merge(folder: MergedFolder[F], group: Sequence[F], level: int) -> None:
    # The files that the parts of the group replace may still exist.
    replaces = tuple(sorted({name for file in group for name in (file.name, *file.replaces)}))
    digest = hashlib.sha256("\n".join(replaces).encode()).hexdigest()[:16]
    path = f"{folder.path}/level{level}-{digest}{folder.suffix}"
    folder.files.create(path, lambda file: folder.write(file, group, replaces), within=folder.path)


def delete_replaced(folder: MergedFolder[F], live: Sequence[F]) -> None:
    """Delete the files that others replace, unless a reader that listed them may not have opened them all."""
    replacing = [file for file in live if file.replaces]
    if not replacing:
        return
    with nullcontext(True) if folder.readers is None else folder.files.unread(folder.readers) as unread:
        existing = set(folder.files.names(folder.path))
        for file in replacing:
            if unread or _has_replaced_long(folder, file):
                for name in existing.intersection(file.replaces):
                    folder.files.delete(f"{folder.path}/{name}")


def _has_replaced_long(folder: MergedFolder[F], file: F) -> bool:
    modified_at = folder.files.modified_at(f"{folder.path}/{file.name}")
    return modified_at is not None and time.time() - modified_at > REPLACED_KEPT_S
