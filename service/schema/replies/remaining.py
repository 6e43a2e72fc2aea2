"""The reply of `GET /runs/{run}/remaining`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from service.schema.replies.fields import Count

RemainingStatus = Literal["no_random_slice", "too_few_verdicts", "none_found", "estimated"]
NextStatus = Literal["no_open_rows", "too_few_verdicts", "estimated"]


class RandomSlice(TypedDict):
    """Verdicts on the random rows of queues, which are a random sample of the examples."""

    queues: Annotated[list[str], Field(description="Names of the queues with the rows")]
    rows: Annotated[Count, Field(description="Random rows of these queues, each example once")]
    judged: Annotated[Count, Field(description="Rows of the sample with the verdict ok or wrong")]
    wrong: Count
    undecided: Annotated[
        Count, Field(description="Rows of the sample whose reviews give no verdict: unsure, exclude, conflict")
    ]
    set_apart: Annotated[
        Count,
        Field(
            description="Further random rows, which are known and no part of the sample: reviewed before their queue "
            "was created, or among the most suspicious examples that are nearly all judged"
        ),
    ]


class PredictedErrors(TypedDict):
    """Prediction of the wrong labels among the next open rows of a queue."""

    rows: Annotated[int, Field(ge=1, description="Number of next rows without a verdict, by rank")]
    expected: Annotated[float, Field(ge=0, description="Wrong labels among them in the mean")]
    low: Annotated[Count, Field(description="Lower end of the 95 % interval")]
    high: Annotated[Count, Field(description="Upper end of the 95 % interval")]


class NextRows(TypedDict):
    """Prediction of the wrong labels among the next rows of a queue.

    A logistic regression on the verdicts of its reviewed rows gives it.
    """

    queue: str
    status: NextStatus
    num_open: Annotated[Count, Field(description="Rows without a verdict")]
    num_judged: Annotated[Count, Field(description="Rows with the verdict ok or wrong")]
    num_wrong: Count
    predictions: Annotated[
        list[PredictedErrors], Field(description="By number of rows, ascending; empty unless the status is estimated")
    ]


class LabelsLeft(TypedDict):
    """The wrong labels that are left in a run."""

    epoch: Annotated[int, Field(ge=0)]
    status: Annotated[
        RemainingStatus,
        Field(
            description="no_random_slice: no queue has random rows of all examples; too_few_verdicts: fewer than 10 in "
            "the sample; none_found: the sample has no wrong label, which is not a proof that none is left"
        ),
    ]
    message: Annotated[str, Field(description="The result as a sentence")]
    num_examples: Annotated[Count, Field(description="Examples of the epoch")]
    num_judged: Annotated[Count, Field(description="Examples with the verdict ok or wrong")]
    num_wrong: Annotated[Count, Field(description="Examples with the verdict wrong, which are found already")]
    num_left: Annotated[Count, Field(description="Examples without such a verdict")]
    confidence: Annotated[float, Field(description="Least share of samples whose bound is true")]
    estimate: Annotated[float | None, Field(ge=0, description="Estimated wrong labels among num_left; null: unknown")]
    upper: Annotated[
        Count | None, Field(description="Upper bound of the wrong labels among num_left; null without a verdict")
    ]
    upper_if_undecided_wrong: Annotated[
        Count | None, Field(description="The same if the label of each undecided row of the sample is wrong")
    ]
    slice: RandomSlice


class Remaining(LabelsLeft):
    """The wrong labels that are left in a run, and what the next rows of a queue will find."""

    run: str
    next: Annotated[NextRows | None, Field(description="null if the run has no queue")]
