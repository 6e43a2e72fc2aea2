"""Streams of batches through `AsyncLossClient`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any

from service.client.arrays import SentBatch, sent_batch
from service.client.errors import shift_batches
from service.client.grouping import Grouping, Progress
from service.errors import LossServiceError
from service.schema.result import BatchResult, LossResult, Totals

Batches = Iterable[Any] | AsyncIterable[Any]


class AsyncLossStream(AsyncIterator[BatchResult]):
    """Results in the order of their batches; `close` ends it early. Nothing is sent before the first is asked for.

    Args:
        totals: Filled as replies come.
        results: The results.
    """

    def __init__(self, totals: Totals, results: AsyncGenerator[BatchResult, None]) -> None:
        self._totals = totals
        self._results = results

    async def __anext__(self) -> BatchResult:
        return await anext(self._results)

    @property
    def totals(self) -> LossResult:
        """See `LossStream.totals`."""
        return self._totals.result()

    async def close(self) -> None:
        """Give up the request under way and ask for nothing more."""
        await self._results.aclose()


async def stream_results(
    batches: Batches,
    send: Callable[[Sequence[SentBatch]], Awaitable[LossResult]],
    totals: Totals,
    progress: Progress | None,
) -> AsyncGenerator[BatchResult, None]:
    """The result of each batch; one request is under way while the results of another are taken."""

    async def received(sent: asyncio.Future[LossResult] | None) -> Sequence[BatchResult]:
        if sent is None:
            return ()
        try:
            reply = await sent
        except LossServiceError as err:
            shift_batches(err, totals.num_batches)
            raise
        totals.add_result(reply)
        if progress is not None:
            progress(totals.num_batches, totals.num_examples)
        return reply.batches

    ahead: asyncio.Future[LossResult] | None = None
    try:
        async for group in _groups(batches):
            done = await received(ahead)
            ahead = asyncio.ensure_future(send(group))
            for result in done:
                yield result
        for result in await received(ahead):
            yield result
    finally:
        if ahead is not None and not ahead.done():
            ahead.cancel()


async def _groups(batches: Batches) -> AsyncIterator[list[SentBatch]]:
    grouping, number = Grouping(), 0
    async for batch in _each(batches):
        if complete := grouping.add(sent_batch(batch, number)):
            yield complete
        number += 1
    if rest := grouping.rest():
        yield rest


async def _each(batches: Batches) -> AsyncIterator[Any]:
    if isinstance(batches, AsyncIterable):
        async for batch in batches:
            yield batch
    else:
        for batch in batches:
            yield batch
