"""Reviews of files, for comparisons."""

from __future__ import annotations

from dataclasses import asdict

from service.mining.file_reviews import RowReview


def members_of(review: RowReview) -> dict[str, object]:
    """The members of a review that a row has."""
    others = ("row", "seen", "adjudicate")
    return {name: value for name, value in asdict(review).items() if value is not None and name not in others}
