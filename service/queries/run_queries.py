"""Runs queries on runs in DuckDB: bounded in memory and time, and again if files were merged meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from threading import Lock
from typing import TypeVar

import duckdb

from service.errors import LossServiceError, StorageFullError, StorageUnavailableError
from service.queries.interrupts import Cancellation, Interrupter, QueryCancelledError
from service.queries.sql import quoted
from service.queries.view import ROWS_FETCHED, Caches, View
from service.runs.check_data import check_data
from service.runs.damage import damage, short_text
from service.runs.data_files import DataFile
from service.runs.schema import schema_of
from service.runs.store import RunStore
from service.schema.structure import Task
from service.storage.errors import storage_errors
from service.storage.temporary import TemporaryFolder

T = TypeVar("T")
MAX_ATTEMPTS = 5
RETRY_SOON = {"Retry-After": "1"}
# Errors of a statement, whatever the files have.
OF_SQL = (duckdb.BinderException, duckdb.ParserException, duckdb.CatalogException, duckdb.ConversionException)
TIMEOUT_S = 30.0


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
        self._lock = Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self.temporary = TemporaryFolder(store.files)
        self._caches = Caches(self.temporary)

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
                view = View(cursor, snapshot, self._caches, cancellation)
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
        for snapshot in view.snapshots:
            for file in snapshot.data:
                view.check()
                try:
                    check_data(self.store.files, file)
                    self._check_with_duckdb(file, snapshot.description.task)
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

    def _check_with_duckdb(self, file: DataFile, task: Task) -> None:
        """Read a whole data file as queries do: DuckDB cannot read some files that pyarrow reads, and vice versa."""
        with closing(self._cursor()) as cursor:
            try:
                rows = f"read_parquet({quoted(self.store.files.url(file.path))})"
                # The conditions and the minimum read the statistics, the rows the pages.
                counted = "target" if "target" in schema_of(task).names else "num_valid"
                cursor.execute(f"SELECT * FROM {rows} WHERE epoch >= 0 AND {counted} >= 0")
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
                connection.execute("SET preserve_insertion_order = false")
                if self.store.files.filesystem is not None:
                    connection.register_filesystem(self.store.files.filesystem)
                self._connection = connection
            return self._connection.cursor()
