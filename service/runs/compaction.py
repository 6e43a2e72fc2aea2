"""Merging many small files into few: what makes a run of ten thousand batches as fast as one of ten.

Files of one level are merged into one of the next as soon as there are `MERGED_AT_ONCE` of them, so each row is written
once for each level, and there are few levels. The merged file is put there in one step and names those it replaces;
only then are these deleted. A reader that has listed them meanwhile lists again (`service.runs.queries`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import BinaryIO

import pyarrow.parquet as pq

from service.runs.files import Files
from service.runs.parquet import parquet_writer
from service.runs.schema import SCHEMA
from service.runs.snapshot import DataFile, Footer
from service.runs.store import RunStore

MERGED_AT_ONCE = 32
# A file of this many rows is read as fast as two of half its size.
LARGE_ROWS = 2_000_000
LEVEL = re.compile(r"level(\d+)-")


def compact(store: RunStore, root: str, epoch: int) -> int:
    """Merge what there is to merge in an epoch; how many files went into others.

    Only one process does it at a time; where another one is at it, nothing happens.

    Args:
        store: Of the run.
        root: The run's data folder.
        epoch: Whose files to merge.
    """
    folder, merged = f"{root}/epochs/{epoch}", 0
    with store.files.lock(folder) as mine:
        while mine:
            live = store.epoch_files(root, epoch)
            _delete_replaced(store.files, folder, live)
            group = _group(live)
            if not group:
                break
            _merge(store.files, folder, group)
            merged += len(group)
    return merged


def _level(name: str) -> int:
    found = LEVEL.match(name)
    return int(found[1]) if found else 0


def _group(live: Sequence[DataFile]) -> list[DataFile]:
    """The files of the lowest level that has enough of them."""
    levels: dict[int, list[DataFile]] = {}
    for one in live:
        if one.footer.rows < LARGE_ROWS:
            levels.setdefault(_level(one.name), []).append(one)
    full = [level for level, files in levels.items() if len(files) >= MERGED_AT_ONCE]
    return levels[min(full)] if full else []


def _merge(files: Files, folder: str, group: Sequence[DataFile]) -> None:
    footer = Footer(
        rows=sum(one.footer.rows for one in group),
        batches={name: digest for one in group for name, digest in one.footer.batches.items()},
        # Those that its parts have replaced may not be deleted yet.
        replaces=tuple(sorted({name for one in group for name in (one.name, *one.footer.replaces)})),
        num_ignored=sum(one.footer.num_ignored for one in group),
        num_excluded=sum(one.footer.num_excluded for one in group),
        has_attributes=any(one.footer.has_attributes for one in group),
    )
    level = 1 + max(_level(one.name) for one in group)
    digest = hashlib.sha256("\n".join(footer.replaces).encode()).hexdigest()[:16]

    def write(file: BinaryIO) -> None:
        with parquet_writer(file, SCHEMA, small=True) as writer:
            for one in group:
                with files.open(one.path) as part:
                    for rows in pq.ParquetFile(part).iter_batches():
                        writer.write_batch(rows)
            writer.add_key_value_metadata(footer.metadata)

    files.create(f"{folder}/level{level}-{digest}.parquet", write)


def _delete_replaced(files: Files, folder: str, live: Sequence[DataFile]) -> None:
    there = set(files.names(folder))
    for one in live:
        for name in one.footer.replaces:
            if name in there:
                files.delete(f"{folder}/{name}")
