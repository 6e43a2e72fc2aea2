"""Queues as Python objects, for tests that compare them."""

from __future__ import annotations

from typing import Any

from service.mining.queue_table import QueueTable


def whole(queue: QueueTable) -> dict[str, Any]:
    """A queue with its rows."""
    return {**queue.head, "rows": queue.dicts()}
