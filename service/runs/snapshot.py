"""The state of a run at one moment: its manifest and its live data files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

import orjson
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from service.errors import BatchConflictError, UnknownEpochError
from service.runs.damage import FORMAT, check_format, damage
from service.runs.files import Files
from service.runs.manifest import Manifest, RunDescription

METADATA_KEY = b"focal_loss"


@dataclass(frozen=True)
class Footer:
    """Metadata of a data file, stored in the file.

    Args:
        rows: Number of rows in the file.
        batches: Digest of each batch in the file, by name.
        replaces: Names of the files whose rows are in this one.
        num_ignored: Rows of these batches that are not stored because their target is `ignore_index`.
        num_excluded: Rows of these batches that are not stored because they are invalid.
        has_attributes: True if a row has attributes.
    """

    rows: int
    batches: dict[str, str]
    replaces: tuple[str, ...] = ()
    num_ignored: int = 0
    num_excluded: int = 0
    has_attributes: bool = False

    @property
    def metadata(self) -> dict[bytes, bytes]:
        """The metadata as Parquet stores it."""
        return {METADATA_KEY: orjson.dumps({"format": FORMAT, **vars(self)})}

    @classmethod
    def read(cls, path: str, file: BinaryIO) -> Footer:
        """Read the footer of a data file; any error means that the file is damaged.

        Args:
            path: Path of the file in the data directory, for the error.
            file: The file.

        Raises:
            RunDamagedError: A later version wrote the file in a newer format.
        """
        metadata = pq.read_metadata(file)
        members = orjson.loads((metadata.metadata or {})[METADATA_KEY])
        check_format(path, members.get("format", FORMAT))
        # Members of later versions are left out.
        footer = FOOTER.validate_python({name: members[name] for name in cls.__dataclass_fields__ if name in members})
        if footer.rows != metadata.num_rows:
            raise damage(path, f"has {metadata.num_rows} rows; its footer says {footer.rows}")
        return footer


FOOTER = TypeAdapter(Footer)


@dataclass(frozen=True)
class DataFile:
    """A file with rows of one epoch; `path` is relative to the data directory."""

    epoch: int
    name: str
    path: str
    footer: Footer

    @property
    def size(self) -> int:
        """Number of rows."""
        return self.footer.rows

    @property
    def replaces(self) -> tuple[str, ...]:
        """Names of the files whose rows are in this one."""
        return self.footer.replaces


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The state of a run at one moment.

    Args:
        name: Name of the run.
        manifest: Its manifest.
        num_classes: Number of classes; None before the first batch if the description does not define it.
        data: Live data files (no other file replaces them), sorted by epoch and name.
        files: The data directory.
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
        """Folder of the run's data."""
        return f"runs/{self.name}/{self.manifest.uid}"

    @cached_property
    def epochs(self) -> list[int]:
        """Epochs with batches, ascending."""
        return sorted({file.epoch for file in self.data})

    def epoch(self, number: int | None = None) -> int:
        """Return the epoch if the run has it; for None the last epoch, or 0 if the run has none yet.

        Raises:
            UnknownEpochError: The run has no batch of this epoch; the error lists up to 20 epochs of the run.
        """
        if number is None:
            return self.epochs[-1] if self.epochs else 0
        if number not in self.epochs:
            epochs = ", ".join(map(str, self.epochs[:20])) or "none yet"
            raise UnknownEpochError(f"run {self.name} has no epoch {number}; it has {epochs}")
        return number

    def urls(self, epoch: int | None = None, *, with_attributes: bool = False) -> list[str]:
        """URLs (for DuckDB) of the files of an epoch or of all epochs.

        Args:
            epoch: The epoch; None for all.
            with_attributes: True to leave out files without attributes.
        """
        return [
            self.files.url(file.path)
            for file in self.data
            if (epoch is None or file.epoch == epoch) and (file.footer.has_attributes or not with_attributes)
        ]

    def num_rows(self, epoch: int | None = None) -> int:
        """Number of stored rows of an epoch or of all epochs."""
        return sum(file.footer.rows for file in self.data if epoch is None or file.epoch == epoch)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the run's rows, independent of their distribution over files."""
        content = sorted((file.epoch, *item) for file in self.data for item in file.footer.batches.items())
        return hashlib.sha256(orjson.dumps([self.manifest.uid, content])).hexdigest()


def has_batch(data: Iterable[DataFile], batch: str, digest: str) -> bool:
    """True if the files of an epoch have this batch with this content.

    Raises:
        BatchConflictError: The files have the batch with other content.
    """
    for file in data:
        if batch in file.footer.batches:
            if file.footer.batches[batch] != digest:
                raise BatchConflictError(
                    f"batch {batch} of epoch {file.epoch} is stored with other content; a batch never changes"
                )
            return True
    return False
