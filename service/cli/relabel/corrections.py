"""The corrected labels of a run on disk, to be found by id: the run may be larger than the memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypeAlias, cast

import orjson
import pyarrow as pa

from service.client import RunClient
from service.schema.replies.corrected import CorrectedPolicy, CorrectedStatus

# A class, or the classes of the elements of an example.
Classes: TypeAlias = "int | list[Classes] | None"


class Correction(NamedTuple):
    """The label of an example of the run.

    Args:
        label: Class to use; None if there is none. Of an example with many elements nested lists of them.
        given: Class that the run has, or nested lists; None for an ignored element.
        status: Status of its review.
        reviewers: Names of the reviewers, separated by commas.
    """

    label: Classes
    given: Classes
    status: CorrectedStatus
    reviewers: str


class Corrections:
    """The labels of the examples of a run.

    Args:
        cursor: Of a database with the table `corrections`.
    """

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor

    def find(self, identity: str) -> Correction | None:
        """The label of an example; None if the run does not have the example."""
        try:
            sql = "SELECT label, given, status, reviewers FROM corrections WHERE id = ?"
            row = self._cursor.execute(sql, (identity,)).fetchone()
        except UnicodeEncodeError:  # bytes that are no text, and so no id of a run
            return None
        return None if row is None else Correction(_read(row[0]), _read(row[1]), *row[2:])


@contextmanager
def downloaded(run: RunClient, policy: CorrectedPolicy) -> Iterator[Corrections]:
    """Download the corrected labels of a run to a temporary folder, which is deleted at the end."""
    with TemporaryDirectory(prefix="focal-loss-") as folder:
        file = Path(folder) / "corrected.arrow"
        run.corrected(file, format="arrow", policy=policy, attributes=False)
        connection = sqlite3.connect(Path(folder) / "corrected.db", isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(
                "CREATE TABLE corrections (id TEXT PRIMARY KEY, label INTEGER, given INTEGER, status TEXT, "
                "reviewers TEXT) WITHOUT ROWID"
            )
            with pa.memory_map(str(file)) as source:
                _insert(connection, pa.ipc.open_file(source))
            yield Corrections(connection.cursor())
        finally:
            connection.close()


def _insert(connection: sqlite3.Connection, file: pa.RecordBatchFileReader) -> None:
    connection.execute("BEGIN")
    for number in range(file.num_record_batches):
        batch = file.get_batch(number)
        index = "_index" if "label_index" in batch.schema.names else ""
        names = ("id", f"label{index}", f"given_label{index}", "status")
        columns = [map(_stored, batch.column(name).to_pylist()) for name in names]
        reviewers = [", ".join(listed) for listed in batch.column("reviewers").to_pylist()]
        rows = zip(*columns, reviewers, strict=True)
        connection.executemany("INSERT INTO corrections VALUES (?, ?, ?, ?, ?)", rows)
    connection.execute("COMMIT")


def _stored(value: object) -> object:
    """A value as SQLite stores it: lists as JSON."""
    return orjson.dumps(value) if isinstance(value, list) else value


def _read(value: object) -> Classes:
    return cast("Classes", orjson.loads(value) if isinstance(value, bytes) else value)
