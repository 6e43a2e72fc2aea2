"""Scores of the examples of an epoch that take a pass over its logits, as Parquet files that queries read."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

import pyarrow as pa
import pyarrow.parquet as pq

from service.queries.loss_files import FOLDER
from service.storage.cache import BoundedCache
from service.storage.errors import storage_errors
from service.storage.temporary import TemporaryFile, TemporaryFolder

# Files that stay for later queries.
SCORE_BYTES_CACHED = 512 * 1024**2


class ScoreFiles:
    """The files of the last queries; safe for many threads.

    Args:
        temporary: Folder of the files.
    """

    def __init__(self, temporary: TemporaryFolder) -> None:
        self._temporary = temporary
        self._files: BoundedCache[TemporaryFile] = BoundedCache(
            SCORE_BYTES_CACHED, lambda file: file.path.stat().st_size
        )

    def cached(
        self, key: Hashable, schema: pa.Schema, batches: Callable[[], Iterable[pa.RecordBatch]]
    ) -> TemporaryFile:
        """The file of a key, written from these batches if it does not exist.

        Raises:
            StorageFullError: The disk of the folder is full.
            StorageUnavailableError: The folder cannot be used.
        """
        file = self._files.get(key)
        if file is not None and file.path.exists():
            return file
        with storage_errors(FOLDER):
            file = TemporaryFile(self._temporary.path(), "scores-")
        with pq.ParquetWriter(file.path, schema, compression="lz4", use_dictionary=["batch"]) as writer:
            # An error of reading the batches is no error of this folder.
            for batch in batches():
                with storage_errors(FOLDER):
                    writer.write_batch(batch)
        return self._files.put(key, file)
