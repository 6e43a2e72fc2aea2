"""`BatchSender`: stores the batches of a recorder from a thread, and counts the rows that are stored and lost."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.client.batches import SentBatch
from service.client.errors import ClientError

MAX_ERRORS = 100

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

    def __reduce__(self) -> tuple[type[RecordingError], tuple[int, Sequence[Exception]]]:
        return type(self), (self.num_lost, self.errors)


@dataclass(frozen=True, eq=False)
class NamedBatch:
    """A batch of an epoch, and one value per row under the name of each attribute."""

    epoch: int
    name: str
    batch: SentBatch
    attributes: dict[str, list[object]]


class BatchSender:
    """Sends batches in order from a thread.

    Args:
        send: Function that stores a batch.
        max_waiting: Maximum number of batches in the queue, in memory.
        patience_s: Maximum total time for which `put` waits, in seconds, and for which `close` waits while no batch is
            completed.
    """

    def __init__(self, send: Callable[[NamedBatch], object], max_waiting: int, patience_s: float) -> None:
        self.errors: list[Exception] = []
        self.num_lost = 0
        self.num_sent = 0
        self._send, self._max_waiting = send, max_waiting
        self._patience_s = self._put_patience_s = max(0.0, patience_s)
        self._waiting: deque[NamedBatch] = deque()
        self._in_progress: NamedBatch | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._send_batches, name="focal-loss-recorder", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, batch: NamedBatch) -> None:
        """Queue a batch. Waits while the queue is full; drops the batch when the patience is used up."""
        started = time.monotonic()
        with self._changed:
            if self._changed.wait_for(lambda: len(self._waiting) < self._max_waiting, self._put_patience_s):
                self._waiting.append(batch)
                self._changed.notify_all()
            else:
                self._drop(batch, TimeoutError(f"epoch {batch.epoch}, batch {batch.name}: the service was too slow"))
        self._put_patience_s = max(0.0, self._put_patience_s - (time.monotonic() - started))

    def close(self) -> None:
        """Wait until the queue is empty. Drops what remains when the patience is used up.

        Raises:
            RecordingError: Some rows were not stored.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            while self._waiting or self._in_progress:
                if not self._wait_for_progress():
                    self._give_up()
        self.raise_errors()

    def raise_errors(self) -> None:
        """Raise a RecordingError if rows were not stored."""
        if self.errors:
            raise RecordingError(self.num_lost, self.errors)

    def _wait_for_progress(self) -> bool:
        completed = self.num_sent + self.num_lost
        return self._changed.wait_for(lambda: self.num_sent + self.num_lost > completed, self._patience_s)

    def _give_up(self) -> None:
        remaining = [*([self._in_progress] if self._in_progress else ()), *self._waiting]
        self._in_progress = None
        self._waiting.clear()
        for batch in remaining:
            reason = f"epoch {batch.epoch}, batch {batch.name}: not stored within {self._patience_s:g} s"
            self._drop(batch, TimeoutError(reason))

    def _drop(self, batch: NamedBatch, error: Exception) -> None:
        log.warning("%d rows were not stored: %s", batch.batch.num_examples, error)
        self.num_lost += batch.batch.num_examples
        if len(self.errors) < MAX_ERRORS:
            self.errors.append(error)

    def _send_batches(self) -> None:
        unreachable: ClientError | None = None
        while (batch := self._next()) is not None:
            error: Exception | None = unreachable
            # After the end of training do not wait for the timeout of each remaining batch.
            if unreachable is None or not self._closed:
                error = self._error_of(batch)
                unreachable = error if isinstance(error, ClientError) else None
            with self._changed:
                if self._in_progress is None:
                    return  # `close` has given up and counted this batch.
                self._in_progress = None
                if error is None:
                    self.num_sent += batch.batch.num_examples
                else:
                    self._drop(batch, error)
                self._changed.notify_all()

    def _next(self) -> NamedBatch | None:
        """Take the first batch of the queue; None once the sender is closed and the queue is empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            self._in_progress = self._waiting.popleft() if self._waiting else None
            self._changed.notify_all()
            return self._in_progress

    def _error_of(self, batch: NamedBatch) -> Exception | None:
        try:
            self._send(batch)
        except Exception as err:
            return err
        return None
