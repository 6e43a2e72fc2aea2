"""Statuses of labels that follow from verdicts."""

from __future__ import annotations

import pytest

from service.exports.corrected.decisions import all_reviews, comments_of, decide, reviewers_of
from service.runs.review_history import Standing
from tests.exports.corrected.standings import review, standing


@pytest.mark.parametrize(
    ("reviews", "status", "label"),
    [
        ([review("ada", "ok")], "kept", None),
        ([review("ada", "ok"), review("bob", "ok")], "kept", None),
        ([review("ada", "wrong", 2)], "corrected", 2),
        ([review("ada", "wrong"), review("bob", "wrong", 2)], "corrected", 2),
        ([review("ada", "wrong")], "unsure", None),
        ([review("ada", "unsure")], "unsure", None),
        ([review("ada", "exclude")], "excluded", None),
        ([review("ada", "ok"), review("bob", "wrong", 2)], "conflict", None),
        ([review("ada", "wrong", 1), review("bob", "wrong", 2)], "conflict", None),
        ([review("ada", "ok"), review("bob", "wrong", 2), review("eve", "wrong", 1, adjudicated=True)], "corrected", 1),
        ([review("ada", "ok"), review("bob", "wrong", 2), review("eve", "ok", adjudicated=True)], "kept", None),
    ],
)
def test_the_status_follows_from_the_reviews_that_count(reviews: list, status: str, label: int | None) -> None:
    assert decide(standing(*reviews)) == (status, label)


def test_all_reviewers_and_their_comments_are_named_once() -> None:
    disputed = standing(
        review("ada", "ok", comment="fine"),
        review(None, "wrong", 1, comment="a dog"),
        review("bob", "wrong", 1, comment="fine"),
        review("ada", "wrong", 1, adjudicated=True),
    )
    reviews = all_reviews(disputed)
    assert reviewers_of(reviews) == ["ada", "bob"]
    assert comments_of(reviews) == "fine\na dog"
    assert comments_of(all_reviews(standing(review("ada", "ok")))) is None
    assert isinstance(disputed, Standing)
