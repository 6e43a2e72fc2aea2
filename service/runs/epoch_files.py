"""The Parquet files of an epoch of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from service.runs.damage import named_damage
from service.runs.data_files import Counts, DataFile, Footer, latest_generations, merged_footer
from service.runs.parquet import parquet_writer, read_rows
from service.runs.schema import SCHEMA, SCHEMAS
from service.storage.cache import BoundedCache
from service.storage.compaction import MergedFolder
from service.storage.files import Files


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
        super().__init__(files, f"{root}/epochs/{epoch}", readers=root)
        self.epoch = epoch
        self._footers = footers

    def read(self, name: str) -> DataFile:
        path = f"{self.path}/{name}"

        def footer() -> Footer:
            with named_damage(path), self.files.open(path) as file:
                return Footer.read(path, file)

        return DataFile(self.epoch, name, path, self._footers.cached(path, footer))

    def live(self) -> list[DataFile]:
        """The files that no other file replaces, sorted by name, with their hidden batches."""
        files = super().live()
        latest = latest_generations(files)
        return [self._hide(file, latest) for file in files] if latest else files

    def _hide(self, file: DataFile, latest: dict[str, int]) -> DataFile:
        own = file.footer.generations
        # A replacement that was sent while the batch was being deleted has the generation of the deletion, and counts.
        names = [name for name in latest.keys() & file.footer.batches if own.get(name, 1) < latest[name]]
        if not names:
            return file
        counts = file.footer.known_counts
        if not counts.keys() >= set(names):
            counts = self._count(file)
        return replace(file, hidden={name: counts[name] for name in names})

    def _count(self, file: DataFile) -> dict[str, Counts]:
        """Counts of the batches of a merged file of version 0.1.0, which are not in its footer.

        Its ignored and excluded rows are known for all batches together only, and stay counted.
        """

        def counted() -> Footer:
            names = pa.chunked_array([rows["batch"] for rows in read_rows(self.files, file, ["batch"])], pa.string())
            numbers = {item["values"]: item["counts"] for item in pc.value_counts(names).to_pylist()}
            return replace(file.footer, counts={name: Counts(numbers.get(name, 0)) for name in file.footer.batches})

        return self._footers.cached(f"{file.path} counted", counted).counts

    def obsolete(self, live: Sequence[DataFile]) -> list[DataFile]:
        """Files with more hidden rows than others, and those without rows, if there are hidden rows to drop."""
        empty = [file for file in live if not file.footer.rows]
        mostly_hidden = [file for file in live if file.footer.rows and 2 * file.size <= file.footer.rows]
        return [*empty, *mostly_hidden] if mostly_hidden else []

    def write(self, file: BinaryIO, group: Sequence[DataFile], replaces: tuple[str, ...]) -> None:
        parts = (rows for part in group if part.size for rows in read_rows(self.files, part))
        first = next(parts, SCHEMA.empty_table())
        schema = next(schema for schema in SCHEMAS if first.schema.equals(schema))
        with parquet_writer(file, schema, small=True) as writer:
            for rows in chain([first], parts):
                writer.write(rows)
            writer.add_key_value_metadata(merged_footer(group, replaces).metadata)
