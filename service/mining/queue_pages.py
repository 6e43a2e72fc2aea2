"""Replies about queues: a queue with counts of its verdicts, and with a page of its rows."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from service.mining.leases import lease_rows
from service.mining.listing import QueueFilter, current_rows, members, page
from service.mining.progress import expected_yield, progress
from service.mining.queue_table import QueueTable
from service.mining.verdict_warnings import queue_warnings
from service.mining.visibility import QueueOf
from service.queries.view import View
from service.runs.review_history import ReviewHistory
from service.runs.store import RunStore
from service.schema.people import Principal
from service.schema.replies.queues import LeasedRows, Queue, QueuePage
from service.schema.structure import Task


def queue_reply(queue: QueueTable, history: ReviewHistory, task: Task) -> Queue:
    """A queue without its rows, with counts of the current verdicts, and of the rows by class or label."""
    states = queue.tracker.at(history)
    counts = states.counts()
    return {
        **queue.head,
        "num_rows": len(queue),
        "num_per_class": queue.num_per("unit" if task == "multi_label" else "target"),
        "num_reviewed": sum(counts.values()),
        "num_wrong": counts["wrong"],
        "num_ok": counts["ok"],
        "num_unsure": counts["unsure"],
        "num_exclude": counts["exclude"],
        "num_conflict": counts["conflict"],
        "num_done": int(np.count_nonzero(states.is_done(queue.overlap))),
    }


def queue_page(store: RunStore, view: View, queue: QueueTable, query: QueueFilter, who: Principal) -> QueuePage:
    """A queue with its expected yield and a page of the rows that match a filter (`service.mining.listing.page`)."""
    history = store.reviews(view.snapshot)
    known = progress(store, view.snapshot, history)
    return {
        **queue_reply(queue, history, view.snapshot.description.task),
        "warnings": [*queue.head["warnings"], *queue_warnings(view.snapshot, known, queue.expected_errors)],
        "expected_yield": expected_yield(queue.expected_errors, known["precision"]),
        **page(view, QueueOf(queue, history, who), query),
    }


def next_page(
    store: RunStore, view: View, queue: QueueTable, who: Principal, number: int, seconds: float
) -> LeasedRows:
    """Lease the next rows of a queue to the caller (`service.mining.leases`), and return them."""
    leased = lease_rows(store, view.snapshot, queue, who.name, number, seconds)
    seen = QueueOf(queue, store.reviews(view.snapshot), who)
    until = datetime.fromtimestamp(leased.until, UTC).isoformat()
    return {
        "run": view.snapshot.name,
        "queue": queue.head["name"] or "",
        "reviewer": who.name,
        "leased_until": until if leased.rows else None,
        "num_free": leased.num_free,
        "num_left": leased.num_left,
        "rows": current_rows(view, seen, leased.rows, members(queue)),
    }
