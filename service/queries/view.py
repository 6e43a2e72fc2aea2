"""The state of a run as SQL: rows that count, with every score, for the loss of any configuration."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, TypeVar

import duckdb
import orjson
import pyarrow as pa

from service.queries.duplicates import NONE, LeftOut, epochs_with_duplicates, find_left_out
from service.queries.element_formula import ElementFormula
from service.queries.element_losses import STORED_FOR_LOSSES, ElementLosses
from service.queries.interrupts import Cancellation
from service.queries.loss_files import ElementFiles, LossFiles
from service.queries.score_files import ScoreFiles
from service.queries.sql import ROWS, no_rows, quoted
from service.queries.weighting import Weighting
from service.runs.data_files import DataFile
from service.runs.parquet import read_rows
from service.runs.schema import SCORES
from service.runs.snapshot import Snapshot
from service.storage.cache import BoundedCache
from service.storage.temporary import TemporaryFile, TemporaryFolder

T = TypeVar("T")
# A row of a result; its members depend on the query.
SqlRow = dict[str, Any]
ROWS_FETCHED = 10_000
# Elements that are read at once; their losses take 100 bytes each.
BATCH_VALUES = 2**18
# Cached results, measured as JSON; Python objects take several times as much.
RESULT_BYTES_CACHED = 16 * 1024 * 1024
ENTRY_BYTES = 500
LEFT_OUT_BYTES_CACHED = 64 * 1024 * 1024
TABLE_BYTES_CACHED = 32 * 1024 * 1024
SCORE_NAMES = ("loss", "cross_entropy", "p_t", *SCORES)


class Caches:
    """Results that all views share, by digests of the rows that they read.

    Args:
        temporary: Folder for files of losses.

    Attributes:
        results: Results of queries, which are JSON values.
        left_out: Rows of epochs that do not count.
        tables: Results that are columns.
        losses: Losses of structured examples.
        scores: Scores that take a pass over the logits.
    """

    def __init__(self, temporary: TemporaryFolder) -> None:
        self.losses = LossFiles(temporary)
        self.scores = ScoreFiles(temporary)
        self.results: BoundedCache[Any] = BoundedCache(
            RESULT_BYTES_CACHED, lambda result: ENTRY_BYTES + len(orjson.dumps(result))
        )
        self.left_out: BoundedCache[LeftOut] = BoundedCache(LEFT_OUT_BYTES_CACHED, lambda rows: rows.nbytes)
        self.tables: BoundedCache[pa.Table] = BoundedCache(TABLE_BYTES_CACHED, lambda table: int(table.nbytes))


# Numbers of the tables that views register, which share a connection.
_numbers = itertools.count()


class View:
    """The state of a run at one moment, for queries.

    Args:
        cursor: DuckDB connection of one thread.
        snapshot: State of the run.
        caches: Cached results, shared by views.
        cancellation: Ends the queries of the view.
    """

    def __init__(
        self,
        cursor: duckdb.DuckDBPyConnection,
        snapshot: Snapshot,
        caches: Caches,
        cancellation: Cancellation,
    ) -> None:
        self.cursor = cursor
        self.snapshot = snapshot
        self.snapshots = [snapshot]
        self._cancellation = cancellation
        self._caches = caches
        self._left_out: dict[int, LeftOut] = {}
        self._weights: dict[Weighting, str] = {}
        # Hold the files that the queries of the view read.
        self._loss_files: dict[tuple[Weighting, int], ElementFiles] = {}
        self._score_files: dict[tuple[str, int], TemporaryFile] = {}

    @property
    def is_structured(self) -> bool:
        """True if an example of the run has many elements."""
        return self.snapshot.description.is_structured

    @property
    def correct(self) -> str:
        """The condition in SQL on a row of `scored`: the example is predicted as its label says, in all elements."""
        return "num_wrong = 0" if self.is_structured else "prediction = target"

    def cached(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The result of `compute`, cached until the run's rows change; callers must not change it.

        Args:
            key: The query and all of its inputs except the rows.
            compute: Runs the query.
        """
        # The digest, since a key may have thousands of class weights.
        digest = hashlib.sha256(repr((self.snapshot.fingerprint, key)).encode()).digest()
        value: T = self._caches.results.cached(digest, compute)
        return value

    def cached_table(self, name: str, epoch: int, compute: Callable[[], pa.Table]) -> pa.Table:
        """The result of `compute`, cached until the rows of the epoch change.

        Args:
            name: Name of the result.
            epoch: Epoch of the rows that it reads.
            compute: Runs the query.
        """
        return self._caches.tables.cached((name, self.snapshot.epoch_fingerprint(epoch)), compute)

    def score_file(
        self, name: str, epoch: int, schema: pa.Schema, batches: Callable[[], Iterator[pa.RecordBatch]]
    ) -> str:
        """A subquery: scores of the rows of an epoch, in a file that is cached until these change.

        Args:
            name: Name of the scores.
            epoch: The epoch.
            schema: Columns of the file.
            batches: Computes the scores.
        """
        if (name, epoch) not in self._score_files:
            key = (name, self.snapshot.epoch_fingerprint(epoch))
            self._score_files[name, epoch] = self._caches.scores.cached(key, schema, batches)
        return _of_files([self._score_files[name, epoch]])

    def weighting(self, alpha: tuple[float, ...] | None = None, gamma: float | None = None) -> Weighting:
        """The weighting of the run's configuration, with another alpha or gamma if it is not None."""
        run = self.snapshot.description
        own = Weighting.of(run.config, run.task)
        return own.override(alpha, gamma, self.snapshot.num_classes, run.task)

    def scored(self, weighting: Weighting, epoch: int | None = None) -> str:
        """A subquery: rows of an epoch or of all epochs, with every score of `SCORE_NAMES` and `log_loss`.

        Rows of structured examples have no target, prediction and attributes (null), and further columns of
        `service.queries.element_losses.EXAMPLES`.
        """
        if self.is_structured:
            epochs = self.snapshot.epochs if epoch is None else [epoch]
            return _of_files([self._losses(weighting, number).examples for number in epochs or [0]])
        if not weighting.has_many_classes:
            return f"(SELECT *, {weighting.sql} FROM (SELECT {ROWS} FROM {self.stored(epoch)}))"
        weights = self._weights_table(weighting)
        rows = f"SELECT {ROWS}, class_weight FROM {self.stored(epoch)} JOIN {weights} USING (target)"
        return f"(SELECT * EXCLUDE (class_weight), {weighting.sql} FROM ({rows}))"

    def units(self, weighting: Weighting, epoch: int) -> str:
        """A subquery: the units of the structured examples of an epoch, with the columns of `scored` and those of
        `service.queries.element_losses.UNITS`."""
        return _of_files([self._losses(weighting, epoch).units])

    def _losses(self, weighting: Weighting, epoch: int) -> ElementFiles:
        """The losses of the examples and units of an epoch."""
        if (weighting, epoch) not in self._loss_files:
            key = (self.snapshot.epoch_fingerprint(epoch), weighting)
            losses = self.element_losses(weighting)
            self._loss_files[weighting, epoch] = self._caches.losses.cached(
                key, lambda: map(losses.of, self.stored_batches(epoch, STORED_FOR_LOSSES))
            )
        return self._loss_files[weighting, epoch]

    def element_losses(self, weighting: Weighting) -> ElementLosses:
        """Computes the losses of stored structured examples."""
        run = self.snapshot.description
        return ElementLosses(ElementFormula(run.config, run.task, weighting), run.within)

    def stored_batches(
        self, epoch: int, columns: Sequence[str], values: int = BATCH_VALUES
    ) -> Iterator[pa.RecordBatch]:
        """Read the rows of an epoch that count, in bounded memory.

        Args:
            epoch: The epoch.
            columns: Names of the columns, `batch` and `row` among them.
            values: Maximum number of values of a column of a batch, if its lists have the same length.
        """
        left_out = self.left_out(epoch)
        for data in self.snapshot.with_rows(epoch):
            for rows in read_rows(self.snapshot.files, data, columns, values=values):
                self.check()
                yield left_out.remove_from(rows)

    def _weights_table(self, weighting: Weighting) -> str:
        """Name of a table of the classes and their weights."""
        if weighting not in self._weights:
            weights = weighting.alpha or ()
            columns = {
                "target": pa.array(range(len(weights)), pa.int32()),
                "class_weight": pa.array(weights, pa.float64()),
            }
            self._weights[weighting] = self.register("class_weights", pa.table(columns))
        return self._weights[weighting]

    def stored(self, epoch: int | None = None, *, with_attributes: bool = False) -> str:
        """A subquery: the rows of an epoch or of all epochs that count; empty if there are none.

        Args:
            epoch: The epoch; None for all.
            with_attributes: True to leave out files without attributes.
        """
        epochs = self.snapshot.epochs if epoch is None else [epoch]
        known = self._left_out_of(epochs)
        left_out = {number: known[number] for number in epochs if len(known[number])}
        files = self.snapshot.with_rows(epoch, with_attributes=with_attributes)
        if not left_out:
            return self._every_row(files)
        name = self.register("left_out", pa.concat_tables([rows.places for rows in left_out.values()]))
        # The row that counts may be in a file without attributes.
        some = [file for number in left_out for file in self.snapshot.with_rows(number)]
        others = self._every_row([file for file in files if file.epoch not in left_out])
        return f"({others} UNION ALL SELECT * FROM {self._every_row(some)} ANTI JOIN {name} USING (epoch, batch, row))"

    def has_counts(self, epoch: int) -> bool:
        """True if elements of an epoch stand for several each, so that their predictions are unknown."""
        sql = f"SELECT count(element_counts) AS n FROM {self.stored(epoch)}"
        return self.is_structured and self.cached(("has_counts", epoch), lambda: bool(self.row(sql)["n"]))

    def every_row(self, epoch: int | None = None) -> str:
        """A subquery: all rows of an epoch or of the run, also those that do not count."""
        return self._every_row(self.snapshot.with_rows(epoch))

    def num_examples(self, epoch: int) -> int:
        """Number of rows of an epoch that count: those with different ids."""
        return self.snapshot.num_rows(epoch) - len(self.left_out(epoch))

    def left_out(self, epoch: int) -> LeftOut:
        """The rows of an epoch that do not count, since a later row has the same id."""
        return self._left_out_of([epoch])[epoch]

    def _left_out_of(self, epochs: Sequence[int]) -> dict[int, LeftOut]:
        """The rows that do not count, by epoch; cached until the rows of the epoch change."""
        unknown = [number for number in epochs if number not in self._left_out]
        for number in unknown:
            # Ids are unique in a batch.
            is_one_batch = sum(len(file.batches) for file in self.snapshot.data_of(number)) <= 1
            known = NONE if is_one_batch else self._caches.left_out.get(self.snapshot.epoch_fingerprint(number))
            if known is not None:
                self._left_out[number] = known
        unknown = [number for number in unknown if number not in self._left_out]
        if unknown:
            stored = self._every_row([file for number in unknown for file in self.snapshot.with_rows(number)])
            doubtful = {row["epoch"] for row in self.rows(epochs_with_duplicates(stored))}
            for number in unknown:
                found = NONE
                if number in doubtful:
                    found = find_left_out(self._every_row(self.snapshot.with_rows(number)), self.table)
                self._caches.left_out.put(self.snapshot.epoch_fingerprint(number), found)
                self._left_out[number] = found
        return self._left_out

    def _every_row(self, files: Sequence[DataFile]) -> str:
        whole = [self._url(file) for file in files if not file.hidden]
        parts = [f"SELECT * FROM read_parquet([{', '.join(whole)}])"] if whole else []
        for file in files:
            if file.hidden:
                batches = ", ".join(map(quoted, file.hidden))
                parts.append(f"SELECT * FROM read_parquet({self._url(file)}) WHERE batch NOT IN ({batches})")
        return f"({' UNION ALL '.join(parts) or no_rows(self.snapshot.description.task)})"

    def _url(self, file: DataFile) -> str:
        return quoted(self.snapshot.files.url(file.path))

    def check(self) -> None:
        """Raise if the time of the question is over or its client has disconnected.

        Raises:
            QueryTimeoutError, QueryCancelledError: See `Cancellation.check`.
        """
        self._cancellation.check()

    def of(self, snapshot: Snapshot) -> View:
        """A view of another run, for queries that read both."""
        other = View(self.cursor, snapshot, self._caches, self._cancellation)
        self.snapshots.append(snapshot)
        return other

    def register(self, name: str, table: pa.Table) -> str:
        """Make a table known to queries, and return its name, which no other table of the connection has.

        Args:
            name: Beginning of the name.
            table: The table.
        """
        unique = f"{name}_{next(_numbers)}"
        self.cursor.register(unique, table)
        return unique

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> None:
        """Run a statement."""
        self.check()
        self.cursor.execute(sql, list(parameters))

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[SqlRow]:
        """Run a query and return its rows."""
        self.execute(sql, parameters)
        names = [column[0] for column in self.cursor.description or ()]
        rows: list[SqlRow] = []
        while part := self.cursor.fetchmany(ROWS_FETCHED):
            rows += [dict(zip(names, values, strict=True)) for values in part]
            self.check()
        return rows

    def row(self, sql: str, parameters: Sequence[object] = ()) -> SqlRow:
        """Run a query whose result has exactly one row, and return the row."""
        (row,) = self.rows(sql, parameters)
        return row

    def table(self, sql: str) -> pa.Table:
        """Run a query and return its result as Arrow columns."""
        self.check()
        return self.cursor.sql(sql).to_arrow_table()

    def batches(self, sql: str, parameters: Sequence[object] = (), rows: int = 65_536) -> Iterator[pa.RecordBatch]:
        """Run a query and return its result as one or more Arrow record batches of at most `rows` rows."""
        self.check()
        try:
            reader = self.cursor.sql(sql, params=list(parameters)).to_arrow_reader(rows)
            yield pa.RecordBatch.from_pylist([], reader.schema)
            for batch in reader:
                yield batch
                self.check()
        except OSError:
            # An interrupt of a reader is an OSError, which callers would take for a full disk.
            self.check()
            raise


def _of_files(files: Sequence[TemporaryFile]) -> str:
    names = ", ".join(quoted(str(file.path)) for file in files)
    return f"(FROM read_parquet([{names}]))"
