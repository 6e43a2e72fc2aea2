"""Streams of batches: requests of moderate size, and the totals of what came back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from service.client.arrays import SentBatch
from service.client.results import HardExample, LossReply
from service.schema.config import Reduction
from service.schema.result import Excluded, reduced

# Large enough that a request's own cost does not count, small enough that many fit beside each other in a service.
GROUP_BYTES = 16 * 1024 * 1024
# A safetensors request of the service has at most 4096 tensors.
GROUP_BATCHES = 1024
EXCLUDED_KEPT = 1000

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


class Totals:
    """The totals of a stream so far; what it keeps does not grow with the stream.

    Args:
        reduction: Of the configuration.
        top_k: Hardest examples to keep.
    """

    def __init__(self, reduction: Reduction, top_k: int) -> None:
        self.reduction = reduction
        self._top_k = top_k
        self._config_id = self._device = ""
        self._num_examples = self._num_ignored = self._num_excluded = 0
        self._loss_sum = self._alpha_sum = 0.0
        self._hardest: list[HardExample] = []
        self._excluded: list[Excluded] = []
        self.num_batches = 0

    @property
    def num_examples(self) -> int:
        return self._num_examples

    def add(self, reply: LossReply) -> None:
        """Count the next request."""
        first = self.num_batches
        self._config_id, self._device = reply.config_id, reply.device
        self._num_examples += reply.num_examples
        self._num_ignored += reply.num_ignored
        self._num_excluded += reply.num_excluded
        self._loss_sum += sum(batch.loss_sum for batch in reply.batches)
        self._alpha_sum += sum(batch.alpha_sum for batch in reply.batches)
        self._hardest += [replace(hard, batch=hard.batch + first) for hard in reply.hardest]
        # Stable: examples of one loss stay in the order in which they came.
        self._hardest.sort(key=lambda hard: -hard.loss)
        del self._hardest[self._top_k :]
        room = EXCLUDED_KEPT - len(self._excluded)
        self._excluded += [replace(row, batch=row.batch + first) for row in reply.excluded[:room]]
        self.num_batches += len(reply.batches)

    def reply(self) -> LossReply:
        """The totals as of one request; without batches."""
        num_counted = self._num_examples - self._num_ignored - self._num_excluded
        return LossReply(
            config_id=self._config_id,
            device=self._device,
            loss=reduced(self.reduction, self._loss_sum, self._alpha_sum, num_counted),
            num_examples=self._num_examples,
            num_ignored=self._num_ignored,
            num_excluded=self._num_excluded,
            batches=(),
            hardest=tuple(self._hardest),
            excluded=tuple(self._excluded),
        )
