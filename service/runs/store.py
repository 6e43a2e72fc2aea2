"""The store of runs. Acknowledged data is on disk, complete and without duplicates, whenever a process may die.

```text
runs/<run>/run.json                                  manifest of the run
runs/<run>/<uid>/num_classes.json                    number of classes of the first batch
runs/<run>/<uid>/epochs/<epoch>/batch-<name>.parquet one batch
runs/<run>/<uid>/epochs/<epoch>/level<n>-<digest>.parquet   merged batches and the names of the replaced files
runs/<run>/<uid>/queues/<queue>.json                 a queue with its rows
runs/<run>/<uid>/reviews/<time>-<id>.json            the reviews of one request; merged as batches are
```

Files are created and deleted, never changed (`service.runs.files`), and a run that is deleted and created again has
another uid: so the content of a file can be cached by its path. A file that another file replaces is ignored, even if
it still exists (`service.runs.compaction`). Several processes may use one store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar
from uuid import uuid4

import orjson
import pyarrow as pa

from service.errors import (
    RunConflictError,
    RunFullError,
    ShapeError,
    StorageUnavailableError,
    UnknownRunError,
)
from service.runs.cache import BoundedCache
from service.runs.epoch_files import EpochFolder
from service.runs.files import Files
from service.runs.manifest import Manifest, RunDescription
from service.runs.names import check_name
from service.runs.parquet import write_parquet
from service.runs.review_files import ReviewCache, ReviewFolder, ReviewHistory
from service.runs.snapshot import Footer, Snapshot, has_batch
from service.schema.faults import fault
from service.schema.json_values import JsonValue
from service.schema.replies.reviews import Review

MANIFEST = "run.json"
FOOTERS_CACHED = 100_000
DOCUMENT_BYTES_CACHED = 64 * 1024 * 1024
DERIVED_BYTES_CACHED = 64 * 1024 * 1024


class HasSize(Protocol):
    """A value with a size in memory."""

    @property
    def nbytes(self) -> int:
        """Size in bytes."""


D = TypeVar("D", bound=HasSize)


class RunStore:
    """The runs of a data directory; safe for many threads and many processes.

    Args:
        files: Files of the data directory.
        max_run_rows: Maximum number of rows of a run.
    """

    def __init__(self, files: Files, max_run_rows: int) -> None:
        self.files = files
        self._max_run_rows = max_run_rows
        self._footers: BoundedCache[Footer] = BoundedCache(FOOTERS_CACHED)
        self._reviews = ReviewCache()
        self._documents: BoundedCache[bytes] = BoundedCache(DOCUMENT_BYTES_CACHED, len)
        self._derived: BoundedCache[Any] = BoundedCache(DERIVED_BYTES_CACHED, lambda value: int(value.nbytes))

    def create(self, name: str, description: RunDescription) -> tuple[Snapshot, bool]:
        """Create a run unless it exists; the second value is True if it is new.

        Raises:
            InvalidNameError: The name is not valid.
            RunConflictError: A run of this name has another description.
        """
        check_name("run", name)
        manifest = Manifest(uid=uuid4().hex, created_at=datetime.now(UTC), description=description)
        new = self.files.create(f"runs/{name}/{MANIFEST}", lambda file: file.write(manifest.content))
        snapshot = self.snapshot(name)
        stored = snapshot.description.meaning
        differing = [key for key, value in description.meaning.items() if stored[key] != value]
        if differing and not new:
            raise RunConflictError(f"run {name} exists with another {', '.join(differing)}")
        return snapshot, new

    def names(self) -> list[str]:
        """Names of all runs, sorted."""
        return [name for name in self.files.folders("runs") if MANIFEST in self.files.names(f"runs/{name}")]

    def manifest(self, name: str) -> Manifest:
        """The manifest of a run.

        Raises:
            InvalidNameError: The name is not valid.
            UnknownRunError: No run has this name.
        """
        check_name("run", name)
        try:
            with self.files.open(f"runs/{name}/{MANIFEST}") as file:
                return Manifest.read(file.read())
        except FileNotFoundError as err:
            raise UnknownRunError(f"there is no run {name}") from err

    def snapshot(self, name: str) -> Snapshot:
        """The current state of a run.

        Raises:
            UnknownRunError: No run has this name.
        """
        manifest = self.manifest(name)
        root = f"runs/{name}/{manifest.uid}"
        numbers = sorted(int(epoch) for epoch in self.files.folders(f"{root}/epochs") if epoch.isdecimal())
        data = [file for epoch in numbers for file in self.epoch_folder(root, epoch).live()]
        return Snapshot(name, manifest, self._num_classes(root, manifest), tuple(data), self.files)

    def delete(self, name: str) -> None:
        """Delete a run with all of its data.

        Raises:
            UnknownRunError: No run has this name.
        """
        self.manifest(name)
        if not self.files.delete_folder(f"runs/{name}"):
            raise UnknownRunError(f"there is no run {name}")

    def add(
        self,
        snapshot: Snapshot,
        epoch: int,
        batch: str,
        rows: pa.Table,
        footer: Callable[[], Footer],
        num_classes: int | None,
    ) -> bool:
        """Store the rows of a batch durably; False if the run has the same batch already.

        Args:
            snapshot: State of the run that the batch was computed for.
            epoch: Epoch of the batch.
            batch: Name of the batch.
            rows: Table of `service.runs.schema.SCHEMA`.
            footer: Returns the footer of the file; called after the rows are written, or to compare the batch with a
                stored one of the same name.
            num_classes: Number of classes of the logits; None for a batch without rows.

        Raises:
            BatchConflictError: The run has a batch of this name with other content.
            RunFullError: With this batch the run would have more than `max_run_rows` rows.
            ShapeError: The logits and the run have different numbers of classes.
            UnknownRunError: The run was deleted in the meantime.
        """
        root, num_rows = snapshot.root, snapshot.num_rows()
        same_name = [file for file in snapshot.data if file.epoch == epoch and batch in file.footer.batches]
        if same_name and has_batch(same_name, batch, footer().batches[batch]):
            return False
        if num_rows + len(rows) > self._max_run_rows:
            raise RunFullError(f"run {snapshot.name} has {num_rows} rows, {len(rows)} more exceed {self._max_run_rows}")
        if num_classes is not None:
            self._check_num_classes(snapshot, root, num_classes)
        path = f"{root}/epochs/{epoch}/batch-{batch}.parquet"
        new = self.files.create(path, lambda file: write_parquet(file, rows, footer))
        self._check_not_deleted(snapshot)
        # Another process may have stored a batch of this name first, in this file or in a merged one; the first wins.
        if not has_batch(self.epoch_folder(root, epoch).live(), batch, footer().batches[batch]):
            raise StorageUnavailableError(f"batch {batch} of epoch {epoch} was written, but is missing")
        return new

    def _check_not_deleted(self, snapshot: Snapshot) -> None:
        if self.manifest(snapshot.name).uid != snapshot.manifest.uid:
            self.files.delete_folder(snapshot.root)
            raise UnknownRunError(f"run {snapshot.name} was deleted in the meantime")

    def _check_num_classes(self, snapshot: Snapshot, root: str, num_classes: int) -> None:
        run_classes = snapshot.num_classes
        if run_classes is None:
            self.files.create(f"{root}/num_classes.json", lambda file: file.write(orjson.dumps(num_classes)))
            run_classes = self._num_classes(root, snapshot.manifest)
        if run_classes != num_classes:
            msg = f"the logits have {num_classes} classes, run {snapshot.name} has {run_classes}"
            raise fault(ShapeError, msg, "batches", 0, "logits")

    def _num_classes(self, root: str, manifest: Manifest) -> int | None:
        if manifest.description.num_classes is not None:
            return manifest.description.num_classes
        try:
            with self.files.open(f"{root}/num_classes.json") as file:
                return int(orjson.loads(file.read()))
        except FileNotFoundError:
            return None

    def epoch_folder(self, root: str, epoch: int) -> EpochFolder:
        """The files of an epoch.

        Args:
            root: Data folder of the run.
            epoch: The epoch.
        """
        return EpochFolder(self.files, root, epoch, self._footers)

    def review_folder(self, snapshot: Snapshot) -> ReviewFolder:
        """The files of the reviews of a run."""
        return ReviewFolder(self.files, snapshot.root, self._reviews)

    def reviews(self, snapshot: Snapshot) -> ReviewHistory:
        """All reviews of a run."""
        return self.review_folder(snapshot).history()

    def add_reviews(self, snapshot: Snapshot, reviews: Sequence[Review]) -> None:
        """Store reviews durably.

        Raises:
            UnknownRunError: The run was deleted in the meantime.
        """
        self.review_folder(snapshot).add(reviews)
        self._check_not_deleted(snapshot)

    def check(self) -> None:
        """Check that a file can be written, read and deleted.

        Raises:
            StorageFullError, StorageUnavailableError: The check failed.
        """
        path = f"checks/{uuid4().hex}"
        self.files.create(path, lambda file: file.write(b"ok"))
        try:
            with self.files.open(path) as file:
                content = file.read()
        finally:
            self.files.delete(path)
        if content != b"ok":
            raise StorageUnavailableError("a file in the data directory has other bytes than were written")

    def document(self, snapshot: Snapshot, folder: str, name: str) -> JsonValue:
        """The JSON document of a kind and name; None if the run has none.

        Args:
            snapshot: The run.
            folder: Kind of the document.
            name: Name of the document.
        """
        path = self._document_path(snapshot, folder, name)

        def read() -> bytes:
            with self.files.open(path) as file:
                return file.read()

        try:
            content = self._documents.cached(path, read)
        except FileNotFoundError:
            return None
        document: JsonValue = orjson.loads(content)
        return document

    def derived(self, snapshot: Snapshot, folder: str, name: str, compute: Callable[[], D]) -> D:
        """A value that `compute` derives from a document; cached, up to `DERIVED_BYTES_CACHED` in all.

        Args:
            snapshot: The run.
            folder: Kind of the document.
            name: Name of the document.
            compute: Computes the value; its errors are not cached.
        """
        value: D = self._derived.cached(self._document_path(snapshot, folder, name), compute)
        return value

    def documents(self, snapshot: Snapshot, folder: str) -> list[str]:
        """Names of the JSON documents of a kind, sorted."""
        return [name.removesuffix(".json") for name in self.files.names(f"{snapshot.root}/{folder}")]

    def add_document(self, snapshot: Snapshot, folder: str, name: str, value: object) -> bool:
        """Store a JSON document durably; False if the name is taken.

        Raises:
            UnknownRunError: The run was deleted in the meantime.
        """
        content = orjson.dumps(value)
        new = self.files.create(self._document_path(snapshot, folder, name), lambda file: file.write(content))
        self._check_not_deleted(snapshot)
        return new

    def _document_path(self, snapshot: Snapshot, folder: str, name: str) -> str:
        return f"{snapshot.root}/{folder}/{name}.json"
