"""Checks of a whole data file: its pages, its columns, and the content that its footer states."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from service.runs.damage import damage, named_damage
from service.runs.data_files import DataFile
from service.runs.element_rows import ElementDigest
from service.runs.parquet import read_parquet
from service.runs.rows import ContentDigest, stored_statistics
from service.storage.files import Files

MAGIC = b"PAR1"


def check_data(files: Files, data: DataFile) -> None:
    """Read a whole data file and compare it with its footer.

    The digest of a batch is compared too if the file has all of its rows and the logits or statistics that were sent;
    it covers these, ids, attributes and targets. Other scores are covered by the checksums of the pages, which version
    0.1.0 did not write.

    Raises:
        RunDamagedError: The file is damaged.
        FileNotFoundError: The file was merged and deleted.
    """
    rows: Counter[str] = Counter()
    digests: dict[str, ContentDigest | ElementDigest] = {}
    with files.open(data.path) as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise damage(data.path, "is not a Parquet file")
        for part in read_parquet(data.path, file):
            with named_damage(data.path):
                part.validate(full=True)
                for batch, group in _by_batch(part):
                    rows[batch] += len(group)
                    _add(digests, batch, group, of_statistics=batch in data.footer.without_logits)
            if pc.any(pc.not_equal(part["epoch"], data.epoch)).as_py():
                raise damage(data.path, "has rows of another epoch")
    _compare(data, rows, digests)


def _add(
    digests: dict[str, ContentDigest | ElementDigest], batch: str, rows: pa.RecordBatch, *, of_statistics: bool
) -> None:
    """Add rows of a batch to its digest."""
    if "targets" in rows.schema.names:
        digest = digests.setdefault(batch, ElementDigest())
        assert isinstance(digest, ElementDigest)
        digest.update(rows)
    elif of_statistics or not rows["logits"].null_count:
        digest = digests.setdefault(batch, ContentDigest(of_statistics=of_statistics))
        assert isinstance(digest, ContentDigest)
        numbers = stored_statistics(rows) if of_statistics else rows["logits"].flatten().to_numpy()
        digest.update(numbers, rows["target"].to_numpy(), rows["id"], rows["attributes"])


def _by_batch(rows: pa.RecordBatch) -> list[tuple[str, pa.RecordBatch]]:
    names = pc.unique(rows["batch"]).to_pylist()
    if len(names) == 1:
        return [(names[0], rows)]
    return [(name, rows.filter(pc.equal(rows["batch"], name))) for name in names]


def _compare(data: DataFile, rows: Counter[str], digests: dict[str, ContentDigest | ElementDigest]) -> None:
    footer = data.footer
    for batch in rows:
        if batch not in footer.batches:
            raise damage(data.path, f"has rows of batch {batch[:100]}, which its footer does not name")
    for batch, counts in footer.known_counts.items():
        if rows[batch] != counts.rows:
            raise damage(data.path, f"has {rows[batch]} rows of batch {batch}; its footer says {counts.rows}")
        digest = digests.get(batch)
        # The digest of structured examples covers only rows that are stored.
        is_complete = isinstance(digest, ElementDigest) or (not counts.num_ignored and not counts.num_excluded)
        if digest is not None and is_complete and digest.hexdigest() != footer.batches[batch]:
            raise damage(data.path, f"has other rows of batch {batch} than were stored")
