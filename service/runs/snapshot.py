"""A run as it was at one moment: its manifest, and the files that count."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

import orjson
import pyarrow.parquet as pq

from service.errors import BatchConflictError, UnknownEpochError
from service.runs.files import Files
from service.runs.manifest import Manifest, RunDescription

METADATA_KEY = b"focal_loss"


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
        fields = orjson.loads((pq.read_metadata(file).metadata or {})[METADATA_KEY])
        return cls(**{**fields, "replaces": tuple(fields["replaces"])})


@dataclass(frozen=True)
class DataFile:
    """A file with rows of one epoch."""

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
