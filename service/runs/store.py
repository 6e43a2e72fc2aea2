"""The store of runs: what is acknowledged is on the disk, once, whole, whoever dies when.

```text
runs/<run>/run.json                                  the manifest
runs/<run>/<uid>/num_classes.json                    how many classes its first batch had
runs/<run>/<uid>/epochs/<epoch>/batch-<name>.parquet one batch
runs/<run>/<uid>/epochs/<epoch>/level<n>-<digest>.parquet   many, merged; names the files that it replaces
runs/<run>/<uid>/queues/<queue>.json, reviews/<time>-<id>.json
```

Every file is created once and never changed (`service.runs.files`), and a run that is deleted and made again has
another uid: what was read under a path stays true. A file that another one replaces is as good as
deleted, whether it still lies there or not: so merging can die at any moment. Several processes may use one store.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from threading import Lock
from typing import Any, BinaryIO, Generic, TypeVar
from uuid import uuid4

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from service.errors import (
    BatchConflictError,
    RunConflictError,
    RunFullError,
    ShapeError,
    StorageUnavailableError,
    UnknownEpochError,
    UnknownRunError,
)
from service.runs.files import Files
from service.runs.manifest import Manifest, RunDescription
from service.runs.names import check_name

MANIFEST = "run.json"
METADATA_KEY = b"focal_loss"
ROW_GROUP_ROWS = 65_536
FOOTERS_HELD = 100_000
DOCUMENT_BYTES_HELD = 64 * 1024 * 1024

T = TypeVar("T")


@dataclass(frozen=True)
class Footer:
    """What a data file says of itself.

    Args:
        rows: That are kept in it.
        batches: The digest of each batch in it.
        replaces: Names of the files whose rows are in it.
        num_ignored: Rows of these batches that were not kept because their target is `ignore_index`.
        num_excluded: The same because they were invalid.
        has_attributes: Whether any row has.
    """

    rows: int
    batches: dict[str, str]
    replaces: tuple[str, ...] = ()
    num_ignored: int = 0
    num_excluded: int = 0
    has_attributes: bool = False

    @property
    def metadata(self) -> dict[bytes, bytes]:
        """As it stands in the Parquet file."""
        return {METADATA_KEY: orjson.dumps(vars(self))}

    @classmethod
    def of(cls, file: BinaryIO) -> Footer:
        fields = orjson.loads((pq.read_schema(file).metadata or {})[METADATA_KEY])
        return cls(**{**fields, "replaces": tuple(fields["replaces"])})


@dataclass(frozen=True)
class DataFile:
    """A file with rows of one epoch."""

    epoch: int
    name: str
    path: str
    footer: Footer


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A run as it was at one moment: its manifest and the files that count.

    Args:
        name: Of the run.
        manifest: As it was made.
        num_classes: None before the first batch, where the description does not say it.
        data: By epoch and name.
        files: Where they lie.
    """

    name: str
    manifest: Manifest
    num_classes: int | None
    data: tuple[DataFile, ...]
    files: Files

    @property
    def description(self) -> RunDescription:
        return self.manifest.description

    @property
    def root(self) -> str:
        """The folder of its data."""
        return f"runs/{self.name}/{self.manifest.uid}"

    @cached_property
    def epochs(self) -> list[int]:
        """Those that have batches, ascending."""
        return sorted({one.epoch for one in self.data})

    def epoch(self, wanted: int | None = None) -> int:
        """The epoch asked for, or the last one; 0 of a run that has none yet.

        Raises:
            UnknownEpochError: The run has no batch of it; lists those it has.
        """
        if wanted is None:
            return self.epochs[-1] if self.epochs else 0
        if wanted not in self.epochs:
            has = ", ".join(map(str, self.epochs[:20])) or "none yet"
            raise UnknownEpochError(f"run {self.name} has no epoch {wanted}; it has {has}")
        return wanted

    def urls(self, epoch: int | None = None, *, with_attributes: bool = False) -> list[str]:
        """The files of an epoch, or of all; perhaps only those that carry attributes."""
        return [
            self.files.url(one.path)
            for one in self.data
            if (epoch is None or one.epoch == epoch) and (one.footer.has_attributes or not with_attributes)
        ]

    def rows(self, epoch: int | None = None) -> int:
        return sum(one.footer.rows for one in self.data if epoch is None or one.epoch == epoch)

    @cached_property
    def fingerprint(self) -> str:
        """The same for the same rows, however they are spread over files."""
        content = sorted((one.epoch, *item) for one in self.data for item in one.footer.batches.items())
        return hashlib.sha256(orjson.dumps([self.manifest.uid, content])).hexdigest()


class Held(Generic[T]):
    """What was read lately, up to a size; safe for many threads.

    Args:
        most: The sum of sizes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._values: OrderedDict[str, tuple[T, int]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: str) -> T | None:
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: str, value: T, size: int) -> None:
        with self._lock:
            if key in self._values or size > self._most:
                return
            self._values[key] = value, size
            self._size += size
            while self._size > self._most:
                self._size -= self._values.popitem(last=False)[1][1]


class RunStore:
    """All runs of a place; safe for many threads and many processes.

    Args:
        files: Of the data directory.
        max_run_rows: Rows of one run.
    """

    def __init__(self, files: Files, max_run_rows: int) -> None:
        self.files = files
        self._max_run_rows = max_run_rows
        self._footers: Held[Footer] = Held(FOOTERS_HELD)
        self._documents: Held[bytes] = Held(DOCUMENT_BYTES_HELD)

    def create(self, name: str, description: RunDescription) -> tuple[Snapshot, bool]:
        """Make a run, and say whether it is new.

        Raises:
            InvalidNameError: No run may be called so.
            RunConflictError: There is one of this name, with another description.
        """
        check_name("run", name)
        manifest = Manifest(uid=uuid4().hex, created_at=datetime.now(UTC), description=description)
        new = self.files.create(f"runs/{name}/{MANIFEST}", lambda file: _write(file, manifest.content))
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
        data = [one for epoch in numbers for one in self.epoch_files(root, epoch)]
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
        self, snapshot: Snapshot, epoch: int, batch: str, rows: pa.Table, footer: Footer, num_classes: int | None
    ) -> bool:
        """Keep the rows of a batch; when this returns they are durable. False where they were there already.

        Args:
            snapshot: The run, as the batch was computed for it.
            epoch: Of the batch.
            batch: Its name.
            rows: Of `service.runs.rows.SCHEMA`.
            footer: What its file says of itself.
            num_classes: Of its logits; None for a batch without rows.

        Raises:
            BatchConflictError: The run has a batch of this name with other content.
            RunFullError: The run would have more rows than it may.
            ShapeError: The run has another number of classes.
            UnknownRunError: The run was deleted in this moment.
        """
        root, held, digest = snapshot.root, snapshot.rows(), footer.batches[batch]
        if holds_batch((one for one in snapshot.data if one.epoch == epoch), batch, digest):
            return False
        if held + len(rows) > self._max_run_rows:
            raise RunFullError(f"run {snapshot.name} has {held} rows, {len(rows)} more pass {self._max_run_rows}")
        if num_classes is not None:
            self._agree_on_classes(snapshot, root, num_classes)
        path = f"{root}/epochs/{epoch}/batch-{batch}.parquet"
        new = self.files.create(path, lambda file: write_parquet(file, rows, footer))
        self._check_still_there(snapshot)
        # What counts is what the run shows now: the file of that name, or one that has replaced it.
        if not holds_batch(self.epoch_files(root, epoch), batch, digest):
            raise StorageUnavailableError(f"batch {batch} of epoch {epoch} was written and is not there")
        return new

    def _check_still_there(self, snapshot: Snapshot) -> None:
        if self.manifest(snapshot.name).uid != snapshot.manifest.uid:
            self.files.delete_folder(snapshot.root)
            raise UnknownRunError(f"run {snapshot.name} was deleted in this moment")

    def _agree_on_classes(self, snapshot: Snapshot, root: str, num_classes: int) -> None:
        wanted = snapshot.num_classes
        if wanted is None:
            self.files.create(f"{root}/num_classes.json", lambda file: _write(file, orjson.dumps(num_classes)))
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

    def epoch_files(self, root: str, epoch: int) -> list[DataFile]:
        """The files of an epoch that count: those that no other one replaces."""
        folder = f"{root}/epochs/{epoch}"
        found = []
        for name in self.files.names(folder):
            if name.endswith(".parquet"):
                path = f"{folder}/{name}"
                # It may have been replaced and deleted since it was listed; what replaced it was there before.
                try:
                    found.append(DataFile(epoch, name, path, self._footer(path)))
                except FileNotFoundError:
                    return self.epoch_files(root, epoch)
        replaced = {name for one in found for name in one.footer.replaces}
        return [one for one in found if one.name not in replaced]

    def _footer(self, path: str) -> Footer:
        held = self._footers.get(path)
        if held is None:
            with self.files.open(path) as file:
                held = Footer.of(file)
            self._footers.put(path, held, 1)
        return held

    def check(self) -> None:
        """Write, read and delete something.

        Raises:
            StorageFullError, StorageUnavailableError: It cannot be done.
        """
        path = f"checks/{uuid4().hex}"
        self.files.create(path, lambda file: _write(file, b"ok"))
        try:
            with self.files.open(path) as file:
                answer = file.read()
        finally:
            self.files.delete(path)
        if answer != b"ok":
            raise StorageUnavailableError("the data directory gives back other bytes than were written")

    def document(self, snapshot: Snapshot, folder: str, name: str) -> Any:
        """A JSON document of a run, None where it is not there."""
        path = self._document_path(snapshot, folder, name)
        content = self._documents.get(path)
        if content is None:
            try:
                with self.files.open(path) as file:
                    content = file.read()
            except FileNotFoundError:
                return None
            self._documents.put(path, content, len(content))
        return orjson.loads(content)

    def documents(self, snapshot: Snapshot, folder: str) -> list[str]:
        """The names of all JSON documents of one kind, sorted."""
        return [name.removesuffix(".json") for name in self.files.names(f"{snapshot.root}/{folder}")]

    def add_document(self, snapshot: Snapshot, folder: str, name: str, value: Any) -> bool:
        """Keep a JSON document durably; False where the name is taken.

        Raises:
            UnknownRunError: The run was deleted in this moment.
        """
        content = orjson.dumps(value)
        new = self.files.create(self._document_path(snapshot, folder, name), lambda file: _write(file, content))
        self._check_still_there(snapshot)
        return new

    def _document_path(self, snapshot: Snapshot, folder: str, name: str) -> str:
        return f"{snapshot.root}/{folder}/{name}.json"


def holds_batch(data: Iterable[DataFile], batch: str, digest: str) -> bool:
    """Whether the files of an epoch hold this batch with this content.

    Raises:
        BatchConflictError: They hold it with other content.
    """
    for one in data:
        if batch in one.footer.batches:
            if one.footer.batches[batch] != digest:
                raise BatchConflictError(
                    f"batch {batch} of epoch {one.epoch} is kept with other content; a batch never changes"
                )
            return True
    return False


def write_parquet(file: BinaryIO, rows: pa.Table, footer: Footer) -> None:
    """The rows as Parquet with their footer."""
    with parquet_writer(file, rows.schema, footer) as writer:
        writer.write_table(rows, row_group_size=ROW_GROUP_ROWS)


def parquet_writer(file: BinaryIO, schema: pa.Schema, footer: Footer) -> pq.ParquetWriter:
    """A writer of one data file."""
    return pq.ParquetWriter(
        file,
        schema.with_metadata(footer.metadata),
        compression="zstd",
        compression_level=1,
        # Floats have no repeats to gain from.
        use_dictionary=["batch", "target", "prediction", "epoch"],
        write_statistics=["epoch", "target"],
    )


def _write(file: BinaryIO, content: bytes) -> None:
    file.write(content)
