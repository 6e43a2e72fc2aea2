"""Replies of `/runs/{run}/examples`."""

from __future__ import annotations

from typing import Annotated, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from service.schema.json_values import JsonObject
from service.schema.replies.fields import ClassIndex, Count, CurrentVerdict, Share, Unit
from service.schema.replies.reviews import Review

# JSON has no infinity: it is null on the wire.
LogOdds = Annotated[float | None, Field(description="log(p_t / (1 - p_t)); null if infinite")]
LogitMargin = Annotated[
    float | None,
    Field(
        description="Logit of the target minus the largest other logit; null if infinite: all other classes are masked"
    ),
]
NOT_SENT = "null if it does not follow from the statistics that were sent"
Attributes = Annotated[JsonObject, Field(description="Attributes that were sent last for the example, in any epoch")]


class ScoredExample(TypedDict):
    """A stored row of an example in one epoch, with its scores.

    Those of an example with many elements are of its worst element (`p_t`, `log_odds`, margins), means (cross-entropy,
    entropy) or a norm (`el2n`) over them; the members from `label_quality` on are of such examples only.
    """

    id: str
    target: Annotated[ClassIndex | None, Field(description="null if the example has many elements")]
    prediction: Annotated[ClassIndex | None, Field(description="null if the example has many elements")]
    loss: Annotated[float, Field(description="Focal loss")]
    cross_entropy: float
    p_t: Annotated[Share, Field(description="Probability of the target")]
    log_odds: LogOdds
    logit_margin: LogitMargin
    normalized_margin: Annotated[
        float | None, Field(description=f"(p_t - largest other probability + 1) / 2; {NOT_SENT}")
    ]
    entropy: Annotated[float | None, Field(description=f"Entropy of the predicted distribution, in nats; {NOT_SENT}")]
    el2n: Annotated[
        float | None, Field(description=f"L2 norm of the probabilities minus the one-hot target; {NOT_SENT}")
    ]
    epoch: Annotated[int, Field(ge=0)]
    batch: Annotated[str, Field(description="Name of the batch")]
    row: Annotated[int, Field(ge=0, description="Row in the batch, from 0")]
    label_quality: NotRequired[Annotated[Share, Field(description="Softmin of p_t over the elements, temperature 0.1")]]
    max_loss: NotRequired[Annotated[float, Field(description="Largest loss of an element")]]
    loss_sum: NotRequired[Annotated[float, Field(description="Sum of the losses of the elements")]]
    num_valid: NotRequired[Annotated[Count, Field(description="Elements that count")]]
    num_wrong: NotRequired[
        Annotated[Count | None, Field(description="Elements with another prediction than target; null if unknown")]
    ]
    num_units: NotRequired[Annotated[Count, Field(description="Units: connected wrong elements")]]


class ExampleRow(ScoredExample):
    """A row of a page of examples."""

    attributes: Attributes
    verdict: Annotated[CurrentVerdict | None, Field(description="Current verdict")]


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


class ExampleElements(TypedDict):
    """The elements of an example, flat, in the order of its targets; null where a target is ignored."""

    shape: Annotated[list[Count], Field(description="Axes of the targets")]
    targets: Annotated[list[int | None], Field(description="Classes; of several labels 0 or 1")]
    predictions: list[int]
    log_odds: Annotated[list[float | None], Field(description="log(p_t / (1 - p_t)); also null if infinite")]


class ExampleUnit(TypedDict):
    """A unit of an example: a wrong label, a span of wrong tokens, or a region of wrong elements of a mask."""

    unit: Annotated[Unit, Field(description="Index of the label, span, or number of the region")]
    target: ClassIndex
    suggested: ClassIndex
    suggested_p: Annotated[Share | None, Field(description="Mean probability of the predictions; null if unknown")]
    num_elements: Count
    box: Annotated[list[list[int]], Field(description="First index along each axis, and last one plus 1")]
    loss: Annotated[float, Field(description="Sum of the losses of its elements")]
    p_t: Annotated[Share, Field(description="Mean p_t of its elements")]
    verdict: Annotated[CurrentVerdict | None, Field(description="Current verdict on the unit")]


class StructuredDetail(TypedDict):
    """The elements and units of an example with many elements."""

    elements: NotRequired[
        Annotated[
            ExampleElements | None,
            Field(
                description="Only with many elements; null with elements=false, if there are more than 262144, "
                "or if each stands for several"
            ),
        ]
    ]
    units: NotRequired[
        Annotated[list[ExampleUnit], Field(description="Only with many elements: up to 1000, the largest loss first")]
    ]


class ExampleDetail(ScoredExample, StructuredDetail):
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
