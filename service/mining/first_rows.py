"""The rows of several queues, each example and unit once: a row may be in several queues."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from service.mining.key_index import Rows
from service.mining.queue_table import GOLD, QueueTable
from service.mining.row_states import Booleans
from service.runs.units import WHOLE
from service.schema.replies.fields import Strategy
from service.schema.structure import Task

# An odd number near 2^64 divided by the golden ratio: epochs differ in all digits.
_OF_EPOCH = -7046029254386353131


@dataclass(frozen=True)
class FirstRows:
    """Rows of queues without repetitions, as their places in each queue.

    Args:
        by_strategy: The rows of each strategy, without gold rows.
        control: The rows drawn at random from all examples.
    """

    by_strategy: dict[Strategy, list[Rows]]
    control: list[Rows]

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return sum(rows.nbytes for parts in (*self.by_strategy.values(), self.control) for rows in parts)


def first_rows(queues: Sequence[QueueTable], task: Task) -> FirstRows:
    """The rows of some queues, each example and unit once for each strategy; the first queue with it has it.

    Two different ones are taken for the same with a probability of about 1e-9 for a million rows.
    """
    hashes = [_hashes(queue, task) for queue in queues]
    strategies = sorted({strategy for queue in queues for strategy in queue.expected_errors})
    by_strategy = {
        strategy: _first([_of_strategy(queue, strategy) for queue in queues], hashes) for strategy in strategies
    }
    return FirstRows(by_strategy, _first([queue.rows["control"].to_numpy() for queue in queues], hashes))


def _hashes(queue: QueueTable, task: Task) -> Rows:
    """The hash of each row; the regions of masks follow from the predictions of an epoch, so each epoch has its own."""
    hashes = queue.index.hashes
    if task != "masks":
        return hashes
    is_unit = pc.not_equal(queue.rows["unit"], WHOLE).to_numpy()
    return np.where(is_unit, hashes ^ np.int64((queue.head["epoch"] * _OF_EPOCH) % 2**63), hashes)


def _of_strategy(queue: QueueTable, strategy: Strategy) -> Booleans:
    of_strategy: Booleans = pc.equal(queue.rows["strategy"], strategy).to_numpy()
    gold = queue.marks(GOLD)
    return of_strategy if gold is None else of_strategy & ~gold


def _first(masks: Iterable[Booleans], hashes: Sequence[Rows]) -> list[Rows]:
    """The marked rows of each queue whose hash no earlier marked row has."""
    parts = [np.flatnonzero(mask) for mask in masks]
    taken = [of_queue[rows] for of_queue, rows in zip(hashes, parts, strict=True)]
    is_first = np.zeros(sum(map(len, parts)), np.bool_)
    if len(is_first):
        is_first[np.unique(np.concatenate(taken), return_index=True)[1]] = True
    ends = np.cumsum([0, *map(len, parts)])
    return [rows[is_first[start:stop]] for rows, start, stop in zip(parts, ends, ends[1:], strict=False)]
