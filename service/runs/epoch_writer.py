"""Adds, replaces and deletes batches of an epoch, each in one step that a crash does not cut in half."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import IntEnum
from uuid import uuid4

import pyarrow as pa

from service.errors import BatchConflictError, StorageUnavailableError, UnknownBatchError, UnknownEpochError
from service.runs.data_files import DataFile, Footer, digest_of
from service.runs.epoch_files import EpochFolder
from service.runs.parquet import write_parquet
from service.runs.schema import SCHEMA

MAX_ATTEMPTS = 10


class Stored(IntEnum):
    """Result of storing a batch; false if nothing has changed."""

    SAME = 0
    REPLACED = 1
    NEW = 2


class EpochWriter:
    """Changes the batches of an epoch. Other threads and processes may change and merge them at the same time.

    Args:
        folder: The files of the epoch.
        within: Folder that must exist; see `Files.create`.
    """

    def __init__(self, folder: EpochFolder, within: str) -> None:
        self._folder = folder
        self._within = within

    def add(
        self, known: Sequence[DataFile], batch: str, rows: pa.Table, footer: Callable[[], Footer], *, over: bool = False
    ) -> Stored:
        """Store a batch durably.

        Args:
            known: Files of the epoch as they were a moment ago.
            batch: Name of the batch.
            rows: Its rows.
            footer: Returns the footer of a file with this batch alone; called after the rows are written.
            over: True to replace a batch of the same name with other content.

        Raises:
            BatchConflictError: The epoch has a batch of this name with other content, and `over` is false.
            FileNotFoundError: The run was deleted.
        """
        files, result, epoch = known, Stored.NEW, self._folder.epoch
        for _ in range(MAX_ATTEMPTS):
            stored = digest_of(files, batch)
            if stored is not None:
                if stored == footer().batches[batch]:
                    self._sync(files, batch)
                    return Stored.SAME
                if not over:
                    raise BatchConflictError(
                        f"batch {batch} of epoch {epoch} is stored with other content; replace=true replaces it"
                    )
                result = Stored.REPLACED
            new = self._create(
                batch, 1 + max((file.footer.generation(batch) for file in files), default=0), rows, footer
            )
            # Another process may have stored, replaced or deleted the batch first, in this file or in another one.
            files = self._folder.live()
            if new and digest_of(files, batch) == footer().batches[batch]:
                return result
        raise StorageUnavailableError(f"batch {batch} is being changed all the time", headers={"Retry-After": "1"})

    def _create(self, batch: str, generation: int, rows: pa.Table, footer: Callable[[], Footer]) -> bool:
        def complete_footer() -> Footer:
            return replace(footer(), generations={batch: generation}) if generation > 1 else footer()

        # No batch has `~` in its name.
        name = f"batch-{batch}" if generation == 1 else f"batch-{batch}~{generation}"
        path = f"{self._folder.path}/{name}{self._folder.suffix}"
        return self._folder.files.create(
            path, lambda file: write_parquet(file, rows, complete_footer), within=self._within
        )

    def _sync(self, files: Sequence[DataFile], batch: str) -> None:
        self._folder.files.sync(next(file.path for file in files if batch in file.batches))

    def delete(self, batch: str | None) -> None:
        """Delete a batch or, for None, all batches of the epoch, durably.

        Raises:
            UnknownBatchError: The epoch has no such batch.
            UnknownEpochError: The epoch has no batches.
            FileNotFoundError: The run was deleted.
        """
        files = self._folder.live()
        batches = [name for file in files for name in file.batches if batch in (None, name)]
        if not batches and batch is not None:
            raise UnknownBatchError(f"epoch {self._folder.epoch} has no batch {batch}")
        if not batches:
            raise UnknownEpochError(f"the run has no epoch {self._folder.epoch}")
        deleted = {name: 1 + max(file.footer.generation(name) for file in files) for name in batches}
        path = f"{self._folder.path}/deleted-{uuid4().hex}{self._folder.suffix}"
        footer = Footer(0, {}, deleted=deleted)
        self._folder.files.create(
            path, lambda file: write_parquet(file, SCHEMA.empty_table(), lambda: footer), within=self._within
        )
