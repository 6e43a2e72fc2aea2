"""`AsyncRunClient`: `RunClient`, awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.client import run_calls
from service.client.calls import one_batch
from service.schema.request import DEFAULT_OUTPUTS, OnInvalid
from service.schema.result import LossResult

if TYPE_CHECKING:
    from service.client.async_client import AsyncLossClient

JSON = dict[str, Any]


class AsyncRunClient:
    """A run, by its name; every argument and error is that of `RunClient`.

    Args:
        client: Of the service.
        name: Of the run.
    """

    def __init__(self, client: AsyncLossClient, name: str) -> None:
        self._client = client
        self.name = name

    async def describe(self) -> JSON:
        """See `RunClient.describe`."""
        return await self._client.send(run_calls.get_run_call(self.name))

    async def delete(self) -> None:
        """See `RunClient.delete`."""
        await self._client.send(run_calls.delete_run_call(self.name))

    async def push(
        self,
        epoch: int,
        batch: str,
        logits: Any,
        targets: Any = None,
        ids: Any = None,
        *,
        attributes: Mapping[str, Any] | None = None,
        outputs: Iterable[str] = DEFAULT_OUTPUTS,
        top_k: int = 0,
        on_invalid: OnInvalid = "error",
    ) -> LossResult:
        """See `RunClient.push`; the arrays must not change until it returns."""
        sent = one_batch(logits, targets, ids)
        options = attributes, outputs, top_k, on_invalid
        return await self._client.send(run_calls.put_batch_call(self.name, epoch, batch, sent, *options))

    async def examples(
        self,
        *,
        sort: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
        attributes: Mapping[str, str] | None = None,
        **filters: Any,
    ) -> JSON:
        """See `RunClient.examples`."""
        call = run_calls.examples_call(self.name, attributes, sort=sort, limit=limit, cursor=cursor, **filters)
        return await self._client.send(call)

    async def all_examples(self, *, limit: int = run_calls.PAGE_ROWS, **query: Any) -> AsyncIterator[JSON]:
        """See `RunClient.all_examples`."""
        cursor = None
        while True:
            page = await self.examples(limit=limit, cursor=cursor, **query)
            for row in page["rows"]:
                yield row
            cursor = page["next_cursor"]
            if cursor is None:
                return
            # Another epoch may have come meanwhile.
            query["epoch"] = page["epoch"]

    async def example(self, example_id: str | int, **query: Any) -> JSON:
        """See `RunClient.example`."""
        return await self._client.send(run_calls.example_call(self.name, example_id, **query))

    async def diagnostics(self, **query: Any) -> JSON:
        """See `RunClient.diagnostics`."""
        return await self._client.send(run_calls.asked_of_run(self.name, "diagnostics", **query))

    async def dynamics(self, **query: Any) -> JSON:
        """See `RunClient.dynamics`."""
        return await self._client.send(run_calls.asked_of_run(self.name, "dynamics", **query))

    async def create_queue(
        self, strategy: str, budget: int = 50, *, alpha: Any = None, gamma: float | None = None, **members: Any
    ) -> JSON:
        """See `RunClient.create_queue`."""
        call = run_calls.create_queue_call(self.name, strategy, budget, alpha, gamma, members)
        return await self._completed(await self._client.send(call))

    async def queues(self) -> list[JSON]:
        """See `RunClient.queues`."""
        return await self._client.send(run_calls.queues_call(self.name))

    async def queue(
        self,
        name: str,
        *,
        limit: int | None = None,
        offset: int = 0,
        attributes: Mapping[str, str] | None = None,
        **query: Any,
    ) -> JSON:
        """See `RunClient.queue`."""
        options = {"attributes": attributes, **query}
        page = await self._client.send(run_calls.queue_call(self.name, name, offset, limit, **options))
        return page if limit is not None else await self._completed(page, offset, **options)

    async def _completed(self, queue: JSON, offset: int = 0, **query: Any) -> JSON:
        while offset + len(queue["rows"]) < queue["num_matching"]:
            after = offset + len(queue["rows"])
            rest = await self._client.send(run_calls.queue_call(self.name, queue["name"], after, **query))
            if not rest["rows"]:
                break
            queue["rows"] += rest["rows"]
        return queue

    async def review(self, reviews: Iterable[Mapping[str, Any]]) -> JSON:
        """See `RunClient.review`."""
        return await self._client.send(run_calls.add_reviews_call(self.name, reviews))

    async def reviews(self) -> JSON:
        """See `RunClient.reviews`."""
        return await self._client.send(run_calls.asked_of_run(self.name, "reviews"))

    async def export(
        self, path: str | Path | None = None, *, format: str = "jsonl", queue: str | None = None, **options: Any
    ) -> bytes:
        """See `RunClient.export`."""
        call = run_calls.export_call(self.name, format, queue=queue, **options)
        if path is None:
            return await self._client.send(call)
        await self._client.save(call, Path(path))
        return b""

    async def compare(self, other: str | AsyncRunClient, **query: Any) -> JSON:
        """See `RunClient.compare`."""
        after = other.name if isinstance(other, AsyncRunClient) else other
        return await self._client.send(run_calls.asked_of_run(self.name, "compare", after, **query))
