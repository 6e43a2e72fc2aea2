"""Threads for runs: queries, storing of batches, and compaction in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import TypeVar

import structlog

from service.api.admission import Admission
from service.errors import LossServiceError
from service.runs.compaction import MERGED_AT_ONCE, compact
from service.runs.files import open_files
from service.runs.queries import RunQueries, View
from service.runs.store import RunStore
from service.settings import Settings

T = TypeVar("T")
THREADS = 2

log = structlog.get_logger("service.runs")


class RunWork:
    """The store of runs, and the threads that read and write it; losses are computed on other threads.

    Args:
        settings: Settings of the service.
        admission: Bounds the requests at work.
        memory_bytes: Memory for the queries of this process.
        cores: Threads of one query.
    """

    def __init__(self, settings: Settings, admission: Admission, *, memory_bytes: int, cores: int) -> None:
        self.store = RunStore(open_files(settings.data_dir), settings.max_run_rows)
        self.queries = RunQueries(self.store, memory_bytes, cores)
        self._admission = admission
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="runs")
        self._parts = ThreadPoolExecutor(settings.workers, thread_name_prefix="parts")
        self._merging: set[tuple[str, int]] = set()
        self._lock = Lock()

    async def do(self, work: Callable[[], T], *, at_once: bool = False) -> T:
        """Call `work` on a thread, for a request.

        Args:
            work: The function to call.
            at_once: True for short work that should not wait behind queries and compaction.

        Raises:
            QueueFullError: No place became free in time.
        """
        async with self._admission.place():
            executor = self._parts if at_once else self._executor
            return await asyncio.get_running_loop().run_in_executor(executor, work)

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Call `work` on another thread, for a part of a request; it must not wait for other parts."""
        return self._parts.submit(work)

    async def ask(self, run: str, question: Callable[[View], T]) -> T:
        """What a question finds in a run; see `RunQueries.ask`."""
        return await self.do(lambda: self.queries.ask(run, question))

    def merge_later(self, root: str, epoch: int, files: int) -> None:
        """Merge the files of an epoch in the background if there are enough of them."""
        key = (root, epoch)
        with self._lock:
            if files < MERGED_AT_ONCE or key in self._merging:
                return
            self._merging.add(key)
        self._executor.submit(self._merge, root, epoch)

    def _merge(self, root: str, epoch: int) -> None:
        try:
            compact(self.store, root, epoch)
        except (LossServiceError, OSError) as err:
            # The disk is full, or the run was deleted: the files stay and can be read as before.
            log.warning("merging failed", root=root, epoch=epoch, error=type(err).__name__)
        finally:
            with self._lock:
                self._merging.discard((root, epoch))

    def close(self) -> None:
        """Finish the current work and end the threads."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._parts.shutdown(wait=True)
        self.queries.close()
