"""`AsyncRunQuality`: the requests about the quality of the labels and reviews of a run."""

from __future__ import annotations

from service.client import quality_calls
from service.client._async.run_batches import AsyncRunBatches
from service.client.run_calls import QueryValue
from service.schema.replies.agreement import Agreement
from service.schema.replies.gain import Gain
from service.schema.replies.remaining import Remaining


class AsyncRunQuality(AsyncRunBatches):
    """A run, and statements about its labels and reviews; `AsyncRunClient` adds the other requests."""

    async def remaining(
        self,
        *,
        queue: str | None = None,
        rows: int | None = None,
        control: str | None = None,
        epoch: int | None = None,
    ) -> Remaining:
        """Estimate the wrong labels that are left, and what the next rows of a queue will find.

        Args:
            queue: Queue of the prediction. Default: the newest one with open rows.
            rows: Number of next rows to predict. Default: 10, 100, 1000 and all open rows.
            control: The only queue whose random rows count. Default: all.
            epoch: Epoch of the examples. Default: the last one.

        Returns:
            The estimate. `status` tells if there are enough verdicts on random rows; `upper` is the 95 % upper bound.

        Raises:
            UnknownQueueError: The run has no queue of a name.
        """
        call = quality_calls.remaining_call(self.name, queue=queue, rows=rows, control=control, epoch=epoch)
        return await self._client.send(call)

    async def agreement(self, *, limit: int | None = None, offset: int | None = None) -> Agreement:
        """Measure the agreement of the reviewers, and list their conflicts.

        Args:
            limit: Maximum number of conflicts, at most 1000. Default: 50.
            offset: Number of conflicts to skip.

        Returns:
            Cohen's kappa of each pair, Fleiss' kappa, and Krippendorff's alpha with its interval; of each reviewer the
            hits on gold rows and the use of suggestions; the conflicts.
        """
        return await self._client.send(quality_calls.agreement_call(self.name, limit=limit, offset=offset))

    async def gain(
        self,
        other: str | AsyncRunQuality | None = None,
        *,
        epoch: int | None = None,
        other_epoch: int | None = None,
        alpha: QueryValue = None,
        gamma: float | None = None,
    ) -> Gain:
        """Compare the model of this run with that of another run, under the given and under the corrected labels.

        Args:
            other: The later run, or its name. Default: this run; `change_before` is the effect of the corrected labels.
            epoch: Epoch of this run. Default: the last one.
            other_epoch: Epoch of the other run. Default: the last one.
            alpha: Alpha of the recomputed losses. Default: that of the run.
            gamma: Gamma of the recomputed losses. Default: that of the run.

        Returns:
            Accuracy, loss and calibration with bootstrap intervals, McNemar's test, and the classes.

        Raises:
            InvalidRequestError: The runs have different classes, or examples with many elements.
        """
        name = self.name if other is None else other if isinstance(other, str) else other.name
        query = {"epoch": epoch, "other_epoch": other_epoch}
        return await self._client.send(quality_calls.gain_call(self.name, name, **query, alpha=alpha, gamma=gamma))
