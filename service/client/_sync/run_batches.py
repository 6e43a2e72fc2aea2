# Generated from service/client/_async by scripts/generate_sync_client.py: do not edit.
"""`RunBatches`: the requests that store and delete the batches of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from service.client import run_calls
from service.client._sync.connection import Connection
from service.client.batches import SentBatch, has_class_numbers
from service.client.calls import as_batch
from service.client.histograms import Reduce
from service.schema.replies.runs import Run
from service.schema.request import DEFAULT_OUTPUTS, OnInvalid
from service.schema.result import LossResult


class RunBatches:
    """A run and its batches; `RunClient` adds what is asked about them.

    Args:
        client: Client of the service.
        name: Name of the run.
    """

    def __init__(self, client: Connection, name: str) -> None:
        self._client = client
        self.name = name

    def describe(self) -> Run:
        """Return the run's configuration, class names, epochs with their counts, and the progress of its reviews."""
        return self._client.send(run_calls.get_run_call(self.name))

    def delete(self) -> None:
        """Delete the run with its batches, queues and reviews. This cannot be undone."""
        self._client.send(run_calls.delete_run_call(self.name))

    def delete_epoch(self, epoch: int) -> None:
        """Delete all batches of an epoch. Queues and reviews stay. This cannot be undone.

        Raises:
            UnknownEpochError: The run has no batches of this epoch.
        """
        self._client.send(run_calls.delete_epoch_call(self.name, epoch))

    def delete_batch(self, epoch: int, batch: str) -> None:
        """Delete a batch. Queues and reviews stay. This cannot be undone.

        Raises:
            UnknownEpochError: The run has no batches of this epoch.
            UnknownBatchError: The epoch has no batch of this name.
        """
        self._client.send(run_calls.delete_batch_call(self.name, epoch, batch))

    def push(
        self,
        epoch: int,
        batch: str,
        logits: Any,
        targets: Any = None,
        ids: Any = None,
        *,
        attributes: Mapping[str, Iterable[object]] | None = None,
        outputs: Iterable[str] = DEFAULT_OUTPUTS,
        top_k: int = 0,
        on_invalid: OnInvalid = "error",
        replace: bool = False,
        reduce: Reduce = False,
        offsets: Any = None,
        num_classes: int | None = None,
    ) -> LossResult:
        """Store a batch of an epoch. Returns after the service has written it to disk.

        Pushing the same batch again changes nothing. The arrays must not change during the call.

        Args:
            epoch: Number of the epoch, >= 0.
            batch: Name of the batch, unique in the epoch.
            logits: As for `LossClient.loss`, in the layout of the run's task: `rows` for `classification` and
                `multi_label`, `ragged` for `tokens`, `dense` for `masks`.
            targets: As for `LossClient.loss`, and class names if the run has them. Several labels are 0 or 1 each.
            ids: One string or integer per example. An example has the same id in every epoch and run.
            attributes: One value per example under each name, e.g. `{"text": [...], "annotator": [...]}`: strings,
                numbers, booleans or None, lists of strings (tokens) or of pairs of integers (their offsets); dates and
                other objects become text. They are shown, can be filtered by, and are exported as the task's data.
            outputs: Names of the scores to return for each example.
            top_k: Number of hardest examples to return.
            on_invalid: `error`, or `exclude` to leave out rows with an invalid logit or target.
            replace: Replace a batch of this name that has other content, e.g. after training was resumed.
            reduce: Send statistics in place of the logits, as `LossClient.loss` does: 17 to 20 bytes an example. The
                run has no logits of the batch then, so for its epoch there are no label errors and no calibration. In
                sigmoid mode the log-odds are sent, from which the service has the logits. `histogram`: send a few
                elements of each mask that stand for all; see `service.client.histograms`.
            offsets: As for `LossClient.loss`, of the task `tokens`.
            num_classes: Number of classes, for statistics in place of logits in softmax mode, if the run does not know
                it from its `class_names`, weights or earlier batches.

        Returns:
            The losses of the batch.

        Raises:
            InvalidIdsError: The batch has no ids, or they are not unique.
            InvalidTargetError: A label is neither a class nor the name of one.
            BatchConflictError: The epoch has a batch of this name with other content, and `replace` is false.
        """
        data = as_batch(logits, targets, ids, offsets)
        if not isinstance(data, SentBatch):
            # Asked for each batch: a run that was created anew may have other classes or another task.
            run = self.describe() if reduce or not has_class_numbers(data) else None
            data = run_calls.run_batch(data, run, on_invalid, num_classes, reduce=reduce)
        call = run_calls.put_batch_call(
            self.name, epoch, batch, data, attributes, outputs, top_k, on_invalid, replace=replace
        )
        return self._client.send(call)
