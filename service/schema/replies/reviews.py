"""Replies of `/runs/{run}/reviews`."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from service.schema.replies.diagnostics import DiagnosticsWarning
from service.schema.replies.fields import ClassIndex, Count, Share, Strategy, Timestamp, Unit, Verdict

# Largest number of reviews in a JSON request, and in a file.
MAX_REVIEWS, MAX_FILE_REVIEWS = 10_000, 30_000


class ReviewSource(TypedDict):
    """The annotation of a labelling tool that a review follows from."""

    tool: Literal["label-studio", "argilla"]
    id: Annotated[str, Field(description="The annotation, unique among those of the tool")]
    updated_at: Annotated[str, Field(description="Time of its last change in UTC, ISO 8601 with microseconds")]
    project: NotRequired[Annotated[int, Field(description="Number of its project in Label Studio")]]
    annotation: NotRequired[Annotated[int, Field(description="Its number in Label Studio")]]


class StoredReview(TypedDict):
    """A reviewer's verdict on the label of an example, or on a unit of a structured example, as stored in a file."""

    id: Annotated[str, Field(description="Id of the example")]
    unit: NotRequired[Unit]
    epoch: NotRequired[
        Annotated[int, Field(ge=0, description="Epoch in which the mask has this region; only of regions")]
    ]
    verdict: Annotated[Verdict | None, Field(description="null withdraws the reviewer's previous verdict")]
    label: Annotated[
        ClassIndex | None,
        Field(description="Right class according to the reviewer, if known; of a label of a multi_label run 0 or 1"),
    ]
    reviewer: str | None
    queue: Annotated[str | None, Field(description="Queue that the reviewer worked through")]
    comment: str | None
    at: Timestamp
    adjudicated: NotRequired[
        Annotated[bool, Field(description="True if an owner settles what reviewers disagree about: it counts alone")]
    ]
    suggestion: NotRequired[
        Annotated[
            Literal["shown", "hidden"],
            Field(description="Only where it is known: if the reviewer saw the class that the model suggests"),
        ]
    ]
    source: NotRequired[ReviewSource]


class Review(StoredReview):
    """A reviewer's verdict on the label of an example, or on a unit of a structured example."""

    review: Annotated[str, Field(description="Id of the review, unique in the run")]


class Precision(TypedDict):
    """Share of wrong labels among reviewed examples or units, with its 95 % Wilson interval."""

    reviewed: Annotated[Count, Field(description="Examples or units with a verdict")]
    judged: Annotated[Count, Field(description="Those with the verdict wrong or ok")]
    wrong: Count
    unsure: Count
    share: Annotated[Share | None, Field(description="wrong / judged; null if that is 0")]
    low: Annotated[Share | None, Field(description="Lower end of the interval")]
    high: Annotated[Share | None, Field(description="Upper end of the interval")]


class Progress(TypedDict):
    """Counts of the current verdicts of a run, the precision of its strategies, and its error rate."""

    num_reviewed: Annotated[Count, Field(description="Examples or units with a verdict")]
    num_wrong: Count
    num_ok: Count
    num_unsure: Count
    num_exclude: Annotated[Count, Field(description="Examples or units to leave out of the data set")]
    num_conflict: Annotated[Count, Field(description="Examples or units about which reviewers disagree")]
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
    """Reviews of a run in the order of arrival, the progress, and warnings about the verdicts."""

    reviews: list[Review]
    warnings: list[DiagnosticsWarning]


class AddedReviews(Progress):
    """Reviews that a request added, and the progress afterwards."""

    added: Annotated[Count, Field(description="Number of reviews that were stored")]
    reviews: Annotated[list[str], Field(description="Their ids, in the order of the request; empty for a file")]
    unchanged: Annotated[
        Count, Field(description="Rows of a file with the verdict that their reviewer gave last, or as exported")
    ]
    left_out: Annotated[Count, Field(description="Rows of a file without a verdict, or with the verdict `conflict`")]
