"""Threads for runs: queries, storing of batches, and compaction in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock, Thread
from typing import TypeVar

import structlog
from starlette.responses import Response

from service.api.admission import Admission
from service.api.current import CURRENT, until_disconnect
from service.api.http.responses import json_response
from service.errors import LossServiceError, RunDamagedError
from service.queries.interrupts import Cancellation
from service.queries.run_queries import RunQueries
from service.queries.view import View
from service.runs.damage import log_damage
from service.runs.store import RunStore
from service.runs.sweep import sweep
from service.settings import Settings
from service.storage.compaction import MERGED_AT_ONCE, F, MergedFolder, compact
from service.storage.files import open_files

T = TypeVar("T")
THREADS = 2

log = structlog.get_logger("service.runs")


class RunWork:
    """The store of runs, and the threads that read and write it; losses are computed on other threads.

    Args:
        settings: Settings of the service.
        admission: Bounds the questions at work.
        memory_bytes: Memory for the queries of this process.
        cores: Number of threads of one query.
    """

    def __init__(self, settings: Settings, admission: Admission, *, memory_bytes: int, cores: int) -> None:
        self.store = RunStore(open_files(settings.data_dir), settings.max_run_rows)
        self.queries = RunQueries(self.store, memory_bytes, cores, settings.query_timeout_s)
        self._admission = admission
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="runs")
        self._parts = ThreadPoolExecutor(settings.workers, thread_name_prefix="parts")
        self._merging: set[str] = set()
        self._lock = Lock()

    def sweep_later(self) -> None:
        """Delete what processes that died have left in the data directory, on a thread of its own."""
        Thread(target=self._sweep, name="sweep", daemon=True).start()

    def _sweep(self) -> None:
        try:
            sweep(self.store)
        except (LossServiceError, OSError) as err:
            log.warning("sweeping failed", error=type(err).__name__)

    async def do(self, work: Callable[[], T], *, at_once: bool = False) -> T:
        """Call `work` on a thread, for a request.

        Args:
            work: The function to call.
            at_once: True for short work that should not wait behind queries and compaction.

        Raises:
            QueueFullError: No place became free in time.
        """
        request = CURRENT.get()
        async with self._admission.place(client=request.place.client if request else ""):
            executor = self._parts if at_once else self._executor
            try:
                return await asyncio.get_running_loop().run_in_executor(executor, work)
            except RunDamagedError as err:
                log_damage(err)
                raise

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Call `work` on another thread, for a part of a request; it must not wait for other parts."""
        return self._parts.submit(work)

    async def ask(self, run: str, question: Callable[[View], T]) -> T:
        """The result of a function of a run's `View`, called on a thread; see `RunQueries.ask`.

        If the client leaves or the task of the request is cancelled, the queries are interrupted. The body of the
        request must be received.
        """
        cancellation = Cancellation()
        try:
            return await until_disconnect(self.do(lambda: self.queries.ask(run, question, cancellation)))
        finally:
            cancellation.cancel()

    async def reply(self, run: str, question: Callable[[View], object], status: int = 200) -> Response:
        """The result of `ask` as a JSON reply, which is encoded on the thread too."""
        return await self.ask(run, lambda view: json_response(question(view), status))

    def merge_later(self, folder: MergedFolder[F], num_files: int = MERGED_AT_ONCE) -> None:
        """Merge the files of a folder in the background if there are enough of them.

        Args:
            folder: Batches of an epoch, or reviews of a run.
            num_files: Number of its files; the default also merges fewer, if most of their rows are deleted.
        """
        with self._lock:
            if num_files < MERGED_AT_ONCE or folder.path in self._merging:
                return
            self._merging.add(folder.path)
        self._executor.submit(self._merge, folder)

    def _merge(self, folder: MergedFolder[F]) -> None:
        try:
            compact(folder)
        except RunDamagedError as err:
            log_damage(err)
        except (LossServiceError, OSError) as err:
            # The disk is full, or the run was deleted: the files stay and can be read as before.
            log.warning("merging failed", folder=folder.path, error=type(err).__name__)
        finally:
            with self._lock:
                self._merging.discard(folder.path)

    def close(self) -> None:
        """Finish the current work and end the threads."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._parts.shutdown(wait=True)
        self.queries.close()
