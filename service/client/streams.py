"""Streams of batches through `LossClient`: one request under way while the results of another are taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from service.client.arrays import SentBatch, sent_batch
from service.client.errors import shift_batches
from service.client.grouping import Grouping, Progress
from service.errors import LossServiceError
from service.schema.result import BatchResult, LossResult, Totals


class LossStream(Iterator[BatchResult]):
    """Results in the order of their batches; `close` ends it early.

    Args:
        totals: Filled as replies come.
        results: The results.
    """

    def __init__(self, totals: Totals, results: Iterator[BatchResult]) -> None:
        self._totals = totals
        self._results = results

    def __next__(self) -> BatchResult:
        return next(self._results)

    @property
    def totals(self) -> LossResult:
        """The loss, counts, hardest and excluded examples of all requests answered so far; batches counted from 0."""
        return self._totals.result()

    def close(self) -> None:
        """Wait for the request under way and ask for nothing more."""
        if hasattr(self._results, "close"):
            self._results.close()


def stream_results(
    batches: Iterable[Any],
    send: Callable[[Sequence[SentBatch]], LossResult],
    totals: Totals,
    progress: Progress | None,
) -> Iterator[BatchResult]:
    """The result of each batch; `send` is called from a thread of its own."""

    def received(sent: Future[LossResult] | None) -> Sequence[BatchResult]:
        if sent is None:
            return ()
        try:
            reply = sent.result()
        except LossServiceError as err:
            shift_batches(err, totals.num_batches)
            raise
        totals.add_result(reply)
        if progress is not None:
            progress(totals.num_batches, totals.num_examples)
        return reply.batches

    pool = ThreadPoolExecutor(1, thread_name_prefix="loss-stream")
    try:
        ahead: Future[LossResult] | None = None
        for group in _groups(batches):
            done = received(ahead)
            ahead = pool.submit(send, group)
            yield from done
        yield from received(ahead)
    finally:
        pool.shutdown(cancel_futures=True)


def _groups(batches: Iterable[Any]) -> Iterator[list[SentBatch]]:
    grouping = Grouping()
    for number, batch in enumerate(batches):
        if complete := grouping.add(sent_batch(batch, number)):
            yield complete
    if rest := grouping.rest():
        yield rest
