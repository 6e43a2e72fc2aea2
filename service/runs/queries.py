"""DuckDB queries over the files of a run: rows with every score, for the loss of any configuration.

All losses are computed from the stored z = log(p_t / (1 - p_t)): with e = exp(-|z|) and
log(1 + e) = 2 atanh(e / (2 + e)), which loses no digits for small e, cross-entropy is max(-z, 0) + log(1 + e),
log(1 - p_t) = -(max(z, 0) + log(1 + e)), and FL = alpha_t exp(-gamma softplus(z)) softplus(-z).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeVar

import duckdb
import orjson
import pyarrow as pa

from service.errors import InvalidConfigError, LossServiceError, StorageFullError, StorageUnavailableError
from service.runs.cache import BoundedCache
from service.runs.check_data import check_data
from service.runs.damage import damage, short_text
from service.runs.data_files import DataFile
from service.runs.interrupts import Cancellation, Interrupter, QueryCancelledError
from service.runs.snapshot import Snapshot
from service.runs.storage_errors import storage_errors
from service.runs.store import RunStore
from service.runs.temporary import TemporaryFolder
from service.schema.config import LossConfig
from service.schema.faults import fault

T = TypeVar("T")
# A row of a result; its members depend on the query.
SqlRow = dict[str, Any]
MAX_ATTEMPTS = 5
RETRY_SOON = {"Retry-After": "1"}
# Errors of a statement, whatever the files have.
OF_SQL = (duckdb.BinderException, duckdb.ParserException, duckdb.CatalogException, duckdb.ConversionException)
TIMEOUT_S = 30.0
ROWS_FETCHED = 10_000
# Cached results, measured as JSON; Python objects take several times as much.
RESULT_BYTES_CACHED = 16 * 1024 * 1024
ENTRY_BYTES = 500
STORED = "epoch, batch, row, id, target, prediction, log_odds, logit_margin, normalized_margin, entropy, el2n"
SCORE_NAMES = (
    "loss",
    "cross_entropy",
    "p_t",
    "log_odds",
    "logit_margin",
    "normalized_margin",
    "entropy",
    "el2n",
)


@dataclass(frozen=True)
class Weighting:
    """Class weights and focusing parameter of the focal loss in a query.

    Args:
        alpha: One weight per class; None for weights of 1.
        gamma: Focusing parameter >= 0.
    """

    alpha: tuple[float, ...] | None
    gamma: float

    @classmethod
    def of(cls, config: LossConfig) -> Weighting:
        """The weighting of a configuration; a sigmoid alpha is the weight of class 1 of two."""
        weights = config.weights
        if config.mode == "sigmoid" and weights is not None:
            weights = (1 - weights[0], weights[0])
        return cls(weights, config.gamma)

    def override(self, alpha: tuple[float, ...] | None, gamma: float | None, num_classes: int | None) -> Weighting:
        """The weighting with another alpha, another gamma, or both.

        Args:
            alpha: One weight per class; for two classes also the weight of class 1 alone; `()` for weights of 1; None
                for no change.
            gamma: None for no change.
            num_classes: Number of classes of the run.

        Raises:
            InvalidConfigError: A value is out of range, or the number of weights is not the number of classes.
        """
        weights = self.alpha
        if alpha is not None:
            config = LossConfig.parse({"alpha": alpha[0] if len(alpha) == 1 else list(alpha) or None})
            weights = config.weights
            if weights is not None and num_classes is not None and len(weights) != num_classes:
                msg = f"alpha has {len(weights)} weights, the run has {num_classes} classes"
                raise fault(InvalidConfigError, msg, "query", "alpha")
        return Weighting(weights, self.gamma if gamma is None else LossConfig.parse({"gamma": gamma}).gamma)

    @property
    def sql(self) -> str:
        """Column expressions of the losses; they use the columns of `_ROWS`."""
        weights = None if self.alpha is None else ", ".join(map(literal, self.alpha))
        alpha = "1::DOUBLE" if weights is None else f"(CAST([{weights}] AS DOUBLE[]))[target + 1]"
        gamma = literal(self.gamma)
        return f"""
            {alpha} AS alpha_t,
            alpha_t * exp(-{gamma} * softplus_z) * cross_entropy AS loss,
            CASE WHEN alpha_t = 0 THEN '-infinity'::DOUBLE
                 ELSE ln(alpha_t) - {gamma} * softplus_z + CASE WHEN z > 30 THEN -z ELSE ln(cross_entropy) END
            END AS log_loss"""


_ROWS = f"""
    {STORED}, attributes,
    greatest(least(log_odds::DOUBLE, 1e30), -1e30) AS z,
    exp(-abs(z)) AS e,
    2 * atanh(e / (2 + e)) AS log1p_e,
    greatest(-z, 0) + log1p_e AS cross_entropy,
    greatest(z, 0) + log1p_e AS softplus_z,
    CASE WHEN z >= 0 THEN 1 / (1 + e) ELSE e / (1 + e) END AS p_t"""


def result_cache() -> BoundedCache[Any]:
    """An empty cache for the results of queries, which are JSON values."""
    return BoundedCache(RESULT_BYTES_CACHED, lambda result: ENTRY_BYTES + len(orjson.dumps(result)))


class RunQueries:
    """Runs queries on runs; safe for many threads.

    Args:
        store: The store of the runs.
        memory_bytes: Memory for all queries together; larger intermediate results go to a temporary folder.
        threads: Threads for one query; None for one per core.
        timeout_s: Seconds for one question.
    """

    def __init__(
        self, store: RunStore, memory_bytes: int, threads: int | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        self.store = store
        self._timeout_s = timeout_s
        self._interrupter = Interrupter()
        self._memory_bytes = memory_bytes
        self._threads = threads
        self._cache = result_cache()
        self._lock = Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self.temporary = TemporaryFolder(store.files)

    def close(self) -> None:
        """Close the database and delete the temporary folder."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            self.temporary.close()

    def ask(self, run: str, question: Callable[[View], T], cancellation: Cancellation | None = None) -> T:
        """Call `question` with the current state of a run; retry if files of the run are merged and deleted meanwhile.

        Args:
            run: Name of the run.
            question: Queries the run; long work outside of DuckDB has to call `View.check` now and then.
            cancellation: Ends the question from another thread.

        Raises:
            UnknownRunError: No run has this name.
            QueryTimeoutError: The question took longer than `timeout_s`.
            QueryCancelledError: The question was cancelled.
            StorageFullError: The query needs more memory and temporary disk space than is available.
            RunDamagedError: A file of the run is damaged.
            StorageUnavailableError: A file of the run cannot be read now.
        """
        cancellation = cancellation or Cancellation()
        cancellation.start(self._timeout_s)
        for _ in range(MAX_ATTEMPTS):
            cancellation.check()
            with self.store.reading(run) as snapshot, closing(self._cursor()) as cursor:
                view = View(cursor, snapshot, self._cache, cancellation)
                try:
                    with self._interrupter.watch(cursor, cancellation):
                        return question(view)
                except duckdb.OutOfMemoryException as err:
                    raise StorageFullError(f"the query needs more than query_memory_bytes: {err}") from err
                except (LossServiceError, QueryCancelledError, MemoryError):
                    raise
                except Exception as err:
                    # DuckDB verifies no checksums: rows of a damaged file may also fail in the code that uses them.
                    cancellation.check()
                    self._explain(err, view)
        raise StorageUnavailableError(f"a file of run {run} cannot be read now", headers=RETRY_SOON)

    def _explain(self, err: Exception, view: View) -> None:
        """Raise the cause of an error of a query; return if a retry may help, since a file was merged and deleted."""
        if isinstance(err, duckdb.InternalException | duckdb.FatalException):
            # DuckDB refuses further queries after such an error; those that still run end by themselves.
            with self._lock:
                self._connection = None
        if isinstance(err, duckdb.IOException) and "No space left" in str(err):
            raise StorageFullError("the folder for intermediate results of queries is full") from err
        for file in (file for snapshot in view.snapshots for file in snapshot.data):
            view.check()
            try:
                check_data(self.store.files, file)
                self._check_with_duckdb(file)
            except FileNotFoundError:
                return
        if isinstance(err, duckdb.Error) and not isinstance(
            err, (*OF_SQL, duckdb.IOException, duckdb.InterruptException)
        ):
            # Statistics in a page header, which no check reads, may be damaged.
            raise damage(
                f"{view.snapshot.root}/epochs", f"has a file that DuckDB cannot read: {short_text(err)}"
            ) from err
        if not isinstance(err, OSError | duckdb.IOException | duckdb.InterruptException):
            raise err

    def _check_with_duckdb(self, file: DataFile) -> None:
        """Read a whole data file as queries do; pyarrow reads some damaged files that DuckDB does not, and others."""
        with closing(self._cursor()) as cursor:
            try:
                rows = f"read_parquet({quoted(self.store.files.url(file.path))})"
                # The conditions and the minimum read the statistics, the rows the pages.
                cursor.execute(f"SELECT * FROM {rows} WHERE epoch >= 0 AND target >= 0")
                while cursor.fetchmany(ROWS_FETCHED):
                    pass
                cursor.execute(f"SELECT count(*), min(COLUMNS(*)) FROM {rows} WHERE id <> ''")
            # The binding raises RuntimeError if a message has bytes of the file.
            except (duckdb.Error, RuntimeError) as err:
                if not self.store.files.exists(file.path):
                    raise FileNotFoundError(file.path) from err
                raise damage(file.path, "cannot be read by DuckDB") from err

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            if self._connection is None:
                with storage_errors("the folder for intermediate results of queries"):
                    folder = self.temporary.path()
                connection = duckdb.connect()
                connection.execute(f"SET memory_limit = '{self._memory_bytes} bytes'")
                if self._threads is not None:
                    connection.execute(f"SET threads = {self._threads}")
                connection.execute("SET temp_directory = ?", [str(folder)])
                connection.execute("SET enable_progress_bar = false")
                connection.execute("SET parquet_metadata_cache = true")
                with suppress(duckdb.Error):
                    connection.execute("SET preserve_insertion_order = false")
                if self.store.files.filesystem is not None:
                    connection.register_filesystem(self.store.files.filesystem)
                self._connection = connection
            return self._connection.cursor()


class View:
    """The state of a run at one moment, for queries.

    Args:
        cursor: DuckDB connection of one thread.
        snapshot: State of the run.
        cache: Cached results, shared by views.
        cancellation: Ends the queries of the view.
    """

    def __init__(
        self,
        cursor: duckdb.DuckDBPyConnection,
        snapshot: Snapshot,
        cache: BoundedCache[Any] | None = None,
        cancellation: Cancellation | None = None,
    ) -> None:
        self.cursor = cursor
        self.snapshot = snapshot
        self.snapshots = [snapshot]
        self._cancellation = cancellation or Cancellation()
        self._cache = cache or result_cache()

    def cached(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The result of `compute`, cached until the run's rows change; callers must not change it.

        Args:
            key: The query and all of its inputs except the rows.
            compute: Runs the query.
        """
        # The digest, since a key may have thousands of class weights.
        digest = hashlib.sha256(repr((self.snapshot.fingerprint, key)).encode()).digest()
        value: T = self._cache.cached(digest, compute)
        return value

    def weighting(self, alpha: tuple[float, ...] | None = None, gamma: float | None = None) -> Weighting:
        """The weighting of the run's configuration, with another alpha or gamma if it is not None."""
        own = Weighting.of(self.snapshot.description.config)
        return own.override(alpha, gamma, self.snapshot.num_classes)

    def scored(self, weighting: Weighting, epoch: int | None = None) -> str:
        """A subquery: rows of an epoch or of all epochs, with every score of `SCORE_NAMES` and `log_loss`."""
        return f"(SELECT *, {weighting.sql} FROM (SELECT {_ROWS} FROM {self.stored(epoch)}))"

    def stored(self, epoch: int | None = None, *, with_attributes: bool = False) -> str:
        """A subquery: stored rows of an epoch or of all epochs; empty if there are none."""
        files = self.snapshot.with_rows(epoch, with_attributes=with_attributes)
        whole = [self._url(file) for file in files if not file.hidden]
        parts = [f"SELECT * FROM read_parquet([{', '.join(whole)}])"] if whole else []
        for file in files:
            if file.hidden:
                batches = ", ".join(map(quoted, file.hidden))
                parts.append(f"SELECT * FROM read_parquet({self._url(file)}) WHERE batch NOT IN ({batches})")
        return f"({' UNION ALL '.join(parts) or EMPTY})"

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
        other = View(self.cursor, snapshot, self._cache, self._cancellation)
        self.snapshots.append(snapshot)
        return other

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

    def batches(self, sql: str, parameters: Sequence[object] = (), rows: int = 65_536) -> Iterator[pa.RecordBatch]:
        """Run a query and return its result as Arrow record batches of at most `rows` rows."""
        self.check()
        try:
            for batch in self.cursor.sql(sql, params=list(parameters)).to_arrow_reader(rows):
                yield batch
                self.check()
        except OSError:
            # An interrupt of a reader is an OSError, which callers would take for a full disk.
            self.check()
            raise


EMPTY = """SELECT NULL::INTEGER AS epoch, NULL::VARCHAR AS batch, NULL::INTEGER AS row, NULL::VARCHAR AS id,
    NULL::INTEGER AS target, NULL::INTEGER AS prediction, NULL::FLOAT AS log_odds, NULL::FLOAT AS logit_margin,
    NULL::FLOAT AS normalized_margin, NULL::FLOAT AS entropy, NULL::FLOAT AS el2n, NULL::FLOAT[] AS logits,
    NULL::VARCHAR AS attributes LIMIT 0"""


def literal(number: float) -> str:
    """The SQL literal of a finite number, in brackets: a second minus before a number would begin a comment."""
    if isinstance(number, int):
        return f"({number})"
    if not math.isfinite(number):
        raise ValueError(f"{number} has no literal")
    return f"({number!r}::DOUBLE)"


def quoted(text: str) -> str:
    """The SQL literal of a text."""
    return "'" + text.replace("'", "''") + "'"
