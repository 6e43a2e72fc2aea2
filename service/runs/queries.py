"""DuckDB over the files of a run: rows with every score, for the loss of any configuration.

All losses follow from z = log(p_t / (1 - p_t)), which the rows keep: with e = exp(-|z|) and
log(1 + e) = 2 atanh(e / (2 + e)), which loses no digits for small e, cross-entropy is max(-z, 0) + log(1 + e),
log(1 - p_t) = -(max(z, 0) + log(1 + e)), and FL = alpha_t exp(-gamma softplus(z)) softplus(-z).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from service.errors import InvalidConfigError, StorageFullError, StorageUnavailableError
from service.runs.cache import BoundedCache
from service.runs.snapshot import Snapshot
from service.runs.store import RunStore
from service.schema.config import LossConfig

T = TypeVar("T")
# A row of a result; its members depend on the query.
SqlRow = dict[str, Any]
FILES_MOVED = 5
RESULTS_CACHED = 128
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
    """Of which focal loss the losses are.

    Args:
        alpha: One weight per class, None for all 1.
        gamma: >= 0.
    """

    alpha: tuple[float, ...] | None
    gamma: float

    @classmethod
    def of(cls, config: LossConfig) -> Weighting:
        """That of a configuration; a sigmoid alpha belongs to class 1 of two."""
        weights = config.weights
        if config.mode == "sigmoid" and weights is not None:
            weights = (1 - weights[0], weights[0])
        return cls(weights, config.gamma)

    def instead(self, alpha: tuple[float, ...] | None, gamma: float | None, num_classes: int | None) -> Weighting:
        """What if: another alpha, another gamma, or both.

        Args:
            alpha: One weight per class; one number for two classes, that of class 1; `()` for all 1; None for no
                change.
            gamma: None for no change.
            num_classes: Of the run.

        Raises:
            InvalidConfigError: alpha has another number of weights than the run has classes.
        """
        weights = self.alpha
        if alpha is not None:
            config = LossConfig.parse({"alpha": alpha[0] if len(alpha) == 1 else list(alpha) or None})
            weights = config.weights
            if weights is not None and num_classes is not None and len(weights) != num_classes:
                msg = f"alpha has {len(weights)} weights, the run {num_classes} classes"
                raise InvalidConfigError(msg, errors=[{"loc": ["query", "alpha"], "msg": msg}])
        chosen = self.gamma if gamma is None else LossConfig.parse({"gamma": gamma}).gamma
        return Weighting(weights, chosen)

    @property
    def sql(self) -> str:
        """The columns of the losses, after those of `_ROWS`."""
        weights = None if self.alpha is None else ", ".join(map(repr, self.alpha))
        alpha = "1::DOUBLE" if weights is None else f"(CAST([{weights}] AS DOUBLE[]))[target + 1]"
        gamma = f"{self.gamma!r}::DOUBLE"
        return f"""
            {alpha} AS alpha_t,
            alpha_t * exp(-{gamma} * not_easy) * cross_entropy AS loss,
            CASE WHEN alpha_t = 0 THEN '-infinity'::DOUBLE
                 ELSE ln(alpha_t) - {gamma} * not_easy + CASE WHEN z > 30 THEN -z ELSE ln(cross_entropy) END
            END AS log_loss"""


_ROWS = f"""
    {STORED}, attributes,
    greatest(least(log_odds::DOUBLE, 1e30), -1e30) AS z,
    exp(-abs(z)) AS e,
    2 * atanh(e / (2 + e)) AS tail,
    greatest(-z, 0) + tail AS cross_entropy,
    greatest(z, 0) + tail AS not_easy,
    CASE WHEN z >= 0 THEN 1 / (1 + e) ELSE e / (1 + e) END AS p_t"""


class RunQueries:
    """Questions about runs; safe for many threads.

    Args:
        store: Of the runs.
        memory_bytes: For all queries together; what needs more goes to a temporary folder.
        threads: For one query; None: as many as the machine has cores.
    """

    def __init__(self, store: RunStore, memory_bytes: int, threads: int | None = None) -> None:
        self.store = store
        self._memory_bytes = memory_bytes
        self._threads = threads
        self._cache: BoundedCache[Any] = BoundedCache(RESULTS_CACHED)
        self._lock = Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._temporary: TemporaryDirectory[str] | None = None

    def close(self) -> None:
        """End the database and take its temporary folder away."""
        with self._lock:
            if self._connection is not None and self._temporary is not None:
                self._connection.close()
                self._temporary.cleanup()
                self._connection = None

    def ask(self, run: str, question: Callable[[View], T]) -> T:
        """What the question finds in a run as it is now; asked again where files were merged under it.

        Raises:
            UnknownRunError: No run of this name is kept.
            StorageFullError: The query needs more memory and temporary space than there is.
        """
        for attempt in range(FILES_MOVED):
            snapshot = self.store.snapshot(run)
            cursor = self._cursor()
            try:
                return question(View(cursor, snapshot, self._cache))
            except duckdb.OutOfMemoryException as err:
                raise StorageFullError(f"the query needs more than query_memory_bytes: {err}") from err
            # From the midst of a stream it comes as an OSError of Arrow.
            except (duckdb.IOException, OSError) as err:
                if attempt == FILES_MOVED - 1:
                    raise StorageUnavailableError(f"a file of run {run} cannot be read: {err}") from err
            finally:
                cursor.close()
        raise AssertionError("unreachable")

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            if self._connection is None:
                self._temporary = TemporaryDirectory(prefix="focal-loss-queries-")
                connection = duckdb.connect()
                connection.execute(f"SET memory_limit = '{self._memory_bytes} bytes'")
                if self._threads is not None:
                    connection.execute(f"SET threads = {self._threads}")
                connection.execute("SET temp_directory = ?", [self._temporary.name])
                connection.execute("SET enable_progress_bar = false")
                connection.execute("SET parquet_metadata_cache = true")
                with suppress(duckdb.Error):
                    connection.execute("SET preserve_insertion_order = false")
                if self.store.files.filesystem is not None:
                    connection.register_filesystem(self.store.files.filesystem)
                self._connection = connection
            return self._connection.cursor()


class View:
    """One run at one moment, as DuckDB sees it.

    Args:
        cursor: A connection of this thread.
        snapshot: The run.
        cache: Results of earlier views.
    """

    def __init__(
        self, cursor: duckdb.DuckDBPyConnection, snapshot: Snapshot, cache: BoundedCache[Any] | None = None
    ) -> None:
        self.cursor = cursor
        self.snapshot = snapshot
        self._cache: BoundedCache[Any] = cache or BoundedCache(RESULTS_CACHED)

    def cached(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The result of `compute`, cached while the run's rows are the same; callers must not change it.

        Args:
            key: Names the query and every input but the rows.
            compute: Runs the query.
        """
        value: T = self._cache.cached((self.snapshot.fingerprint, key), compute)
        return value

    def weighting(self, alpha: tuple[float, ...] | None = None, gamma: float | None = None) -> Weighting:
        """The run's own, or what if."""
        own = Weighting.of(self.snapshot.description.config)
        return own.instead(alpha, gamma, self.snapshot.num_classes)

    def scored(self, weighting: Weighting, epoch: int | None = None) -> str:
        """A subquery: the rows of an epoch, or of all, with every score of `SCORE_NAMES` and `log_loss`."""
        return f"(SELECT *, {weighting.sql} FROM (SELECT {_ROWS} FROM {self.stored(epoch)}))"

    def stored(self, epoch: int | None = None, *, with_attributes: bool = False) -> str:
        """The rows as they are kept; a table without rows where there are none."""
        urls = self.snapshot.urls(epoch, with_attributes=with_attributes)
        if not urls:
            return f"({EMPTY})"
        return f"read_parquet([{', '.join(map(quoted, urls))}])"

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[SqlRow]:
        """Rows of the result."""
        self.cursor.execute(sql, list(parameters))
        names = [column[0] for column in self.cursor.description or ()]
        return [dict(zip(names, values, strict=True)) for values in self.cursor.fetchall()]

    def row(self, sql: str, parameters: Sequence[object] = ()) -> SqlRow:
        """The row of a result that has one."""
        (row,) = self.rows(sql, parameters)
        return row

    def reader(self, sql: str, parameters: Sequence[object] = (), rows: int = 65_536) -> pa.RecordBatchReader:
        """The result as Arrow record batches."""
        return self.cursor.sql(sql, params=list(parameters)).to_arrow_reader(rows)


EMPTY = """SELECT NULL::INTEGER AS epoch, NULL::VARCHAR AS batch, NULL::INTEGER AS row, NULL::VARCHAR AS id,
    NULL::INTEGER AS target, NULL::INTEGER AS prediction, NULL::FLOAT AS log_odds, NULL::FLOAT AS logit_margin,
    NULL::FLOAT AS normalized_margin, NULL::FLOAT AS entropy, NULL::FLOAT AS el2n, NULL::FLOAT[] AS logits,
    NULL::VARCHAR AS attributes LIMIT 0"""


def quoted(text: str) -> str:
    """A text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"
