"""Replies of `/runs/{run}/reviews`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from service.schema.replies.fields import ClassIndex, Count, Share, Strategy, Timestamp, Verdict


class Review(TypedDict):
    """A reviewer's verdict on the label of an example."""

    id: Annotated[str, Field(description="Id of the example")]
    verdict: Annotated[Verdict | None, Field(description="null withdraws the verdict before it")]
    label: Annotated[ClassIndex | None, Field(description="The right class, where the reviewer named it")]
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
    """Counts of the current verdicts of a run, and what they say about its strategies."""

    num_reviewed: Annotated[Count, Field(description="Examples with a verdict")]
    num_wrong: Count
    num_ok: Count
    num_unsure: Count
    precision: Annotated[dict[Strategy, Precision], Field(description="For each strategy that has rows in a queue")]
    error_rate: Annotated[
        Precision | None,
        Field(description="For rows drawn at random from all examples; null if no queue has any"),
    ]


class Reviews(Progress):
    """All reviews of a run in the order of their arrival, and the progress."""

    reviews: list[Review]


class AddedReviews(Progress):
    """Number of reviews that a request added, and the progress after it."""

    added: Count
