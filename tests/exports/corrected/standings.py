"""Reviews and what follows from them, for tests of corrected data sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.runs.review_history import ReviewHistory, Standing, Verdicts
from service.runs.units import UnitKey
from service.schema.replies.reviews import Review


def review(
    reviewer: str | None,
    verdict: Any,
    label: int | None = None,
    *,
    identity: str = "x",
    comment: str | None = None,
    adjudicated: bool = False,
    **others: Any,
) -> Review:
    """A review as a history has it."""
    return {
        "review": "0",
        "id": identity,
        "verdict": verdict,
        "label": label,
        "reviewer": reviewer,
        "queue": None,
        "comment": comment,
        "at": "2026-01-01T00:00:00+00:00",
        "adjudicated": adjudicated,
        **others,
    }


def standing(*reviews: Review) -> Standing:
    """The standing of example `x` after reviews."""
    return history(*reviews).verdicts[UnitKey("x")]


def history(*reviews: Review) -> ReviewHistory:
    """The history with these reviews."""
    return ReviewHistory([]).extended([("1", list(reviews))])


def verdicts(by_id: Mapping[str, Review]) -> Verdicts:
    """The standings of examples after one review of each."""
    return history(*({**given, "id": identity} for identity, given in by_id.items())).verdicts
