"""Ends queries that take too long or whose client has disconnected."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Thread

import duckdb

from service.errors import QueryTimeoutError

# DuckDB forgets an interrupt that comes between two queries, so it is repeated.
CHECKED_EVERY_S = 0.05


class QueryCancelledError(Exception):
    """The request of a query has ended; the query has no reply."""


class Cancellation:
    """Ends a query at the end of its time, or earlier from any thread."""

    def __init__(self) -> None:
        self._timeout_s = math.inf
        self._ends_at = math.inf
        self._is_cancelled = False

    def start(self, timeout_s: float) -> None:
        """Start the time of the query."""
        self._timeout_s, self._ends_at = timeout_s, time.monotonic() + timeout_s

    def cancel(self) -> None:
        """End the query now; does nothing if it has ended."""
        self._is_cancelled = True

    @property
    def is_over(self) -> bool:
        """True if the query has to end."""
        return self._is_cancelled or time.monotonic() > self._ends_at

    def check(self) -> None:
        """Raise if the query has to end.

        Raises:
            QueryTimeoutError: Its time is over.
            QueryCancelledError: `cancel` was called.
        """
        if self._is_cancelled:
            raise QueryCancelledError
        if time.monotonic() > self._ends_at:
            msg = f"the query took longer than query_timeout_s, {self._timeout_s:g} s"
            raise QueryTimeoutError(msg, headers={"Retry-After": "10"})


class Interrupter:
    """Interrupts DuckDB connections whose query has to end, from a thread that sleeps while no query runs."""

    def __init__(self) -> None:
        self._running: dict[duckdb.DuckDBPyConnection, Cancellation] = {}
        self._changed = Condition()
        self._thread: Thread | None = None

    @contextmanager
    def watch(self, cursor: duckdb.DuckDBPyConnection, cancellation: Cancellation) -> Iterator[None]:
        """Interrupt the queries of a connection from the moment when `cancellation` is over."""
        with self._changed:
            if self._thread is None:
                self._thread = Thread(target=self._run, name="interrupts", daemon=True)
                self._thread.start()
            self._running[cursor] = cancellation
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                del self._running[cursor]

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._running)
                for cursor, cancellation in self._running.items():
                    if cancellation.is_over:
                        cursor.interrupt()
            time.sleep(CHECKED_EVERY_S)
