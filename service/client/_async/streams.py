"""Streams of batches: one request is in progress while the caller uses the results of the previous one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence

from service.client.batches import SentBatch
from service.client.calls import Converter
from service.client.concurrency import AsyncBackground, AsyncBatches, async_enumerate
from service.client.errors import shift_batches
from service.client.grouping import Grouping, Progress
from service.errors import LossServiceError
from service.schema.result import BatchResult, LossResult, Totals


class AsyncLossStream(AsyncIterator[BatchResult]):
    """Results in the order of their batches. Nothing is sent before the first result is requested.

    Args:
        totals: Totals that the replies are added to.
        results: Generator of the results.
    """

    def __init__(self, totals: Totals, results: AsyncGenerator[BatchResult, None]) -> None:
        self._totals = totals
        self._results = results

    async def __anext__(self) -> BatchResult:
        return await anext(self._results)

    @property
    def totals(self) -> LossResult:
        """Loss, counts, hardest and excluded examples of the batches so far. Batches are numbered from 0."""
        return self._totals.result()

    async def close(self) -> None:
        """End the stream early: send no further requests."""
        await self._results.aclose()


async def stream_results(
    batches: AsyncBatches,
    send: Callable[[Sequence[SentBatch]], Awaitable[LossResult]],
    converter: Callable[[], Awaitable[Converter]],
    totals: Totals,
    progress: Progress | None,
) -> AsyncGenerator[BatchResult, None]:
    """Yield the result of each batch.

    Args:
        batches: Batches in the forms that `sent_batch` takes.
        send: Function that sends one request with these batches.
        converter: Function that returns the function that converts a batch and its number.
        totals: Totals to add the replies to.
        progress: Function called after each reply with the number of batches and of examples so far.
    """
    convert = await converter()
    request = AsyncBackground[LossResult]()

    async def receive() -> Sequence[BatchResult]:
        try:
            reply = await request.result()
        except LossServiceError as err:
            shift_batches(err, totals.num_batches)
            raise
        if reply is None:
            return ()
        totals.add_result(reply)
        if progress is not None:
            progress(totals.num_batches, totals.num_examples)
        return reply.batches

    try:
        async for group in _groups(batches, convert):
            results = await receive()
            request.start(send, group)
            for result in results:
                yield result
        for result in await receive():
            yield result
    finally:
        request.close()


async def _groups(batches: AsyncBatches, convert: Converter) -> AsyncIterator[list[SentBatch]]:
    grouping = Grouping()
    async for number, batch in async_enumerate(batches):
        if complete := grouping.add(convert(batch, number)):
            yield complete
    if last := grouping.take():
        yield last
