"""Replies about queues: a queue with counts of its verdicts, and with a page of its rows."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from service.mining.listing import QueueFilter, page
from service.mining.progress import expected_yield, progress
from service.mining.queue_table import QueueTable
from service.queries.view import View
from service.runs.review_history import ReviewHistory
from service.runs.store import RunStore
from service.runs.units import WHOLE
from service.schema.replies.queues import Queue, QueuePage
from service.schema.structure import Task


def queue_reply(queue: QueueTable, history: ReviewHistory, task: Task) -> Queue:
    """A queue without its rows, with counts of the current verdicts, and of the rows by class or label."""
    verdicts = history.verdicts_of(queue.head["epoch"])
    some = queue.of_ids(pa.array([key.id for key in verdicts], pa.string()))
    reviewed = [verdicts[key] for key in some.unit_keys() if key in verdicts]
    counts = Counter(standing.verdict for standing in reviewed)
    classes = queue.rows["unit" if task == "multi_label" else "target"].value_counts().to_pylist()
    return {
        **queue.head,
        "num_rows": queue.rows.num_rows,
        # A whole structured example has no one class.
        "num_per_class": {str(row["values"]): row["counts"] for row in classes if row["values"] not in (None, WHOLE)},
        "num_reviewed": len(reviewed),
        "num_wrong": counts["wrong"],
        "num_ok": counts["ok"],
        "num_unsure": counts["unsure"],
        "num_exclude": counts["exclude"],
        "num_conflict": counts["conflict"],
    }


def queue_page(store: RunStore, view: View, queue: QueueTable, query: QueueFilter) -> QueuePage:
    """A queue with its expected yield and a page of the rows that match a filter (`service.mining.listing.page`)."""
    history = store.reviews(view.snapshot)
    precisions = progress(store, view.snapshot, history)["precision"]
    return {
        **queue_reply(queue, history, view.snapshot.description.task),
        "expected_yield": expected_yield(queue.expected_errors, precisions),
        **page(view, queue, history, query),
    }
