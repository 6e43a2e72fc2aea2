"""The Parquet files of an epoch of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from service.runs.cache import BoundedCache
from service.runs.compaction import MergedFolder
from service.runs.damage import named_damage
from service.runs.files import Files
from service.runs.parquet import parquet_writer, read_parquet
from service.runs.schema import SCHEMA
from service.runs.snapshot import DataFile, Footer


class EpochFolder(MergedFolder[DataFile]):
    """The batches of an epoch, each in a file of its own until it is merged.

    Args:
        files: Files of the data directory.
        root: Data folder of the run.
        epoch: The epoch.
        footers: Cache of footers, by path.
    """

    suffix = ".parquet"
    # A file of this many rows is read as fast as two of half its size.
    large = 2_000_000

    def __init__(self, files: Files, root: str, epoch: int, footers: BoundedCache[Footer]) -> None:
        super().__init__(files, f"{root}/epochs/{epoch}")
        self._epoch = epoch
        self._footers = footers

    def read(self, name: str) -> DataFile:
        path = f"{self.path}/{name}"

        def footer() -> Footer:
            with named_damage(path), self.files.open(path) as file:
                return Footer.read(path, file)

        return DataFile(self._epoch, name, path, self._footers.cached(path, footer))

    def write(self, file: BinaryIO, group: Sequence[DataFile], replaces: tuple[str, ...]) -> None:
        footers = [part.footer for part in group]
        footer = Footer(
            rows=sum(part.rows for part in footers),
            batches={name: digest for part in footers for name, digest in part.batches.items()},
            replaces=replaces,
            num_ignored=sum(part.num_ignored for part in footers),
            num_excluded=sum(part.num_excluded for part in footers),
            has_attributes=any(part.has_attributes for part in footers),
        )
        with parquet_writer(file, SCHEMA, small=True) as writer:
            for part in group:
                with self.files.open(part.path) as source:
                    for rows in read_parquet(part.path, source):
                        writer.write_batch(rows)
            writer.add_key_value_metadata(footer.metadata)
