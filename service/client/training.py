"""`RunRecorder`: what a model says of each example of an epoch, sent while it trains on."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from service.client._sync.runs import RunClient
from service.client.arrays import SentBatch, sent_batch
from service.client.errors import ClientError
from service.errors import InvalidIdsError, InvalidRequestError
from service.formats.safetensors import Tensor
from service.schema.request import OnInvalid

ERRORS_KEPT = 100
# Of one batch: with many classes it has fewer rows, far from the size of a body that a service takes.
BATCH_BYTES = 32 * 1024 * 1024

log = logging.getLogger(__name__)


class RecordingError(Exception):
    """Some rows have not been kept.

    Args:
        num_lost: How many.
        errors: Why, the first 100.
    """

    def __init__(self, num_lost: int, errors: Sequence[Exception]) -> None:
        super().__init__(f"{num_lost} rows were not kept: {errors[0]}")
        self.num_lost = num_lost
        self.errors = tuple(errors)


@dataclass(frozen=True, eq=False)
class _Named:
    """A batch on its way."""

    epoch: int
    name: str
    batch: SentBatch
    attributes: dict[str, list[Any]]


class RunRecorder:
    """Sends the logits of a training loop to a run from a thread of its own.

        with RunRecorder(client.put_run("digits")) as recorder:
            for epoch in range(10):
                for ids, inputs, targets in loader:
                    logits = model(inputs)
                    recorder.add(epoch, ids, logits, targets)
                    ...

    `add` copies the rows to the host's memory and returns. It holds training up only while `max_waiting` batches are on
    their way already, and for `patience_s` in all: after that, batches that find no room are given up, logged and
    counted. What the service refuses, and what was given up, is raised by `close`, when training is done; with
    `strict` by the next `add` too.

    Batches are named `{prefix}-{number}`, counted from 0 in each epoch. An epoch that is trained again and gives the
    same rows in the same order changes nothing; with other logits it is refused (BatchConflictError), since both would
    count: record it under another run. With several processes give each its own `prefix`, e.g. `rank-3`.

    Args:
        run: Where the rows go.
        batch_rows: Rows of one batch; fewer where they have more than 32 MiB.
        max_waiting: Batches held in memory before `add` waits.
        patience_s: Seconds that training may be held up in all.
        prefix: Begins the names of the batches.
        on_invalid: Of a row with a bad logit or target: `exclude` leaves it out and counts it, `error` loses its batch.
        strict: Raise in `add` and `end_epoch` what has gone wrong so far.
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
        self._attributes: dict[str, list[Any]] = {}
        self._waiting: queue.Queue[_Named | None] = queue.Queue(max_waiting)
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="focal-loss-recorder", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except RecordingError:
            # What ended the block tells more.
            if error is None:
                raise

    def add(
        self, epoch: int, ids: Any, logits: Any, targets: Any, attributes: Mapping[str, Sequence[Any]] | None = None
    ) -> None:
        """Copy rows and let them go in their time.

        Args:
            epoch: 0 or more; another one than before ends the one before.
            ids: (N,), one string or integer per example, the same in every epoch.
            logits: (N, C), or (N,) in sigmoid mode; a torch tensor may be on any device and require gradients.
            targets: (N,).
            attributes: One value per example under each name, the same names throughout an epoch.

        Raises:
            InvalidRequestError: Or the class of it that says what is wrong with shapes or types.
            RecordingError: With `strict`, something went wrong before.
        """
        if self._closed:
            raise ValueError("the recorder is closed")
        rows = sent_batch((logits, targets, ids)).owned()
        if rows.ids is None:
            raise InvalidIdsError("ids missing; a run knows its examples by them")
        ids = set(map(str, rows.ids))
        # A batch has one width and no id twice: samplers of several processes fill up with rows that were there.
        if epoch != self._epoch or (self._parts and not _fit(self._parts[0], rows)) or ids & self._ids:
            self._flush()
        self._epoch = epoch
        if self._parts and self._attributes.keys() != (attributes or {}).keys():
            raise InvalidRequestError("the rows before had other attributes")
        self._parts.append(rows)
        self._ids |= ids
        self._nbytes += rows.nbytes
        for name, values in (attributes or {}).items():
            self._attributes.setdefault(name, []).extend(values)
        if len(self._ids) >= self._batch_rows or self._nbytes >= BATCH_BYTES:
            self._flush()
        self._raise_if_strict()

    def end_epoch(self) -> None:
        """Let the last rows of an epoch go; does not wait for them."""
        self._flush()
        self._raise_if_strict()

    def close(self) -> None:
        """Send what is left, wait for it, and tell what has gone wrong.

        Raises:
            RecordingError: Rows were not kept.
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
        named = _Named(self._epoch, f"{self._prefix}-{number:06}", _joined(self._parts), self._attributes)
        self._parts, self._ids, self._nbytes, self._attributes = [], set(), 0, {}
        started = time.monotonic()
        try:
            self._waiting.put(named, timeout=max(0.0, self._patience_s))
        except queue.Full:
            self._lose(named, TimeoutError(f"epoch {named.epoch}, batch {named.name}: the service was too slow"))
        self._patience_s -= time.monotonic() - started

    def _raise_if_strict(self) -> None:
        if self._strict and self.errors:
            raise RecordingError(self.num_lost, self.errors)

    def _lose(self, named: _Named, error: Exception) -> None:
        log.warning("%d rows were not kept: %s", named.batch.num_examples, error)
        with self._lock:
            self.num_lost += named.batch.num_examples
            if len(self.errors) < ERRORS_KEPT:
                self.errors.append(error)

    def _work(self) -> None:
        gone: ClientError | None = None
        while (named := self._waiting.get()) is not None:
            if gone is not None and self._closed:
                # Training is over: nobody waits for each batch again until a service that is gone gives no answer.
                self._lose(named, gone)
                continue
            try:
                self._send(named)
            except Exception as err:
                gone = err if isinstance(err, ClientError) else None
                self._lose(named, err)
            else:
                gone = None
                self.num_sent += named.batch.num_examples

    def _send(self, named: _Named) -> None:
        options: dict[str, Any] = {"outputs": ("loss",), "on_invalid": self._on_invalid}
        self.run.push(named.epoch, named.name, named.batch, attributes=named.attributes, **options)


def _fit(one: SentBatch, other: SentBatch) -> bool:
    """Whether two batches can be one."""
    pairs = (one.logits, other.logits), (one.targets, other.targets)
    return all((a.dtype, a.shape[1:]) == (b.dtype, b.shape[1:]) for a, b in pairs)


def _joined(parts: Sequence[SentBatch]) -> SentBatch:
    """The rows of all of them in their order, which have one width and one dtype."""
    if len(parts) == 1:
        return parts[0]
    ids = [identity for part in parts for identity in part.ids or ()]
    return SentBatch(_stacked([part.logits for part in parts]), _stacked([part.targets for part in parts]), ids)


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    rows = sum(tensor.shape[0] for tensor in tensors)
    data = memoryview(b"".join(tensor.data for tensor in tensors))
    return Tensor(tensors[0].dtype, (rows, *tensors[0].shape[1:]), data)
