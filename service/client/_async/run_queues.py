"""`AsyncRunQueues`: the requests about the queues of a run."""

from __future__ import annotations

from collections.abc import Mapping

from service.client import run_calls
from service.client._async.run_batches import AsyncRunBatches
from service.client.run_calls import QueryValue
from service.schema.replies.queues import LeasedRows, Queue, QueuePage


class AsyncRunQueues(AsyncRunBatches):
    """A run, its batches and its queues; `AsyncRunClient` adds what else is asked about them."""

    async def create_queue(
        self,
        strategy: str = "recommended",
        budget: int = 50,
        *,
        alpha: QueryValue = None,
        gamma: float | None = None,
        **members: object,
    ) -> QueuePage:
        """Select the rows to review next, store them as a queue, and return all of them.

        Args:
            strategy: `recommended`, `logit_margin`, `area_under_margin`, `top_loss`, `random`, `mix`, ...; the reply's
                `chosen` has what `recommended` chose, and why.
            budget: Maximum number of rows, in [1, 100 000].
            alpha: Alpha of the recomputed losses. Default: that of the run.
            gamma: Gamma of the recomputed losses. Default: that of the run.
            members: `name` (the same request with the same name returns the same queue), `mix`, `runs` (further runs of
                which the ranks are averaged), `per_class`, `at_most`, `min_per_class`, `only`, `units`,
                `exclude_reviewed`, `seed`, `epoch`, `first`, `margin`, `share`, `reviewers`, `overlap`,
                `blind`, `without_suggestion`, `gold`.

        Raises:
            QueueConflictError: Another request has created a queue of this name.
        """
        body = {"strategy": strategy, "budget": budget, **members}
        call = run_calls.create_queue_call(self.name, body, alpha=alpha, gamma=gamma)
        return await self._complete(await self._client.send(call))

    async def queues(self) -> list[Queue]:
        """Return all queues by name, without their rows."""
        return await self._client.send(run_calls.queues_call(self.name))

    async def queue(
        self,
        name: str,
        *,
        limit: int | None = None,
        offset: int = 0,
        attributes: Mapping[str, str] | None = None,
        **query: QueryValue,
    ) -> QueuePage:
        """Return the rows of a queue by rank, each with scores, `reason`, attributes and verdict.

        Args:
            name: Name of the queue.
            limit: Maximum number of rows. Default: all, in as many requests as that needs.
            offset: Number of rows to skip.
            attributes: Text that each of these attributes must have.
            query: `sort` (rank, id, target, prediction, suggested, verdict or scores, separated by commas, with a minus
                for descending order), `target`, `prediction`, `suggested`, `verdict` (`open`, `reviewed`, `ok`,
                `wrong`, `unsure`, `exclude`, `conflict`), `text`, `ranks`, `around`, `fields`, `facets`, `reviewer`.

        Returns:
            The queue. `num_matching` is the number of rows that match the filters.

        Raises:
            UnknownQueueError: The run has no queue of this name.
        """
        page = await self._client.send(run_calls.queue_call(self.name, name, offset, limit, attributes, **query))
        return page if limit is not None else await self._complete(page, offset, attributes, **query)

    async def _complete(
        self, queue: QueuePage, offset: int = 0, attributes: Mapping[str, str] | None = None, **query: QueryValue
    ) -> QueuePage:
        """Add the remaining rows to a page of a stored queue."""
        while queue["name"] is not None and offset + len(queue["rows"]) < queue["num_matching"]:
            next_offset = offset + len(queue["rows"])
            call = run_calls.queue_call(self.name, queue["name"], next_offset, None, attributes, **query)
            page = await self._client.send(call)
            if not page["rows"]:
                break
            queue["rows"] += page["rows"]
        return queue

    async def next(self, queue: str, limit: int = 10, *, reviewer: str | None = None) -> LeasedRows:
        """Lease the next rows of a queue to a reviewer, and return them.

        The rows that the reviewer holds already come first. A verdict on a row, or some minutes, end its lease.

        Args:
            queue: Name of the queue.
            limit: Maximum number of rows, in [1, 100].
            reviewer: Name of the reviewer. The name of the key, if it has one, overrides it.

        Raises:
            UnknownQueueError: The run has no queue of this name.
        """
        return await self._client.send(run_calls.next_call(self.name, queue, limit, reviewer))

    async def give_back(self, queue: str, *, reviewer: str | None = None) -> None:
        """End the leases of a reviewer, so that others get the rows.

        Args:
            queue: Name of the queue.
            reviewer: As for `next`.

        Raises:
            UnknownQueueError: The run has no queue of this name.
        """
        await self._client.send(run_calls.give_back_call(self.name, queue, reviewer))

    async def delete_queue(self, name: str) -> None:
        """Delete a queue. The reviews of its rows stay.

        Raises:
            UnknownQueueError: The run has no queue of this name.
        """
        await self._client.send(run_calls.delete_queue_call(self.name, name))

    async def rename_queue(self, name: str, new_name: str) -> Queue:
        """Rename a queue, and return it without its rows.

        Raises:
            UnknownQueueError: The run has no queue of this name.
            QueueConflictError: Another queue has the new name.
        """
        return await self._client.send(run_calls.rename_queue_call(self.name, name, new_name))
