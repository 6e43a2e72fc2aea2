"""The store of runs: what is acknowledged is on the disk, once, whole, whoever dies when.

```text
runs/<run>/run.json                                  the manifest
runs/<run>/<uid>/num_classes.json                    how many classes its first batch had
runs/<run>/<uid>/epochs/<epoch>/batch-<name>.parquet one batch
runs/<run>/<uid>/epochs/<epoch>/level<n>-<digest>.parquet   many, merged; names the files that it replaces
runs/<run>/<uid>/queues/<queue>.json                 a queue with its rows
runs/<run>/<uid>/reviews/<time>-<id>.json            the reviews of one request; merged as batches are
```

Every file is created once and never changed (`service.runs.files`), and a run that is deleted and made again has
another uid: what was read under a path stays true. A file that another one replaces is as good as
deleted, whether it still lies there or not: so merging can die at any moment. Several processes may use one store.
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
from service.runs.snapshot import Footer, Snapshot, holds_batch
from service.schema.replies.reviews import Review

MANIFEST = "run.json"
FOOTERS_CACHED = 100_000
DOCUMENT_BYTES_CACHED = 64 * 1024 * 1024
DERIVED_BYTES_CACHED = 64 * 1024 * 1024


class HasSize(Protocol):
    """A value that knows its size in memory."""

    @property
    def nbytes(self) -> int: ...


D = TypeVar("D", bound=HasSize)


class RunStore:
    """All runs of a place; safe for many threads and many processes.

    Args:
        files: Of the data directory.
        max_run_rows: Rows of one run.
    """

    def __init__(self, files: Files, max_run_rows: int) -> None:
        self.files = files
        self._max_run_rows = max_run_rows
        self._footers: BoundedCache[Footer] = BoundedCache(FOOTERS_CACHED)
        self._reviews = ReviewCache()
        self._documents: BoundedCache[bytes] = BoundedCache(DOCUMENT_BYTES_CACHED, len)
        self._derived: BoundedCache[Any] = BoundedCache(DERIVED_BYTES_CACHED, lambda value: int(value.nbytes))

    def create(self, name: str, description: RunDescription) -> tuple[Snapshot, bool]:
        """Make a run, and say whether it is new.

        Raises:
            InvalidNameError: No run may be called so.
            RunConflictError: There is one of this name, with another description.
        """
        check_name("run", name)
        manifest = Manifest(uid=uuid4().hex, created_at=datetime.now(UTC), description=description)
        new = self.files.create(f"runs/{name}/{MANIFEST}", lambda file: file.write(manifest.content))
        held = self.snapshot(name)
        if not new and held.description.meaning != description.meaning:
            differs = [key for key, value in description.meaning.items() if held.description.meaning[key] != value]
            raise RunConflictError(f"run {name} exists with another {', '.join(differs)}")
        return held, new

    def names(self) -> list[str]:
        """The names of all runs, sorted."""
        return [name for name in self.files.folders("runs") if MANIFEST in self.files.names(f"runs/{name}")]

    def manifest(self, name: str) -> Manifest:
        """What was said of a run when it was made.

        Raises:
            InvalidNameError: No run may be called so.
            UnknownRunError: There is none of this name.
        """
        check_name("run", name)
        try:
            with self.files.open(f"runs/{name}/{MANIFEST}") as file:
                return Manifest.read(file.read())
        except FileNotFoundError as err:
            raise UnknownRunError(f"no run {name} is kept") from err

    def snapshot(self, name: str) -> Snapshot:
        """A run as it is now.

        Raises:
            UnknownRunError: There is none of this name.
        """
        manifest = self.manifest(name)
        root = f"runs/{name}/{manifest.uid}"
        numbers = sorted(int(epoch) for epoch in self.files.folders(f"{root}/epochs") if epoch.isdecimal())
        data = [one for epoch in numbers for one in self.epoch_folder(root, epoch).live()]
        return Snapshot(name, manifest, self._num_classes(root, manifest), tuple(data), self.files)

    def delete(self, name: str) -> None:
        """Take a run away as a whole.

        Raises:
            UnknownRunError: There is none of this name.
        """
        self.manifest(name)
        if not self.files.delete_folder(f"runs/{name}"):
            raise UnknownRunError(f"no run {name} is kept")

    def add(
        self,
        snapshot: Snapshot,
        epoch: int,
        batch: str,
        rows: pa.Table,
        footer: Callable[[], Footer],
        num_classes: int | None,
    ) -> bool:
        """Keep the rows of a batch; when this returns they are durable. False where they were there already.

        Args:
            snapshot: The run, as the batch was computed for it.
            epoch: Of the batch.
            batch: Its name.
            rows: Of `service.runs.rows.SCHEMA`.
            footer: Gives what its file says of itself; where the batch is new, asked for once its rows are written.
            num_classes: Of its logits; None for a batch without rows.

        Raises:
            BatchConflictError: The run has a batch of this name with other content.
            RunFullError: The run would have more rows than it may.
            ShapeError: The run has another number of classes.
            UnknownRunError: The run was deleted in this moment.
        """
        root, held = snapshot.root, snapshot.rows()
        there = [one for one in snapshot.data if one.epoch == epoch and batch in one.footer.batches]
        if there and holds_batch(there, batch, footer().batches[batch]):
            return False
        if held + len(rows) > self._max_run_rows:
            raise RunFullError(f"run {snapshot.name} has {held} rows, {len(rows)} more pass {self._max_run_rows}")
        if num_classes is not None:
            self._agree_on_classes(snapshot, root, num_classes)
        path = f"{root}/epochs/{epoch}/batch-{batch}.parquet"
        new = self.files.create(path, lambda file: write_parquet(file, rows, footer))
        self._check_still_there(snapshot)
        # What counts is what the run shows now: the file of that name, or one that has replaced it.
        if not holds_batch(self.epoch_folder(root, epoch).live(), batch, footer().batches[batch]):
            raise StorageUnavailableError(f"batch {batch} of epoch {epoch} was written and is not there")
        return new

    def _check_still_there(self, snapshot: Snapshot) -> None:
        if self.manifest(snapshot.name).uid != snapshot.manifest.uid:
            self.files.delete_folder(snapshot.root)
            raise UnknownRunError(f"run {snapshot.name} was deleted in this moment")

    def _agree_on_classes(self, snapshot: Snapshot, root: str, num_classes: int) -> None:
        wanted = snapshot.num_classes
        if wanted is None:
            self.files.create(f"{root}/num_classes.json", lambda file: file.write(orjson.dumps(num_classes)))
            wanted = self._num_classes(root, snapshot.manifest)
        if wanted != num_classes:
            msg = f"the logits have {num_classes} classes, run {snapshot.name} has {wanted}"
            raise ShapeError(msg, errors=[{"loc": ["batches", 0, "logits"], "msg": msg}])

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
        """Store reviews; they are durable when this returns.

        Raises:
            UnknownRunError: The run was deleted in the meantime.
        """
        self.review_folder(snapshot).add(reviews)
        self._check_still_there(snapshot)

    def check(self) -> None:
        """Write, read and delete something.

        Raises:
            StorageFullError, StorageUnavailableError: It cannot be done.
        """
        path = f"checks/{uuid4().hex}"
        self.files.create(path, lambda file: file.write(b"ok"))
        try:
            with self.files.open(path) as file:
                answer = file.read()
        finally:
            self.files.delete(path)
        if answer != b"ok":
            raise StorageUnavailableError("the data directory gives back other bytes than were written")

    def document(self, snapshot: Snapshot, folder: str, name: str) -> Any:
        """The JSON document under a name, or None."""
        path = self._document_path(snapshot, folder, name)

        def read() -> bytes:
            with self.files.open(path) as file:
                return file.read()

        try:
            return orjson.loads(self._documents.cached(path, read))
        except FileNotFoundError:
            return None

    def derived(self, snapshot: Snapshot, folder: str, name: str, compute: Callable[[], D]) -> D:
        """A value computed from a document, which never changes; cached up to `DERIVED_BYTES_CACHED` in all.

        Args:
            snapshot: The run.
            folder: Kind of the document.
            name: Name of the document.
            compute: Computes the value; an error is not cached.
        """
        value: D = self._derived.cached(self._document_path(snapshot, folder, name), compute)
        return value

    def documents(self, snapshot: Snapshot, folder: str) -> list[str]:
        """The names of all JSON documents of one kind, sorted."""
        return [name.removesuffix(".json") for name in self.files.names(f"{snapshot.root}/{folder}")]

    def add_document(self, snapshot: Snapshot, folder: str, name: str, value: Any) -> bool:
        """Keep a JSON document durably; False where the name is taken.

        Raises:
            UnknownRunError: The run was deleted in this moment.
        """
        content = orjson.dumps(value)
        new = self.files.create(self._document_path(snapshot, folder, name), lambda file: file.write(content))
        self._check_still_there(snapshot)
        return new

    def _document_path(self, snapshot: Snapshot, folder: str, name: str) -> str:
        return f"{snapshot.root}/{folder}/{name}.json"
