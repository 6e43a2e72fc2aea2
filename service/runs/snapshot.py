"""The state of a run at one moment: its manifest and its live data files."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import orjson

from service.errors import UnknownEpochError
from service.runs.annotation_files import AnnotationFolder
from service.runs.data_files import Counts, DataFile
from service.runs.manifest import Manifest, RunDescription
from service.storage.files import Files


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The state of a run at one moment.

    Args:
        name: Name of the run.
        manifest: Its manifest.
        num_classes: Number of classes; None before the first batch if the description does not define it.
        data: Live data files (no other file replaces them), sorted by epoch and name.
        files: The data directory.
        annotations: Folder of the labels of several annotators.
    """

    name: str
    manifest: Manifest
    num_classes: int | None
    data: tuple[DataFile, ...]
    files: Files
    annotations: AnnotationFolder

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
        return sorted({file.epoch for file in self.data if file.batches})

    @cached_property
    def _by_epoch(self) -> dict[int, list[DataFile]]:
        by_epoch = defaultdict[int, list[DataFile]](list)
        for file in self.data:
            by_epoch[file.epoch].append(file)
        return dict(by_epoch)

    def data_of(self, epoch: int | None = None) -> Sequence[DataFile]:
        """Live data files of an epoch or of all epochs."""
        return self.data if epoch is None else self._by_epoch.get(epoch, ())

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

    def with_rows(self, epoch: int | None = None, *, with_attributes: bool = False) -> list[DataFile]:
        """Files with rows that count, of an epoch or of all epochs; their `hidden` batches have to be left out.

        Args:
            epoch: The epoch; None for all.
            with_attributes: True to leave out files without attributes.
        """
        return [
            file for file in self.data_of(epoch) if file.size and (file.footer.has_attributes or not with_attributes)
        ]

    def has_logits(self, epoch: int) -> bool:
        """True if the logits of all rows of an epoch are stored."""
        reduced = any(name in file.batches for file in self.data_of(epoch) for name in file.footer.without_logits)
        return self.description.store_logits and not reduced

    def counts(self, epoch: int | None = None) -> Counts:
        """Counts of the rows of an epoch or of all epochs."""
        counts = [file.counts for file in self.data_of(epoch)]
        return Counts(*map(sum, zip(*counts, strict=True))) if counts else Counts(0)

    def num_rows(self, epoch: int | None = None) -> int:
        """Number of stored rows of an epoch or of all epochs."""
        return self.counts(epoch).rows

    def epoch_fingerprint(self, epoch: int) -> str:
        """Digest of the rows of an epoch, independent of their distribution over files."""
        content = sorted(item for file in self.data_of(epoch) for item in file.batches.items())
        return hashlib.sha256(orjson.dumps([self.manifest.uid, epoch, content])).hexdigest()

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the run's rows, independent of their distribution over files."""
        content = sorted((file.epoch, *item) for file in self.data for item in file.batches.items())
        return hashlib.sha256(orjson.dumps([self.manifest.uid, content])).hexdigest()
