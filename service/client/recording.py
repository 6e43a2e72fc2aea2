"""`Recording`: the rows that one process adds to a run, in named batches."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.util import Finalize
from typing import Any

import numpy as np

from service.client._sync.runs import RunClient
from service.client.arrays import as_plain, numbers_of, tensor
from service.client.batch_sender import BatchSender, NamedBatch, RecordingError
from service.client.batches import SentBatch, has_text_labels, sent_batch
from service.client.calls import as_batch
from service.client.reduction import Reducer
from service.errors import InvalidIdsError, InvalidRequestError, InvalidTargetError, ShapeError
from service.formats.part_names import OFFSETS
from service.formats.ragged import checked_offsets, offsets_of
from service.formats.safetensors import Tensor
from service.schema.request import OnInvalid
from service.schema.structure import Layout

# Maximum size of a batch. It bounds the rows of a batch with many classes, far below the service's `max_body_bytes`.
BATCH_BYTES = 32 * 1024 * 1024

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecorderOptions:
    """Options of `RunRecorder`, which describes them."""

    batch_rows: int
    max_waiting: int
    patience_s: float
    prefix: str | None
    on_invalid: OnInvalid
    replace: bool
    strict: bool
    reducer: Reducer | None
    layout: Layout


@dataclass
class _Epoch:
    """An epoch: the names of its attributes, and the number of its next batch."""

    attribute_names: frozenset[str]
    next_number: int = 0


class Recording:
    """Collects the rows of one process into batches, and sends these in the background.

    Args:
        run: Run that stores the rows.
        options: Options of the recorder.
    """

    def __init__(self, run: RunClient, options: RecorderOptions) -> None:
        self.run = run
        self.sender = BatchSender(self._send, options.max_waiting, options.patience_s)
        self._options = options
        self._prefix = options.prefix
        self._epoch: int | None = None
        self._epochs: dict[int, _Epoch] = {}
        self._parts: list[SentBatch] = []
        self._ids: set[str] = set()
        self._nbytes = 0
        self._attributes: dict[str, list[object]] = {}
        self._at_exit: Finalize | None = None
        self._closed = False

    def add(
        self,
        epoch: int,
        ids: Any,
        logits: Any,
        targets: Any,
        attributes: Mapping[str, Iterable[object]] | None,
        offsets: Any = None,
    ) -> None:
        """Copy rows into the next batch, and queue that batch for sending if it is full."""
        if self._closed:
            raise ValueError("the recorder is closed")
        rows = self._rows(as_batch(logits, targets, ids, offsets))
        if rows.ids is None:
            raise InvalidIdsError("ids missing; a run identifies its examples by them")
        columns = self._columns(epoch, rows.num_examples, attributes or {})
        texts = set(map(str, rows.ids))
        # A batch has one width and unique ids. A DistributedSampler repeats rows to fill its last batch.
        if epoch != self._epoch or (self._parts and not _can_join(self._parts[0], rows)) or texts & self._ids:
            self.flush()
        self._start()
        self._epoch = epoch
        self._epochs.setdefault(epoch, _Epoch(frozenset(columns)))
        self._parts.append(rows)
        self._ids |= texts
        self._nbytes += rows.nbytes
        for name, values in columns.items():
            self._attributes.setdefault(name, []).extend(values)
        if len(self._ids) >= self._options.batch_rows or self._nbytes >= BATCH_BYTES:
            self.flush()
        self._raise_if_strict()

    def end_epoch(self) -> None:
        """Queue the last rows of an epoch for sending, without waiting for them."""
        self.flush()
        self._raise_if_strict()

    def close(self) -> None:
        """Send the remaining rows, and wait until the service has stored them."""
        self.flush()
        self._closed = True
        if self._at_exit is not None:
            self._at_exit.cancel()
        self.sender.close()

    def flush(self) -> None:
        """Queue the collected rows for sending."""
        if not self._parts or self._epoch is None:
            return
        epoch = self._epochs[self._epoch]
        name = f"{self._prefix}-{epoch.next_number:06}"
        epoch.next_number += 1
        batch = NamedBatch(self._epoch, name, _join(self._parts), self._attributes)
        self._parts, self._ids, self._nbytes, self._attributes = [], set(), 0, {}
        self.sender.put(batch)

    def _start(self) -> None:
        """Prepare for the first rows: this process may have been forked, and become a rank, after the recorder's."""
        if self._at_exit is not None:
            return
        if self._prefix is None:
            self._prefix = f"rank-{_rank()}"
        self.sender.start()
        # Also runs at the end of a process of multiprocessing, where atexit does not.
        self._at_exit = Finalize(None, self._close_at_exit, exitpriority=10)

    def _close_at_exit(self) -> None:
        try:
            self.close()
        except RecordingError as err:
            log.warning("%s", err)

    def _rows(self, batch: Any) -> SentBatch:
        options = self._options
        if has_text_labels(batch, options.layout):
            raise InvalidTargetError("the labels of a recorder are numbers; `RunClient.push` also takes class names")
        rows = sent_batch(batch, on_invalid=options.on_invalid, reducer=options.reducer, layout=options.layout)
        if OFFSETS in rows.tensors:
            # Batches with other offsets could become a valid one when they are joined.
            checked_offsets(numbers_of(rows.tensors[OFFSETS]), rows.tensors["targets"].shape[0], 0)
        return rows.copy()

    def _columns(
        self, epoch: int, num_rows: int, attributes: Mapping[str, Iterable[object]]
    ) -> dict[str, list[object]]:
        columns = {name: list(as_plain(values)) for name, values in attributes.items()}
        if epoch in self._epochs and columns.keys() != self._epochs[epoch].attribute_names:
            known = sorted(self._epochs[epoch].attribute_names)
            raise InvalidRequestError(
                f"attributes {sorted(columns)}: the previous rows of epoch {epoch} have the attributes {known}"
            )
        for name, values in columns.items():
            if len(values) != num_rows:
                raise ShapeError(f"attribute {name!r} has {len(values)} values for {num_rows} rows")
        return columns

    def _raise_if_strict(self) -> None:
        if self._options.strict:
            self.sender.raise_errors()

    def _send(self, batch: NamedBatch) -> None:
        self.run.push(
            batch.epoch,
            batch.name,
            batch.batch,
            attributes=batch.attributes,
            outputs=("loss",),
            on_invalid=self._options.on_invalid,
            replace=self._options.replace,
        )


def _rank() -> int:
    """Return the rank of this process in torch.distributed, 0 without it."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return 0
    return int(distributed.get_rank())


def _can_join(first: SentBatch, second: SentBatch) -> bool:
    """Return True if the rows of both have the same widths and dtypes."""
    kinds, others = (
        {part: (sent.dtype, sent.shape[1:]) for part, sent in batch.tensors.items()} for batch in (first, second)
    )
    return kinds == others and first.num_classes == second.num_classes


def _join(parts: Sequence[SentBatch]) -> SentBatch:
    """Concatenate batches whose rows have the same widths and dtypes."""
    if len(parts) == 1:
        return parts[0]
    ids = [identity for part in parts for identity in part.ids or ()]
    tensors = {name: _concatenate(name, [part.tensors[name] for part in parts]) for name in parts[0].tensors}
    return replace(parts[0], tensors=tensors, ids=ids)


def _concatenate(name: str, tensors: Sequence[Tensor]) -> Tensor:
    if name == OFFSETS:
        return tensor(offsets_of(np.concatenate([np.diff(numbers_of(offsets)) for offsets in tensors])), OFFSETS)
    rows = sum(tensor.shape[0] for tensor in tensors)
    data = memoryview(b"".join(tensor.data for tensor in tensors))
    return Tensor(tensors[0].dtype, (rows, *tensors[0].shape[1:]), data)
