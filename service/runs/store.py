"""The store of runs. Acknowledged data is on disk, complete and without duplicates, whenever a process may die.

```text
runs/<run>/run.json                                  manifest of the run
runs/<run>/<uid>/run.json                            a copy of the manifest, for `focal-loss verify`
runs/<run>/<uid>/num_classes.json                    number of classes of the first batch
runs/<run>/<uid>/epochs/<epoch>/batch-<name>.parquet one batch
runs/<run>/<uid>/epochs/<epoch>/level<n>-<digest>.parquet   merged batches and the names of the replaced files
runs/<run>/<uid>/queues/<queue>.json                 a queue with its rows
runs/<run>/<uid>/reviews/<time>-<id>.json            the reviews of one request; merged as batches are
runs/<run>/<uid>/leases/<queue>/<time>.json         the rows of a queue that reviewers have leased
runs/<run>/<uid>/annotations/<time>-<id>.parquet     the annotations of one request; merged as batches are
```

Files are created and deleted, never changed (`service.storage.files`), and a run that is deleted and created again has
another uid: so the content of a file can be cached by its path. A file that another file replaces is ignored, even if
it still exists (`service.storage.compaction`). Several processes may use one store.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Annotated
from uuid import uuid4

import orjson
import pyarrow as pa
from pydantic import Field, TypeAdapter

from service.errors import (
    RunConflictError,
    RunFullError,
    ShapeError,
    UnknownRunError,
)
from service.runs.annotation_files import AnnotationFolder, AnnotationFooter, MakeAnnotations
from service.runs.damage import damage, named_damage
from service.runs.data_files import DataFile, Footer, digest_of
from service.runs.documents import Documents
from service.runs.epoch_files import EpochFolder
from service.runs.epoch_writer import EpochWriter, Stored
from service.runs.lease_files import LeaseFiles
from service.runs.manifest import Manifest, RunDescription
from service.runs.names import NAME, check_name
from service.runs.review_files import MakeReviews, ReviewCache, ReviewFolder
from service.runs.review_history import ReviewHistory
from service.runs.snapshot import Snapshot
from service.schema.faults import fault
from service.schema.replies.reviews import StoredReview
from service.storage.cache import BoundedCache
from service.storage.files import Files

MANIFEST = "run.json"
UID = re.compile(r"[0-9a-f]{32}")
EPOCH = re.compile(r"[0-9]{1,10}")
MAX_ATTEMPTS = 10
FOOTERS_CACHED = 100_000
NUM_CLASSES = TypeAdapter(Annotated[int, Field(ge=1, strict=True)])


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
        self._annotations: BoundedCache[AnnotationFooter] = BoundedCache(FOOTERS_CACHED)
        self.documents = Documents(files, self._not_deleted)
        self.leases = LeaseFiles(files, self._not_deleted)

    def create(self, name: str, description: RunDescription) -> tuple[Snapshot, bool]:
        """Create a run unless it exists; the second value is True if it is new.

        Raises:
            InvalidNameError: The name is not valid.
            RunConflictError: A run of this name has another description.
        """
        check_name("run", name)
        for _ in range(MAX_ATTEMPTS):
            manifest = Manifest(uid=uuid4().hex, created_at=datetime.now(UTC), description=description)
            # The copy makes the folder of the run's data: writers create no such folder, so that they cannot bring a
            # deleted run back.
            contents = dict.fromkeys((MANIFEST, f"{manifest.uid}/{MANIFEST}"), manifest.content)
            if self.files.create_folder(f"runs/{name}", contents):
                return self._of_files(name, manifest, description.num_classes, ()), True
            # Another request may delete the run now: then it is created again.
            with suppress(UnknownRunError):
                snapshot = self.snapshot(name)
                stored = snapshot.description.meaning
                differing = [key for key, value in description.meaning.items() if stored[key] != value]
                if differing:
                    raise RunConflictError(f"run {name} exists with another {', '.join(differing)}")
                return snapshot, False
        raise RunConflictError(f"run {name} is being created and deleted all the time")

    def names(self) -> list[str]:
        """Names of all runs, damaged ones included, sorted."""
        return [name for name in self.files.folders("runs") if NAME.fullmatch(name) and self._exists(name)]

    def _exists(self, name: str) -> bool:
        """True if there is a run, even if its manifest is missing; version 0.1.0 could leave an empty folder."""
        folder = f"runs/{name}"
        return MANIFEST in self.files.names(folder) or bool(self.files.folders(folder))

    def _lacks_manifest(self, name: str) -> bool:
        """True if there is data of a run, but no manifest: a run gets its manifest before all other files."""
        # The run may be deleted and created again between the listings: then its data has another uid.
        before = self.files.folders(f"runs/{name}")
        if not before or MANIFEST in self.files.names(f"runs/{name}"):
            return False
        return not set(before).isdisjoint(self.files.folders(f"runs/{name}"))

    def manifest(self, name: str) -> Manifest:
        """The manifest of a run.

        Raises:
            InvalidNameError: The name is not valid.
            UnknownRunError: No run has this name.
            RunDamagedError: The manifest cannot be read.
        """
        check_name("run", name)
        path = f"runs/{name}/{MANIFEST}"
        try:
            with named_damage(path), self.files.open(path) as file:
                return Manifest.read(path, file.read())
        except FileNotFoundError as err:
            if self._lacks_manifest(name):
                raise damage(path, "is missing") from err
            raise UnknownRunError(f"there is no run {name}") from err

    def snapshot(self, name: str) -> Snapshot:
        """The current state of a run.

        Raises:
            UnknownRunError: No run has this name.
        """
        return self._snapshot(name, self.manifest(name))

    def _snapshot(self, name: str, manifest: Manifest) -> Snapshot:
        root = f"runs/{name}/{manifest.uid}"
        with named_damage(f"{root}/epochs"):
            numbers = sorted(int(epoch) for epoch in self.files.folders(f"{root}/epochs") if EPOCH.fullmatch(epoch))
        data = [file for epoch in numbers for file in self.epoch_folder(root, epoch).live()]
        if not data:
            self._check_uid(name, manifest)
        return self._of_files(name, manifest, self.num_classes(root, manifest), data)

    def _of_files(self, name: str, manifest: Manifest, num_classes: int | None, data: Sequence[DataFile]) -> Snapshot:
        annotations = self.annotation_folder(f"runs/{name}/{manifest.uid}")
        return Snapshot(name, manifest, num_classes, tuple(data), self.files, annotations)

    @contextmanager
    def reading(self, name: str) -> Iterator[Snapshot]:
        """The current state of a run; its files stay for the time of the context, or for at least a minute.

        Raises:
            UnknownRunError: No run has this name.
        """
        manifest = self.manifest(name)
        with self.files.reading(f"runs/{name}/{manifest.uid}"):
            yield self._snapshot(name, manifest)

    def _check_uid(self, name: str, manifest: Manifest) -> None:
        """Raise RunDamagedError if the manifest has a wrong uid: the run would look as if it had no rows."""
        folders = self.files.folders(f"runs/{name}")
        others = [folder for folder in folders if UID.fullmatch(folder) and self.files.folders(f"runs/{name}/{folder}")]
        # The manifest again: the run may have been deleted and created again since.
        if others and manifest.uid not in folders and self.manifest(name) == manifest:
            raise damage(
                f"runs/{name}/{MANIFEST}", f"cannot be read: the data of its uid is missing, {others[0]} exists"
            )

    def delete(self, name: str) -> None:
        """Delete a run with all of its data, however damaged it is.

        Raises:
            InvalidNameError: The name is not valid.
            UnknownRunError: No run has this name.
            StorageUnavailableError: The run is deleted, but some of its files are still on the disk.
        """
        check_name("run", name)
        if not self._exists(name) or not self.files.delete_folder(f"runs/{name}"):
            raise UnknownRunError(f"there is no run {name}")

    def add(
        self,
        snapshot: Snapshot,
        epoch: int,
        batch: str,
        rows: pa.Table,
        footer: Callable[[], Footer],
        num_classes: int | None,
        *,
        over: bool = False,
    ) -> Stored:
        """Store the rows of a batch durably.

        Args:
            snapshot: State of the run that the batch was computed for.
            epoch: Epoch of the batch.
            batch: Name of the batch.
            rows: Table of `service.runs.schema.SCHEMA`.
            footer: Returns the footer of the file; called after the rows are written, or to compare the batch with a
                stored one of the same name.
            num_classes: Number of classes of the logits; None for a batch without rows.
            over: True to replace a batch of this name with other content.

        Raises:
            BatchConflictError: The epoch has a batch of this name with other content, and `over` is false.
            RunFullError: With this batch the run would have more than `max_run_rows` rows.
            ShapeError: The logits and the run have different numbers of classes.
            UnknownRunError: The run was deleted in the meantime.
        """
        known = snapshot.data_of(epoch)
        num_rows = snapshot.num_rows()
        # The rows of a batch that is sent again do not come on top.
        if num_rows + len(rows) > self._max_run_rows and digest_of(known, batch) is None:
            raise RunFullError(f"run {snapshot.name} has {num_rows} rows, {len(rows)} more exceed {self._max_run_rows}")
        if num_classes is not None:
            self._check_num_classes(snapshot, num_classes)
        with self._not_deleted(snapshot) as within:
            writer = EpochWriter(self.epoch_folder(snapshot.root, epoch), within)
            return writer.add(known, batch, rows, footer, over=over)

    def delete_batches(self, snapshot: Snapshot, epoch: int, batch: str | None = None) -> None:
        """Delete a batch or, for None, all batches of an epoch, durably.

        Raises:
            UnknownBatchError: The epoch has no such batch.
            UnknownEpochError: The run has no batches of this epoch.
            UnknownRunError: The run was deleted in the meantime.
        """
        snapshot.epoch(epoch)
        with self._not_deleted(snapshot) as within:
            EpochWriter(self.epoch_folder(snapshot.root, epoch), within).delete(batch)

    @contextmanager
    def _not_deleted(self, snapshot: Snapshot) -> Iterator[str]:
        """Context manager for writing into a run; its value is a folder that a deletion removes.

        Raises:
            UnknownRunError: The run was deleted in the meantime.
        """
        deleted = f"run {snapshot.name} was deleted in the meantime"
        try:
            if not self.files.exists(f"{snapshot.root}/{MANIFEST}"):
                self._write_copy(snapshot)
            yield snapshot.root
        except FileNotFoundError as err:
            raise UnknownRunError(deleted) from err
        if self.manifest(snapshot.name).uid != snapshot.manifest.uid:
            self.files.delete_folder(snapshot.root)
            raise UnknownRunError(deleted)

    def _write_copy(self, snapshot: Snapshot) -> None:
        """Write the copy of the manifest for a run of version 0.1.0, which wrote none.

        Raises:
            FileNotFoundError: The run was deleted.
        """
        manifest = self.manifest(snapshot.name)
        if manifest.uid != snapshot.manifest.uid:
            raise FileNotFoundError(snapshot.root)
        copy = f"{snapshot.root}/{MANIFEST}"
        self.files.create(copy, lambda file: file.write(manifest.content), within=f"runs/{snapshot.name}")

    def _check_num_classes(self, snapshot: Snapshot, num_classes: int) -> None:
        run_classes = snapshot.num_classes
        if run_classes is None:
            content = orjson.dumps(num_classes)
            with self._not_deleted(snapshot) as within:
                self.files.create(f"{snapshot.root}/num_classes.json", lambda file: file.write(content), within=within)
                run_classes = self.num_classes(snapshot.root, snapshot.manifest)
        if run_classes != num_classes:
            msg = f"the logits have {num_classes} classes, run {snapshot.name} has {run_classes}"
            raise fault(ShapeError, msg, "batches", 0, "logits")

    def num_classes(self, root: str, manifest: Manifest) -> int | None:
        """Number of classes of a run; None before the first batch if the description does not define it.

        Args:
            root: Data folder of the run.
            manifest: Its manifest.

        Raises:
            RunDamagedError: The file with the number cannot be read.
        """
        if manifest.description.num_classes is not None:
            return manifest.description.num_classes
        path = f"{root}/num_classes.json"
        try:
            with named_damage(path), self.files.open(path) as file:
                return NUM_CLASSES.validate_json(file.read())
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
        # The classes of a label are absent and present.
        num_classes = 2 if snapshot.description.task == "multi_label" else snapshot.num_classes
        return ReviewFolder(self.files, snapshot.root, self._reviews, num_classes)

    def reviews(self, snapshot: Snapshot) -> ReviewHistory:
        """All reviews of a run; the files that were read before are not read again."""
        return self.review_folder(snapshot).history()

    def add_reviews(self, snapshot: Snapshot, reviews: Sequence[StoredReview]) -> ReviewHistory:
        """Store reviews durably; see `append_reviews`."""
        return self.append_reviews(snapshot, lambda history: reviews)

    def append_reviews(self, snapshot: Snapshot, make: MakeReviews) -> ReviewHistory:
        """Store further reviews durably, while no one else appends; see `ReviewFolder.append`.

        Raises:
            UnknownRunError: The run was deleted in the meantime.
        """
        with self._not_deleted(snapshot) as within:
            return self.review_folder(snapshot).append(make, within=within)

    def annotation_folder(self, root: str) -> AnnotationFolder:
        """The files of the annotations of a run.

        Args:
            root: Data folder of the run.
        """
        return AnnotationFolder(self.files, root, self._annotations)

    def append_annotations(self, snapshot: Snapshot, make: MakeAnnotations) -> None:
        """Store further annotations durably, while no one else appends; see `AnnotationFolder.append`.

        Raises:
            UnknownRunError: The run was deleted in the meantime.
        """
        with self._not_deleted(snapshot) as within:
            snapshot.annotations.append(make, within=within)

    def delete_annotations(self, snapshot: Snapshot) -> None:
        """Delete all annotations of a run durably.

        Raises:
            UnknownRunError: The run was deleted in the meantime.
        """
        with self._not_deleted(snapshot) as within:
            snapshot.annotations.delete_all(within=within)
