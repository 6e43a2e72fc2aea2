"""Losses of structured examples as Parquet files in the temporary folder, which queries read."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from service.queries.element_losses import EXAMPLES, UNITS
from service.storage.cache import BoundedCache
from service.storage.errors import storage_errors
from service.storage.temporary import TemporaryFile, TemporaryFolder

# Files that stay for later queries.
FILE_BYTES_CACHED = 2 * 1024**3

FOLDER = "the folder for intermediate results of queries"

Batches = Iterable[tuple[pa.RecordBatch, pa.RecordBatch]]


class ElementFiles(NamedTuple):
    """The files of an epoch for one loss, which exist as long as they are referenced.

    Args:
        examples: Rows of `EXAMPLES`.
        units: Rows of `UNITS`.
    """

    examples: TemporaryFile
    units: TemporaryFile

    @property
    def num_bytes(self) -> int:
        """Size of both."""
        return sum(file.path.stat().st_size for file in self)


class LossFiles:
    """The files of the last queries; safe for many threads.

    Args:
        temporary: Folder of the files.
    """

    def __init__(self, temporary: TemporaryFolder) -> None:
        self._temporary = temporary
        self._files: BoundedCache[ElementFiles] = BoundedCache(FILE_BYTES_CACHED, lambda files: files.num_bytes)

    def cached(self, key: Hashable, batches: Callable[[], Batches]) -> ElementFiles:
        """The files of a key, written from these batches if they do not exist.

        Raises:
            StorageFullError: The disk of the folder is full.
            StorageUnavailableError: The folder cannot be used.
        """
        files = self._files.get(key)
        if files is not None and all(file.path.exists() for file in files):
            return files
        return self._files.put(key, self._write(batches()))

    def _write(self, batches: Batches) -> ElementFiles:
        with storage_errors(FOLDER):
            folder = self._temporary.path()
            files = ElementFiles(TemporaryFile(folder, "examples-"), TemporaryFile(folder, "units-"))
        with _writer(files.examples, EXAMPLES) as examples, _writer(files.units, UNITS) as units:
            # An error of reading the batches is no error of this folder.
            for of_examples, of_units in batches:
                with storage_errors(FOLDER):
                    examples.write_batch(of_examples)
                    units.write_batch(of_units)
        return files


def _writer(file: TemporaryFile, schema: pa.Schema) -> pq.ParquetWriter:
    texts = ["batch", "id"]
    return pq.ParquetWriter(file.path, schema, compression="lz4", use_dictionary=texts)
