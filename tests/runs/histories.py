"""Histories of reviews in memory, for tests of what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from service.runs.review_history import ReviewHistory
from service.schema.replies.reviews import Review

NOTHING = {"label": None, "reviewer": None, "queue": None, "comment": None, "at": "2026-11-30T12:00:00+00:00"}


def history_of(*reviews: Mapping[str, Any], history: ReviewHistory | None = None) -> ReviewHistory:
    """A history with some reviews in one list, after those of another history."""
    history = ReviewHistory([]) if history is None else history
    name = f"{history.num_lists + 1:020d}-0123456789ab"
    complete = [{**NOTHING, **review, "review": f"{name}.{number}"} for number, review in enumerate(reviews)]
    return history.extended([(name, cast("list[Review]", complete))])
