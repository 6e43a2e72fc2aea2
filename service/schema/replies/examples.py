"""Replies of `/runs/{run}/examples`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from service.schema.json_values import JsonObject
from service.schema.replies.fields import ClassIndex, Count, Share, Verdict
from service.schema.replies.reviews import Review

# JSON has no infinity: it is null on the wire.
LogOdds = Annotated[float | None, Field(description="log(p_t / (1 - p_t)); null if infinite")]
LogitMargin = Annotated[
    float | None,
    Field(
        description="Logit of the target minus the largest other logit; null if infinite: all other classes are masked"
    ),
]
Attributes = Annotated[JsonObject, Field(description="Attributes that were sent last for the example, in any epoch")]


class ScoredExample(TypedDict):
    """A stored row of an example in one epoch, with its scores."""

    id: str
    target: ClassIndex
    prediction: ClassIndex
    loss: Annotated[float, Field(description="Focal loss")]
    cross_entropy: float
    p_t: Annotated[Share, Field(description="Probability of the target")]
    log_odds: LogOdds
    logit_margin: LogitMargin
    normalized_margin: Annotated[float, Field(description="(p_t - largest other probability + 1) / 2")]
    entropy: Annotated[float, Field(description="Entropy of the predicted distribution, in nats")]
    el2n: Annotated[float, Field(description="L2 norm of the probabilities minus the one-hot target")]
    epoch: Annotated[int, Field(ge=0)]
    batch: Annotated[str, Field(description="Name of the batch")]
    row: Annotated[int, Field(ge=0, description="Row in the batch, from 0")]


class ExampleRow(ScoredExample):
    """A row of a page of examples."""

    attributes: Attributes
    verdict: Annotated[Verdict | None, Field(description="Current verdict")]


class ExamplesPage(TypedDict):
    """A page of the examples of an epoch."""

    run: str
    epoch: Annotated[int, Field(ge=0)]
    num_matching: Annotated[Count, Field(description="Rows that match the filters, on all pages")]
    rows: list[ExampleRow]
    next_cursor: Annotated[str | None, Field(description="Value of `cursor` for the next page; null on the last page")]


Percentile = Annotated[
    float | None,
    Field(
        ge=0,
        le=100,
        description="Percentage of the epoch's rows with a smaller value, plus half of those with an equal value",
    ),
]


class Percentiles(TypedDict):
    """Percentile of each score of an example among the rows of the epoch; null if the epoch has no rows."""

    loss: Percentile
    cross_entropy: Percentile
    p_t: Percentile
    log_odds: Percentile
    logit_margin: Percentile
    normalized_margin: Percentile
    entropy: Percentile
    el2n: Percentile


class ExampleDetail(ScoredExample):
    """An example: its scores and percentiles in an epoch, its course over the epochs, and its reviews."""

    attributes: Attributes
    logits: Annotated[
        list[float | None] | None,
        Field(description="null if the run stores no logits; a logit of -inf (a masked class) is null"),
    ]
    probabilities: list[float] | None
    percentiles: Percentiles
    course: Annotated[list[ScoredExample], Field(description="Rows of the example in all epochs, ascending")]
    reviews: Annotated[list[Review], Field(description="Reviews of the example in the order of arrival")]
