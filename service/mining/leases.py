"""Leases the next rows of a queue to a reviewer: no row to more reviewers than the overlap of the queue."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from service.errors import QueueFullError
from service.mining.key_index import Rows
from service.mining.queue_table import QueueTable
from service.mining.row_states import RowStates
from service.runs.lease_files import Lease
from service.runs.snapshot import Snapshot
from service.runs.store import RunStore

# Rows that a reviewer can hold at once, and reviewers who can hold rows of a queue.
MAX_LEASED_ROWS, MAX_HOLDERS = 100, 500


class LeasedRows(NamedTuple):
    """The rows that a reviewer holds.

    Args:
        rows: Ranks of the rows minus 1: first those that he held before.
        until: End of the lease, in seconds since 1970.
        num_free: Number of further rows that the reviewer could lease now.
        num_left: Number of rows that he may still judge, with those that he or others hold.
    """

    rows: list[int]
    until: float
    num_free: int
    num_left: int


def lease_rows(
    store: RunStore, snapshot: Snapshot, queue: QueueTable, reviewer: str | None, number: int, seconds: float
) -> LeasedRows:
    """Lease the first free rows of a queue by rank, after those that the reviewer holds already.

    A row is free if it needs a further reviewer beside those with a verdict on it and those who hold it. A verdict of
    the reviewer, or the end of the time, ends the lease of a row; each call renews the leases of the reviewer.

    Args:
        store: Store of the reviews and leases.
        snapshot: The run.
        queue: The queue, or its outline.
        reviewer: The reviewer. Reviewers without a name are one person.
        number: Maximum number of rows, at most `MAX_LEASED_ROWS`.
        seconds: Duration of the lease.

    Raises:
        QueueFullError: Many other reviewers hold rows of the queue.
        UnknownRunError: The run was deleted in the meantime.
    """
    result = LeasedRows([], 0.0, 0, 0)

    def change(leases: list[Lease]) -> list[Lease]:
        nonlocal result
        now = time.time()
        states = queue.tracker.at(store.reviews(snapshot))
        current = [held for lease in leases if lease["until"] > now and (held := _open(lease, states))["rows"]]
        others = [lease for lease in current if lease["reviewer"] != reviewer]
        if len(others) >= MAX_HOLDERS:
            msg = f"{len(others)} reviewers hold rows of queue {queue.head['name']}"
            raise QueueFullError(msg, headers={"Retry-After": "60"})
        needed = ~states.is_done(queue.overlap) & ~states.is_judged_by(reviewer)
        own = [row for lease in current if lease["reviewer"] == reviewer for row in lease["rows"] if needed[row]]
        free = np.flatnonzero(needed & (states.num_reviewers + _holders(others, len(needed)) < queue.overlap))
        free = free[~np.isin(free, own)]
        new = free[: max(0, number - len(own))].tolist()
        result = LeasedRows([*own, *new][:number], now + seconds, len(free) - len(new), int(np.count_nonzero(needed)))
        leased: Lease = {"reviewer": reviewer, "until": result.until, "rows": [*own, *new]}
        return [*others, leased] if leased["rows"] else others

    store.leases.change(snapshot, queue.identity, change)
    return result


def give_back(store: RunStore, snapshot: Snapshot, queue: QueueTable, reviewer: str | None) -> None:
    """End the leases of a reviewer."""
    store.leases.change(
        snapshot, queue.identity, lambda leases: [lease for lease in leases if lease["reviewer"] != reviewer]
    )


def _open(lease: Lease, states: RowStates) -> Lease:
    """A lease without the rows that its reviewer has judged, and without rows that the queue does not have."""
    judged = states.is_judged_by(lease["reviewer"])
    return {**lease, "rows": [row for row in lease["rows"] if row < len(judged) and not judged[row]]}


def _holders(leases: Sequence[Lease], number: int) -> Rows:
    """Number of leases of each row."""
    return np.bincount(np.array([row for lease in leases for row in lease["rows"]], np.int64), minlength=number)
