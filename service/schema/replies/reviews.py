"""Replies of `/runs/{run}/reviews`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from service.schema.replies.fields import ClassIndex, Count, Share, Strategy, Timestamp, Verdict

# Largest number of reviews in a request.
MAX_REVIEWS = 10_000


class Review(TypedDict):
    """A reviewer's verdict on the label of an example."""

    id: Annotated[str, Field(description="Id of the example")]
    verdict: Annotated[Verdict | None, Field(description="null withdraws the previous verdict")]
    label: Annotated[ClassIndex | None, Field(description="Right class according to the reviewer, if known")]
    reviewer: str | None
    queue: Annotated[str | None, Field(description="Queue that the reviewer worked through")]
    comment: str | None
    at: Timestamp


class Precision(TypedDict):
    """Share of wrong labels among reviewed examples, with its 95 % Wilson interval."""

    reviewed: Annotated[Count, Field(description="Examples with a verdict")]
    wrong: Count
    unsure: Count
    share: Annotated[Share | None, Field(description="wrong / (wrong + ok); null without such verdicts")]
    low: Annotated[Share | None, Field(description="Lower end of the interval")]
    high: Annotated[Share | None, Field(description="Upper end of the interval")]


class Progress(TypedDict):
    """Counts of the current verdicts of a run, the precision of its strategies, and its error rate."""

    num_reviewed: Annotated[Count, Field(description="Examples with a verdict")]
    num_wrong: Count
    num_ok: Count
    num_unsure: Count
    precision: Annotated[
        dict[Strategy, Precision], Field(description="Precision by strategy, for strategies with rows in a queue")
    ]
    error_rate: Annotated[
        Precision | None,
        Field(description="Share of wrong labels in a random sample of all examples; null if no queue has one"),
    ]


class Reviews(Progress):
    """All reviews of a run in the order of arrival, and the progress."""

    reviews: list[Review]


class AddedReviews(Progress):
    """Number of reviews that a request added, and the progress afterwards."""

    added: Count
