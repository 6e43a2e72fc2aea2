"""Replies of `/runs/{run}/queues`."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from service.schema.replies.examples import Attributes, LogitMargin, LogOdds
from service.schema.replies.fields import (
    ClassIndex,
    Count,
    CurrentVerdict,
    QueueStrategy,
    Share,
    Strategy,
    Timestamp,
    Unit,
    Verdict,
)


class AttributeCap(TypedDict):
    """Cap on the rows of a queue with the same value of an attribute, or on the units of an example."""

    attribute: Annotated[str | None, Field(description="null: at most `count` units of each example")]
    count: int


class RowConditions(TypedDict):
    """Conditions on the rows of a queue; null and empty members mean no condition."""

    target: ClassIndex | None
    prediction: ClassIndex | None
    correct: bool | None
    ids: list[str] | None
    attributes: dict[str, str]
    ranges: Annotated[
        dict[str, tuple[float | None, float | None]],
        Field(description="Smallest and largest value of a score; null for no bound"),
    ]


class QueueSettings(TypedDict):
    """Settings of a queue, defaults included, and the weights of its loss."""

    name: str | None
    strategy: QueueStrategy
    mix: dict[Strategy, float] | None
    runs: NotRequired[Annotated[list[str] | None, Field(description="Further runs of which the ranks are averaged")]]
    budget: int
    per_class: Literal["equal", "proportional"] | dict[str, int] | None
    min_per_class: int
    at_most: AttributeCap | None
    only: RowConditions | None
    units: NotRequired[Annotated[bool | None, Field(description="null: by the strategy")]]
    exclude_reviewed: bool | None
    seed: int
    epoch: int | None
    first: int | None
    margin: float
    share: float
    # Missing in queues of earlier versions.
    reviewers: NotRequired[Annotated[bool, Field(description="True if reviewers count as annotators")]]
    overlap: NotRequired[Annotated[int, Field(description="Reviewers of each row", ge=1)]]
    blind: NotRequired[Annotated[bool, Field(description="True if a verdict is hidden from those who have none yet")]]
    without_suggestion: NotRequired[Annotated[Share, Field(description="Share of rows without a suggestion")]]
    gold: NotRequired[Annotated[Share, Field(description="Share of rows whose right verdict is known")]]
    alpha: Annotated[list[float] | None, Field(description="A weight for each class; null for weights of 1")]
    gamma: float


class RowReview(TypedDict):
    """A review of a row that counts: the last one of a reviewer, or the adjudication."""

    review: Annotated[str, Field(description="Id of the review")]
    reviewer: str | None
    verdict: Verdict
    label: ClassIndex | None
    comment: str | None
    at: Timestamp
    adjudicated: Annotated[bool, Field(description="True if an owner settles what reviewers disagree about")]


class QueueRow(TypedDict, total=False):
    """A row of a queue; `fields` in the query selects its members.

    A row of a structured run is a unit, or a whole example: its scores are those of the unit, or of the worst element.
    """

    id: str
    unit: Unit
    num_elements: Annotated[
        int, Field(ge=1, description="Elements of the unit, or of the example that count; only in structured runs")
    ]
    box: Annotated[
        list[list[int]] | None,
        Field(
            description="First index of the unit along each axis of the targets, and last index plus 1; null for a "
            "whole example; only in structured runs"
        ),
    ]
    batch: Annotated[str, Field(description="Name of the batch")]
    row: Annotated[int, Field(ge=0, description="Row in the batch, from 0")]
    epoch: Annotated[int, Field(ge=0)]
    target: Annotated[ClassIndex | None, Field(description="null for a whole structured example")]
    prediction: Annotated[ClassIndex | None, Field(description="null for a whole structured example")]
    loss: Annotated[float, Field(description="Focal loss; of a unit the sum of its elements' losses")]
    cross_entropy: float
    p_t: Annotated[Share, Field(description="Probability of the target; of a unit the mean of its elements'")]
    log_odds: LogOdds
    logit_margin: LogitMargin
    normalized_margin: Annotated[float | None, Field(description="null for units")]
    entropy: Annotated[float | None, Field(description="null for units")]
    el2n: Annotated[float | None, Field(description="null for units")]
    score: Annotated[
        float | None,
        Field(description="The strategy's score, or the mean rank over several `runs`; null if infinite"),
    ]
    suggested: Annotated[
        ClassIndex | None, Field(description="Class that the model suggests; null if it agrees with the target")
    ]
    suggested_p: Annotated[Share | None, Field(description="Probability of the suggested class in the epoch")]
    strategy: Strategy
    suggested_epochs: Annotated[
        int, Field(description="Number of epochs that predicted the suggested class; only for area_under_margin")
    ]
    num_epochs: Annotated[int, Field(description="Number of epochs with the example; only for area_under_margin")]
    rank: Annotated[int, Field(ge=1)]
    control: Annotated[bool, Field(description="True if the row was drawn at random from all examples")]
    share: Annotated[Share, Field(description="Share of the epoch's total loss")]
    reason: Annotated[str, Field(description="Reason for the row, as a sentence")]
    attributes: Attributes
    verdict: Annotated[CurrentVerdict | None, Field(description="Verdict of all reviewers together")]
    verdict_label: Annotated[ClassIndex | None, Field(description="Right class according to the reviewers")]
    review: Annotated[
        str | None,
        Field(description="Id of the last review that the caller may see, for `expected` of the next one; or null"),
    ]
    reviews: Annotated[list[RowReview], Field(description="The reviews that count and that the caller may see")]
    done: Annotated[bool, Field(description="True if the row needs no further reviewer")]
    suggestion: Annotated[
        Literal["shown", "hidden"],
        Field(
            description="hidden: `suggested`, `suggested_p` and `prediction` are null until the caller has a verdict"
        ),
    ]


class StoredRow(QueueRow, total=False):
    """A row of a queue as stored in its file."""

    gold: bool
    without_suggestion: bool


class Chosen(TypedDict):
    """The choice of the strategy `recommended`."""

    strategy: Strategy | Literal["mix"]
    mix: Annotated[dict[Strategy, float] | None, Field(description="Share of each strategy; null without a mix")]
    why: Annotated[str, Field(description="Reason for the choice, in sentences")]


class ChosenStrategy(TypedDict, total=False):
    """The choice, if the strategy of a queue is `recommended`."""

    chosen: Annotated[Chosen, Field(description="Only with the strategy recommended")]


class QueueHead(ChosenStrategy):
    """A queue without its rows, as it was created."""

    name: Annotated[str | None, Field(description="null for a preview")]
    run: str
    created_at: Timestamp
    strategy: QueueStrategy
    epoch: Annotated[int, Field(ge=0)]
    num_examples: Annotated[Count, Field(description="Stored rows of the epoch")]
    request: QueueSettings
    is_control: Annotated[bool, Field(description="True if its random rows estimate the error rate of the run")]
    warnings: list[str]


class StoredQueue(QueueHead):
    """A queue with its rows, as stored in its file."""

    rows: list[StoredRow]


class Queue(QueueHead):
    """A queue without its rows, with counts of its current verdicts."""

    num_rows: Count
    num_per_class: Annotated[
        dict[str, Count], Field(description="Number of rows by target class; in a multi_label run by label")
    ]
    num_reviewed: Annotated[Count, Field(description="Rows with a verdict")]
    num_wrong: Count
    num_ok: Count
    num_unsure: Count
    num_exclude: Count
    num_conflict: Annotated[Count, Field(description="Rows about which reviewers disagree")]
    num_done: Annotated[Count, Field(description="Rows that need no further reviewer")]


class ExpectedYield(TypedDict):
    """Estimate of the wrong labels among the rows of a queue."""

    wrong_labels: float
    rows: Count
    caveat: Annotated[str, Field(description="Basis and limits of the estimate, as a sentence")]


class RowsPage(TypedDict):
    """Rows of a queue that match a filter, in the requested order."""

    num_matching: Annotated[Count, Field(description="Rows that match the filters, on all pages")]
    offset: Annotated[Count, Field(description="Number of matching rows before this page")]
    rows: list[QueueRow]
    attributes: NotRequired[
        Annotated[
            dict[str, list[str]],
            Field(description="With facets=true: values of each attribute with at most 20 distinct values"),
        ]
    ]


class QueuePage(Queue, RowsPage):
    """A queue with a page of its rows."""

    expected_yield: ExpectedYield


class QueueList(TypedDict):
    """All queues of a run, by name, without their rows."""

    queues: list[Queue]


class LeasedRows(TypedDict):
    """The next rows of a queue, leased to the caller."""

    run: str
    queue: Annotated[str, Field(description="Name of the queue")]
    reviewer: Annotated[str | None, Field(description="The caller")]
    leased_until: Annotated[Timestamp | None, Field(description="End of the lease; null without rows")]
    num_free: Annotated[Count, Field(description="Further rows that the caller could lease now")]
    num_left: Annotated[Count, Field(description="Rows that the caller may still judge; others may hold some of them")]
    rows: Annotated[list[QueueRow], Field(description="Rows that the caller held before come first")]
