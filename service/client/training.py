"""`RunRecorder`: sends the logits of a training loop to a run in the background."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self

from service.client._sync.runs import RunClient
from service.client.batch_sender import RecordingError
from service.client.processes import PerProcess
from service.client.recording import RecorderOptions, Recording
from service.client.run_calls import run_reducer
from service.errors import LayoutNotStoredError
from service.schema.request import OnInvalid
from service.schema.structure import LAYOUT_OF, Task

__all__ = ["RecordingError", "RunRecorder"]


class RunRecorder:
    """Sends the logits of a training loop to a run, in a thread.

        with RunRecorder(client.put_run("digits")) as recorder:
            for epoch in range(10):
                for ids, inputs, targets in loader:
                    logits = model(inputs)
                    recorder.add(epoch, ids, logits, targets)
                    ...

    `add` copies the rows to host memory and returns. It blocks only while `max_waiting` batches wait to be sent, and
    for `patience_s` in total; after that, batches that do not fit into the queue are dropped, logged and counted.
    `close` raises the errors of dropped batches and of those that the service rejected; with `strict`, so does `add`.

    Batches are named `{prefix}-{number}`, numbered from 0 in each epoch. Training an epoch again with the same rows in
    the same order changes nothing. The service rejects a batch of the same name with other logits (BatchConflictError):
    record that training in another run, or replace the batches.

    A forked process, a pickled and a deep copy have the same settings, a thread of their own, and none of the rows of
    the original. Each of them is closed in its own process, at the latest at the end of the process. Processes that
    record the same run need different prefixes: the default is right for the processes of torch.distributed.

    Args:
        run: Run that stores the rows.
        batch_rows: Maximum number of rows in a batch; fewer if they exceed 32 MiB.
        max_waiting: Maximum number of batches in the queue, in memory.
        patience_s: Maximum total time for which `add` blocks, in seconds. `close` waits as long while no batch is
            completed, then drops the rest.
        prefix: First part of the names of the batches. Default: `rank-` and the rank of the process in
            torch.distributed, `rank-0` without it.
        on_invalid: Treatment of rows with an invalid logit or target: `exclude` leaves them out and counts them,
            `error` drops the batch.
        replace: Replace batches of the same name that have other rows, e.g. in a resumed training. Further batches of
            the epoch stay: if `batch_rows` or the number of rows has changed, delete the epoch first.
        strict: Raise errors in `add` and `end_epoch`, too.
        reduce: Send statistics in place of the logits; see `RunClient.push`. `add` computes them on the device of the
            logits. The constructor asks the service for the configuration of the run.
        task: Task of the run: `classification`, `multi_label`, `tokens` or `masks`.

    Raises:
        LayoutNotStoredError: With `reduce`, the run has another task.
        LossServiceError, ClientError: With `reduce`, the service does not answer, or does not have the run.
    """

    def __init__(
        self,
        run: RunClient,
        *,
        batch_rows: int = 5_000,
        max_waiting: int = 8,
        patience_s: float = 60.0,
        prefix: str | None = None,
        on_invalid: OnInvalid = "exclude",
        replace: bool = False,
        strict: bool = False,
        reduce: bool = False,
        task: Task = "classification",
    ) -> None:
        self.run = run
        reducer = run_reducer(run.describe(), on_invalid) if reduce else None
        layout = LAYOUT_OF[task]
        if reducer is not None and reducer.layout != layout:
            raise LayoutNotStoredError(
                f"run {run.name} takes batches of the layout {reducer.layout}, the task {task} {layout}"
            )
        options = RecorderOptions(
            batch_rows, max_waiting, patience_s, prefix, on_invalid, replace, strict, reducer, layout
        )
        self._recording = PerProcess(partial(Recording, run, options))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except RecordingError:
            # The exception that ended the block is more important.
            if error is None:
                raise

    @property
    def num_sent(self) -> int:
        """Number of rows that the service has accepted, including invalid rows that it left out."""
        return self._recording.get().sender.num_sent

    @property
    def num_lost(self) -> int:
        """Number of rows that were not stored."""
        return self._recording.get().sender.num_lost

    @property
    def errors(self) -> list[Exception]:
        """The first 100 errors."""
        return self._recording.get().sender.errors

    def add(
        self,
        epoch: int,
        ids: Any,
        logits: Any,
        targets: Any,
        attributes: Mapping[str, Iterable[object]] | None = None,
        offsets: Any = None,
    ) -> None:
        """Copy rows into the next batch, and queue that batch for sending if it is full.

        Args:
            epoch: Number of the epoch, >= 0. A new number ends the previous epoch.
            ids: (N,), one string or integer per example. An example has the same id in every epoch.
            logits: (N, C), or (N,) in sigmoid mode. A torch tensor may be on any device and require gradients. Of other
                tasks: as for `RunClient.push`.
            targets: (N,). Of other tasks: as for `RunClient.push`.
            attributes: One value per example under each name. The names are the same throughout an epoch.
            offsets: (N + 1,) integers, the first element of each example of the task `tokens`. Without them logits and
                targets are one array, tensor or list of elements for each example.

        Raises:
            InvalidRequestError: A shape, type or id is invalid. A subclass names the fault.
            RecordingError: With `strict`, rows added before were not stored.
            ValueError: The recorder is closed.
        """
        self._recording.get().add(epoch, ids, logits, targets, attributes, offsets)

    def end_epoch(self) -> None:
        """Queue the last rows of an epoch for sending, without waiting for them.

        Raises:
            RecordingError: With `strict`, rows added before were not stored.
        """
        self._recording.get().end_epoch()

    def close(self) -> None:
        """Send the remaining rows and wait until the service has stored them.

        Raises:
            RecordingError: Some rows were not stored.
        """
        self._recording.get().close()
