"""Finds damaged files of runs in a data directory, and repairs what can be repaired."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, Protocol
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc

from service.errors import RunDamagedError, UnknownRunError
from service.runs.annotation_files import AnnotationFolder
from service.runs.check_data import check_data
from service.runs.damage import named_damage
from service.runs.data_files import DataFile
from service.runs.documents import Document
from service.runs.epoch_files import EpochFolder
from service.runs.manifest import Manifest
from service.runs.parquet import read_rows
from service.runs.review_files import ReviewCache, ReviewFolder
from service.runs.snapshot import Snapshot
from service.runs.store import EPOCH, MANIFEST, UID, RunStore

# Folder of a run for the files that a repair has taken out of the way.
DAMAGED = "damaged"


@dataclass(frozen=True)
class Finding:
    """A damaged file of a run.

    Args:
        run: Name of the run.
        file: Path of the file in the folder of the run.
        problem: The damage.
        remedy: Effect of the repair, and what to do afterwards.
        repair: Repairs it; None if that is not possible.
    """

    run: str
    file: str
    problem: str
    remedy: str
    repair: Callable[[], object] | None = None


class DocumentOfExamples(Document, Protocol):
    """A document that names examples."""

    @property
    def ids(self) -> Iterable[str]:
        """Ids of the examples."""


DocumentReaders = Mapping[str, Callable[[BinaryIO], DocumentOfExamples]]


class Verification:
    """Reads every file of a run.

    Args:
        store: The store.
        run: Name of the run.
        documents: Reads the documents in each folder for them.
    """

    def __init__(self, store: RunStore, run: str, documents: DocumentReaders) -> None:
        self._store = store
        self._files = store.files
        self._run = run
        self._folder = f"runs/{run}"
        self._readers = documents
        self._wanted: set[str] = set()

    def findings(self) -> Iterator[Finding]:
        """The damaged files.

        Raises:
            UnknownRunError: No run has this name.
        """
        try:
            manifest = self._store.manifest(self._run)
        except RunDamagedError as err:
            copy = self._copy()
            yield self._damaged_manifest(err, copy)
            if copy is None:
                return
            manifest = copy
        with self._files.reading(f"{self._folder}/{manifest.uid}"):
            yield from self._data(manifest)

    def _data(self, manifest: Manifest) -> Iterator[Finding]:
        root = f"{self._folder}/{manifest.uid}"
        yield from self._other_folders(manifest)
        yield from self._documents(
            Snapshot(self._run, manifest, None, (), self._files, self._store.annotation_folder(root))
        )
        yield from self._reviews(root)
        yield from self._annotations(self._store.annotation_folder(root))
        yield from self._num_classes(root, manifest)
        live: list[DataFile] = []
        for epoch in self._files.folders(f"{root}/epochs"):
            if EPOCH.fullmatch(epoch):
                yield from self._epoch(self._store.epoch_folder(root, int(epoch)), live)
        yield from self._missing_rows(live)

    def _finding(self, path: str, problem: str, remedy: str, repair: Callable[[], object] | None = None) -> Finding:
        file = path.removeprefix(f"{self._folder}/")
        return Finding(self._run, file, problem, remedy, repair)

    def _set_aside(self, path: str, err: RunDamagedError, remedy: str) -> Finding:
        def repair() -> None:
            self._move(path)

        return self._finding(path, err.fault, f"{remedy}; the file moves to {DAMAGED}/", repair)

    def _move(self, path: str) -> None:
        rest = path.removeprefix(f"{self._folder}/")
        target = f"{self._folder}/{DAMAGED}/{rest}"
        parent, name = PurePosixPath(target).parent, PurePosixPath(target).name
        taken = {*self._files.names(str(parent)), *self._files.folders(str(parent))}
        self._files.move(path, f"{target}-{uuid4().hex[:8]}" if name in taken else target)

    def _copy(self) -> Manifest | None:
        """The copy of the manifest in the folder of the data, if it can be read."""
        for uid in filter(UID.fullmatch, self._files.folders(self._folder)):
            path = f"{self._folder}/{uid}/{MANIFEST}"
            try:
                with named_damage(path), self._files.open(path) as file:
                    manifest = Manifest.read(path, file.read())
            except (FileNotFoundError, RunDamagedError):
                continue
            if manifest.uid == uid:
                return manifest
        return None

    def _damaged_manifest(self, err: RunDamagedError, copy: Manifest | None) -> Finding:
        path = f"{self._folder}/{MANIFEST}"
        if copy is None:
            remedy = "configuration and class names are lost: restore the file from a backup, or delete the run"
            return self._finding(path, err.fault, remedy)

        def repair() -> None:
            if MANIFEST in (*self._files.names(self._folder), *self._files.folders(self._folder)):
                self._move(path)
            self._files.create(path, lambda file: file.write(copy.content))

        return self._finding(path, err.fault, "it is written again from its copy", repair)

    def _other_folders(self, manifest: Manifest) -> Iterator[Finding]:
        for name in self._files.folders(self._folder):
            if UID.fullmatch(name) and name != manifest.uid:
                err = RunDamagedError.of(self._run, name, "does not belong to this run")
                yield self._set_aside(f"{self._folder}/{name}", err, "nothing is lost")

    def _documents(self, snapshot: Snapshot) -> Iterator[Finding]:
        for folder, read in self._readers.items():
            for name in self._store.documents.names(snapshot, folder):
                try:
                    document = self._store.documents.get(snapshot, folder, name, read)
                except RunDamagedError as err:
                    yield self._set_aside(f"{snapshot.root}/{folder}/{name}.json", err, "create it again")
                else:
                    self._wanted.update(() if document is None else document.ids)

    def _reviews(self, root: str) -> Iterator[Finding]:
        folder = ReviewFolder(self._files, root, ReviewCache())
        for name in self._files.names(folder.path):
            try:
                reviews = folder.read(name)
            except RunDamagedError as err:
                yield self._set_aside(f"{folder.path}/{name}", err, "its verdicts are lost, unless it was merged")
            else:
                self._wanted.update(review["id"] for reviews in reviews.lists.values() for review in reviews)

    def _annotations(self, folder: AnnotationFolder) -> Iterator[Finding]:
        for name in self._files.names(folder.path):
            try:
                folder.check(folder.read(name))
            except FileNotFoundError:
                # The service has merged it since.
                continue
            except RunDamagedError as err:
                yield self._set_aside(f"{folder.path}/{name}", err, "send its annotations again, unless it was merged")

    def _num_classes(self, root: str, manifest: Manifest) -> Iterator[Finding]:
        try:
            self._store.num_classes(root, manifest)
        except RunDamagedError as err:
            path = f"{root}/num_classes.json"
            yield self._set_aside(path, err, "the next batch writes it again")

    def _epoch(self, folder: EpochFolder, live: list[DataFile]) -> Iterator[Finding]:
        """The damaged files of an epoch; adds the others that count to `live`."""
        names = [name for name in self._files.names(folder.path) if name.endswith(folder.suffix)]
        read: list[DataFile] = []
        for name in names:
            try:
                read.append(folder.read(name))
            except FileNotFoundError:
                # The service has merged it since.
                continue
            except RunDamagedError as err:
                remedy = f"push the batches of epoch {folder.epoch} again"
                if name.startswith("batch-"):
                    batch = name.removeprefix("batch-").removesuffix(folder.suffix).partition("~")[0]
                    remedy = f"push batch {batch} of epoch {folder.epoch} again, unless it was merged"
                yield self._set_aside(f"{folder.path}/{name}", err, remedy)
        replaced = {name for file in read for name in file.replaces}
        for file in read:
            if file.name not in replaced:
                try:
                    check_data(self._files, file)
                    live.append(file)
                except RunDamagedError as err:
                    yield self._set_aside(file.path, err, self._remedy(file, names))

    @staticmethod
    def _remedy(file: DataFile, names: list[str]) -> str:
        present = set(file.replaces).intersection(names)
        if present:
            return f"{len(present)} files that it has replaced count again"
        batches = ", ".join(list(file.batches)[:20]) + (", ..." if len(file.batches) > 20 else "")
        return f"push these batches of epoch {file.epoch} again: {batches}"

    def _missing_rows(self, live: list[DataFile]) -> Iterator[Finding]:
        """A finding if queues or reviews name examples that no batch has, although nothing was deleted."""
        if not self._wanted or any(file.footer.deleted for file in live):
            return
        missing, wanted = set(self._wanted), pa.array(sorted(self._wanted), pa.string())
        for file in live:
            for rows in read_rows(self._files, file, ["batch", "id"]):
                missing.difference_update(rows["id"].filter(pc.is_in(rows["id"], wanted)).to_pylist())
        if missing:
            problem = f"lacks {len(missing)} examples of queues and reviews, such as {min(missing)[:100]!r}"
            yield self._finding(f"{self._folder}/epochs", problem, "a batch is gone: push it again")


def verify(store: RunStore, run: str | None, documents: DocumentReaders) -> Iterator[Finding]:
    """Find the damaged files of a run, or of all runs.

    Files written by other processes meanwhile are not damaged: a file that disappears was merged or deleted.

    Args:
        store: The store.
        run: Name of the run; None for all runs.
        documents: Reads the documents in each folder for them.

    Raises:
        UnknownRunError: No run has this name.
    """
    for name in store.names() if run is None else [run]:
        try:
            yield from Verification(store, name, documents).findings()
        except (FileNotFoundError, UnknownRunError):
            # Another process has deleted the run, unless it was asked for by its name.
            if run is not None:
                raise
