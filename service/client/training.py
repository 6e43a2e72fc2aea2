"""`RunRecorder`: sends the logits of a training loop to a run in the background."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from service.client._sync.runs import RunClient
from service.client.arrays import SentBatch, sent_batch
from service.client.errors import ClientError
from service.errors import InvalidIdsError, InvalidRequestError
from service.formats.safetensors import Tensor
from service.schema.request import OnInvalid

MAX_ERRORS = 100
# Maximum size of a batch. It bounds the rows of a batch with many classes, far below the service's `max_body_bytes`.
BATCH_BYTES = 32 * 1024 * 1024

log = logging.getLogger(__name__)


class RecordingError(Exception):
    """Some rows were not stored.

    Args:
        num_lost: Number of these rows.
        errors: The first 100 errors.
    """

    def __init__(self, num_lost: int, errors: Sequence[Exception]) -> None:
        super().__init__(f"{num_lost} rows were not stored: {errors[0]}")
        self.num_lost = num_lost
        self.errors = tuple(errors)


@dataclass(frozen=True, eq=False)
class _NamedBatch:
    """A batch in the queue of the sending thread."""

    epoch: int
    name: str
    batch: SentBatch
    attributes: dict[str, list[object]]


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
    record that training in another run. If several processes train, each needs its own `prefix`, e.g. `rank-3`.

    Args:
        run: Run that stores the rows.
        batch_rows: Maximum number of rows in a batch; fewer if they exceed 32 MiB.
        max_waiting: Maximum number of batches in the queue, in memory.
        patience_s: Maximum total time for which `add` blocks, in seconds.
        prefix: First part of the names of the batches.
        on_invalid: Treatment of rows with an invalid logit or target: `exclude` leaves them out and counts them,
            `error` drops the batch.
        strict: Raise errors in `add` and `end_epoch`, too.

    Attributes:
        num_sent: Number of rows that the service has accepted, including invalid rows that it left out.
        num_lost: Number of rows that were not stored.
        errors: The first 100 errors.
    """

    def __init__(
        self,
        run: RunClient,
        *,
        batch_rows: int = 5_000,
        max_waiting: int = 8,
        patience_s: float = 60.0,
        prefix: str = "rank-0",
        on_invalid: OnInvalid = "exclude",
        strict: bool = False,
    ) -> None:
        self.run = run
        self.errors: list[Exception] = []
        self.num_lost = 0
        self.num_sent = 0
        self._batch_rows, self._patience_s, self._prefix = batch_rows, patience_s, prefix
        self._on_invalid, self._strict = on_invalid, strict
        self._epoch: int | None = None
        self._numbers: dict[int, int] = {}
        self._parts: list[SentBatch] = []
        self._ids: set[str] = set()
        self._nbytes = 0
        self._attributes: dict[str, list[object]] = {}
        self._waiting: queue.Queue[_NamedBatch | None] = queue.Queue(max_waiting)
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._send_batches, name="focal-loss-recorder", daemon=True)
        self._thread.start()

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

    def add(
        self,
        epoch: int,
        ids: Any,
        logits: Any,
        targets: Any,
        attributes: Mapping[str, Iterable[object]] | None = None,
    ) -> None:
        """Copy rows into the next batch, and queue that batch for sending if it is full.

        Args:
            epoch: Number of the epoch, >= 0. A new number ends the previous epoch.
            ids: (N,), one string or integer per example. An example has the same id in every epoch.
            logits: (N, C), or (N,) in sigmoid mode. A torch tensor may be on any device and require gradients.
            targets: (N,).
            attributes: One value per example under each name. The names are the same throughout an epoch.

        Raises:
            InvalidRequestError: A shape, type or id is invalid. A subclass names the fault.
            RecordingError: With `strict`, rows added before were not stored.
            ValueError: The recorder is closed.
        """
        if self._closed:
            raise ValueError("the recorder is closed")
        rows = sent_batch((logits, targets, ids)).copy()
        if rows.ids is None:
            raise InvalidIdsError("ids missing; a run identifies its examples by them")
        ids = set(map(str, rows.ids))
        # A batch has one width and unique ids. A DistributedSampler repeats rows to fill its last batch.
        if epoch != self._epoch or (self._parts and not _can_join(self._parts[0], rows)) or ids & self._ids:
            self._flush()
        self._epoch = epoch
        if self._parts and self._attributes.keys() != (attributes or {}).keys():
            raise InvalidRequestError("the previous rows had other attributes")
        self._parts.append(rows)
        self._ids |= ids
        self._nbytes += rows.nbytes
        for name, values in (attributes or {}).items():
            self._attributes.setdefault(name, []).extend(values)
        if len(self._ids) >= self._batch_rows or self._nbytes >= BATCH_BYTES:
            self._flush()
        self._raise_if_strict()

    def end_epoch(self) -> None:
        """Queue the last rows of an epoch for sending, without waiting for them."""
        self._flush()
        self._raise_if_strict()

    def close(self) -> None:
        """Send the remaining rows and wait until the service has stored them.

        Raises:
            RecordingError: Some rows were not stored.
        """
        if not self._closed:
            self._flush()
            self._closed = True
            self._waiting.put(None)
            self._thread.join()
        if self.errors:
            raise RecordingError(self.num_lost, self.errors)

    def _flush(self) -> None:
        if not self._parts or self._epoch is None:
            return
        number = self._numbers.get(self._epoch, 0)
        self._numbers[self._epoch] = number + 1
        named = _NamedBatch(self._epoch, f"{self._prefix}-{number:06}", _join(self._parts), self._attributes)
        self._parts, self._ids, self._nbytes, self._attributes = [], set(), 0, {}
        started = time.monotonic()
        try:
            self._waiting.put(named, timeout=max(0.0, self._patience_s))
        except queue.Full:
            self._drop(named, TimeoutError(f"epoch {named.epoch}, batch {named.name}: the service was too slow"))
        self._patience_s -= time.monotonic() - started

    def _raise_if_strict(self) -> None:
        if self._strict and self.errors:
            raise RecordingError(self.num_lost, self.errors)

    def _drop(self, named: _NamedBatch, error: Exception) -> None:
        log.warning("%d rows were not stored: %s", named.batch.num_examples, error)
        with self._lock:
            self.num_lost += named.batch.num_examples
            if len(self.errors) < MAX_ERRORS:
                self.errors.append(error)

    def _send_batches(self) -> None:
        unreachable: ClientError | None = None
        while (named := self._waiting.get()) is not None:
            if unreachable is not None and self._closed:
                # Training is over: do not wait for the timeout of each remaining batch.
                self._drop(named, unreachable)
                continue
            try:
                self._send(named)
            except Exception as err:
                unreachable = err if isinstance(err, ClientError) else None
                self._drop(named, err)
            else:
                unreachable = None
                self.num_sent += named.batch.num_examples

    def _send(self, named: _NamedBatch) -> None:
        self.run.push(
            named.epoch,
            named.name,
            named.batch,
            attributes=named.attributes,
            outputs=("loss",),
            on_invalid=self._on_invalid,
        )


def _can_join(first: SentBatch, second: SentBatch) -> bool:
    """Return True if the rows of both have the same widths and dtypes."""
    pairs = (first.logits, second.logits), (first.targets, second.targets)
    return all((a.dtype, a.shape[1:]) == (b.dtype, b.shape[1:]) for a, b in pairs)


def _join(parts: Sequence[SentBatch]) -> SentBatch:
    """Concatenate batches whose rows have the same widths and dtypes."""
    if len(parts) == 1:
        return parts[0]
    ids = [identity for part in parts for identity in part.ids or ()]
    return SentBatch(_concatenate([part.logits for part in parts]), _concatenate([part.targets for part in parts]), ids)


def _concatenate(tensors: Sequence[Tensor]) -> Tensor:
    rows = sum(tensor.shape[0] for tensor in tensors)
    data = memoryview(b"".join(tensor.data for tensor in tensors))
    return Tensor(tensors[0].dtype, (rows, *tensors[0].shape[1:]), data)
