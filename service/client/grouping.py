"""Streams of batches: requests of moderate size."""

from __future__ import annotations

from collections.abc import Callable

from service.client.arrays import SentBatch

# Large enough that a request's own cost does not count, small enough that many fit beside each other in a service.
GROUP_BYTES = 16 * 1024 * 1024
# A safetensors request of the service has at most 4096 tensors.
GROUP_BATCHES = 1024

Progress = Callable[[int, int], None]


class Grouping:
    """Collects batches until they make a request.

    A group holds batches of one width and dtype: their results fit one tensor, and none depends on its neighbours.
    """

    def __init__(self, max_bytes: int = GROUP_BYTES, max_batches: int = GROUP_BATCHES) -> None:
        self._max_bytes = max_bytes
        self._max_batches = max_batches
        self._batches: list[SentBatch] = []
        self._nbytes = 0

    def add(self, batch: SentBatch) -> list[SentBatch]:
        """The group that is complete without this batch, or an empty list."""
        full = bool(self._batches) and (
            self._nbytes + batch.nbytes > self._max_bytes
            or len(self._batches) >= self._max_batches
            or _kind(batch) != _kind(self._batches[0])
        )
        complete = self.rest() if full else []
        # The caller may fill the same arrays anew while this one waits to be sent.
        self._batches.append(batch.owned())
        self._nbytes += batch.nbytes
        return complete

    def rest(self) -> list[SentBatch]:
        """What is left at the end."""
        batches, self._batches, self._nbytes = self._batches, [], 0
        return batches


def _kind(batch: SentBatch) -> tuple[str, tuple[int, ...]]:
    return batch.logits.dtype, batch.logits.shape[1:]
