"""Data files of an epoch: their footers, and the batches in them that count.

A batch that is sent again with `replace`, or deleted, gets the next generation: in a new file with its rows, or in a
file without rows that says what is deleted. Of the rows of a batch only those of the highest generation count, so the
change happens in the moment when the new file appears. Merging drops the other rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import BinaryIO, NamedTuple

import orjson
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from service.runs.damage import FORMAT, check_format, damage

METADATA_KEY = b"focal_loss"


class Counts(NamedTuple):
    """Numbers of rows of a batch: stored, ignored, and excluded ones."""

    rows: int
    num_ignored: int = 0
    num_excluded: int = 0


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
        counts: Counts of each batch; version 0.1.0 did not store them.
        generations: Generation of each batch that is not of generation 1.
        deleted: Batches that are deleted, and the generation of the deletion.
        like_probabilities: Batches whose logits look like probabilities.
        like_log_probabilities: Batches whose logits look like their logarithms.
        without_logits: Batches that were sent as statistics.
    """

    rows: int
    batches: dict[str, str]
    replaces: tuple[str, ...] = ()
    num_ignored: int = 0
    num_excluded: int = 0
    has_attributes: bool = False
    counts: dict[str, Counts] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)
    deleted: dict[str, int] = field(default_factory=dict)
    like_probabilities: tuple[str, ...] = ()
    like_log_probabilities: tuple[str, ...] = ()
    without_logits: tuple[str, ...] = ()

    @property
    def metadata(self) -> dict[bytes, bytes]:
        """The metadata as Parquet stores it."""
        counts = {name: list(numbers) for name, numbers in self.counts.items()}
        return {METADATA_KEY: orjson.dumps({"format": FORMAT, **vars(self), "counts": counts})}

    @property
    def known_counts(self) -> Mapping[str, Counts]:
        """Counts of the batches, as far as they are known."""
        if len(self.batches) == 1:
            return {name: Counts(self.rows, self.num_ignored, self.num_excluded) for name in self.batches}
        return self.counts

    def generation(self, batch: str) -> int:
        """Generation of a batch of the file; 0 if the file says nothing about it."""
        own = self.generations.get(batch, 1) if batch in self.batches else 0
        return max(own, self.deleted.get(batch, 0))

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
    """A file with rows of one epoch.

    Args:
        epoch: The epoch.
        name: Name of the file in its folder.
        path: Its path in the data directory.
        footer: Its footer.
        hidden: Batches of the file that do not count, since a later generation exists, with their counts.
    """

    epoch: int
    name: str
    path: str
    footer: Footer
    hidden: Mapping[str, Counts] = field(default_factory=dict)

    @cached_property
    def batches(self) -> dict[str, str]:
        """Digest of each batch that counts, by name."""
        return {name: digest for name, digest in self.footer.batches.items() if name not in self.hidden}

    @cached_property
    def counts(self) -> Counts:
        """Counts of the batches that count."""
        hidden = [sum(values) for values in zip(*self.hidden.values(), strict=True)] or [0, 0, 0]
        total = (self.footer.rows, self.footer.num_ignored, self.footer.num_excluded)
        return Counts(*(number - less for number, less in zip(total, hidden, strict=True)))

    @property
    def size(self) -> int:
        """Number of rows that count."""
        return self.counts.rows

    @property
    def replaces(self) -> tuple[str, ...]:
        """Names of the files whose rows are in this one."""
        return self.footer.replaces


def latest_generations(files: Iterable[DataFile]) -> dict[str, int]:
    """The highest generation of each batch that was replaced or deleted; all others have generation 1."""
    latest: dict[str, int] = {}
    for file in files:
        for batch, generation in (*file.footer.generations.items(), *file.footer.deleted.items()):
            latest[batch] = max(generation, latest.get(batch, 1))
    return latest


def digest_of(files: Iterable[DataFile], batch: str) -> str | None:
    """Digest of a batch of an epoch; None if the epoch has no such batch."""
    return next((file.batches[batch] for file in files if batch in file.batches), None)


def merged_footer(group: Sequence[DataFile], replaces: tuple[str, ...]) -> Footer:
    """The footer of a file with the rows of several files that count."""
    batches = {name: digest for file in group for name, digest in file.batches.items()}
    latest = latest_generations(group)
    deleted = {name: number for file in group for name, number in file.footer.deleted.items()}
    totals = [sum(numbers) for numbers in zip(*(file.counts for file in group), strict=True)]
    return Footer(
        totals[0],
        batches,
        replaces,
        totals[1],
        totals[2],
        has_attributes=any(file.footer.has_attributes for file in group),
        counts={
            name: counts for file in group for name, counts in file.footer.known_counts.items() if name in file.batches
        },
        generations={name: latest[name] for name in batches if name in latest},
        # A deletion is kept for ever: the name of the file of an older generation must not be used again.
        deleted={name: latest[name] for name in deleted if name not in batches},
        like_probabilities=batches_of(group, lambda footer: footer.like_probabilities),
        like_log_probabilities=batches_of(group, lambda footer: footer.like_log_probabilities),
        without_logits=batches_of(group, lambda footer: footer.without_logits),
    )


def batches_of(group: Iterable[DataFile], listed: Callable[[Footer], tuple[str, ...]]) -> tuple[str, ...]:
    """The batches in a list of the footers that count."""
    return tuple(name for file in group for name in listed(file.footer) if name in file.batches)
