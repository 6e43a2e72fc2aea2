"""Replies of `/runs/{run}/reviews`."""

from __future__ import annotations

from typing import Annotated, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from service.schema.replies.fields import ClassIndex, Count, Share, Strategy, Timestamp, Unit, Verdict

# Largest number of reviews in a request.
MAX_REVIEWS = 10_000


class Review(TypedDict):
    """A reviewer's verdict on the label of an example, or on a unit of a structured example."""

    id: Annotated[str, Field(description="Id of the example")]
    unit: NotRequired[Unit]
    epoch: NotRequired[
        Annotated[int, Field(ge=0, description="Epoch in which the mask has this region; only of regions")]
    ]
    verdict: Annotated[Verdict | None, Field(description="null withdraws the previous verdict")]
    label: Annotated[
        ClassIndex | None,
        Field(description="Right class according to the reviewer, if known; of a label of a multi_label run 0 or 1"),
    ]
    reviewer: str | None
    queue: Annotated[str | None, Field(description="Queue that the reviewer worked through")]
    comment: str | None
    at: Timestamp


class Precision(TypedDict):
    """Share of wrong labels among reviewed examples or units, with its 95 % Wilson interval."""

    reviewed: Annotated[Count, Field(description="Examples or units with a verdict")]
    wrong: Count
    unsure: Count
    share: Annotated[Share | None, Field(description="wrong / (wrong + ok); null without such verdicts")]
    low: Annotated[Share | None, Field(description="Lower end of the interval")]
    high: Annotated[Share | None, Field(description="Upper end of the interval")]


class Progress(TypedDict):
    """Counts of the current verdicts of a run, the precision of its strategies, and its error rate."""

    num_reviewed: Annotated[Count, Field(description="Examples or units with a verdict")]
    num_wrong: Count
    num_ok: Count
    num_unsure: Count
    precision: Annotated[
        dict[Strategy, Precision], Field(description="Precision by strategy, for strategies with rows in a queue")
    ]
    error_rate: Annotated[
        Precision | None,
        Field(
            description="Share of wrong labels in a random sample of all examples; of structured examples those with a "
            "wrong element; null if no queue has such a sample"
        ),
    ]


class Reviews(Progress):
    """All reviews of a run in the order of arrival, and the progress."""

    reviews: list[Review]


class AddedReviews(Progress):
    """Number of reviews that a request added, and the progress afterwards."""

    added: Count
