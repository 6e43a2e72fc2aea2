"""Groups of batches: requests of moderate size for a stream."""

from __future__ import annotations

from collections.abc import Callable

from service.client.batches import SentBatch
from service.formats.part_names import OFFSETS

# Large enough to make the overhead of a request negligible, small enough for many requests at a time in a service.
GROUP_BYTES = 16 * 1024 * 1024
# A safetensors request of the service has at most 4096 tensors.
GROUP_BATCHES = 1024

Progress = Callable[[int, int], None]
"""Called with the number of batches and of examples so far."""


class Grouping:
    """Collects batches until they fill a request.

    All batches of a group have the same width and dtype, so that the dtype of a result does not depend on
    the other batches.

    Args:
        max_bytes: Maximum size of a group; a larger batch is a group of its own.
        max_batches: Maximum number of batches in a group.
    """

    def __init__(self, max_bytes: int = GROUP_BYTES, max_batches: int = GROUP_BATCHES) -> None:
        self._max_bytes = max_bytes
        self._max_batches = max_batches
        self._batches: list[SentBatch] = []
        self._nbytes = 0

    def add(self, batch: SentBatch) -> list[SentBatch]:
        """Add a copy of a batch. Returns the previous group if the batch does not fit into it, else an empty list."""
        full = bool(self._batches) and (
            self._nbytes + batch.nbytes > self._max_bytes
            or len(self._batches) >= self._max_batches
            or _layout(batch) != _layout(self._batches[0])
        )
        complete = self.take() if full else []
        # A copy: the caller may reuse the arrays before the group is sent.
        self._batches.append(batch.copy())
        self._nbytes += batch.nbytes
        return complete

    def take(self) -> list[SentBatch]:
        """Remove and return the collected batches, which may be none."""
        batches, self._batches, self._nbytes = self._batches, [], 0
        return batches


def _layout(batch: SentBatch) -> tuple[object, ...]:
    tensors = [
        (part, tensor.dtype, tensor.shape[1:])
        for part, tensor in batch.tensors.items()
        if part not in ("targets", OFFSETS)
    ]
    return batch.num_classes, *tensors
