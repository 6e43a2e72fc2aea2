"""The reply of `GET /runs/{run}/dynamics`."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from service.schema.replies.fields import ClassIndex, Count, Share

Region = Annotated[
    Literal["easy", "ambiguous", "hard_to_learn", "between"], Field(description="Region of the data map")
]
UNKNOWN = "null if a mask was sent as a histogram, without predictions"
Variability = Annotated[float, Field(ge=0, le=0.5)]


class ExampleDynamics(TypedDict):
    """Statistics of one example over the epochs."""

    id: str
    target: Annotated[
        ClassIndex | None, Field(description="Target that was sent last for the example; null in structured runs")
    ]
    epochs: Annotated[Count, Field(description="Rows of the example")]
    confidence: Annotated[Share, Field(description="Mean p_t, in structured runs of the worst element")]
    variability: Annotated[Variability, Field(description="Population standard deviation of p_t")]
    correctness: Annotated[
        Count | None, Field(description=f"Rows whose prediction is their target, in all elements; {UNKNOWN}")
    ]
    threshold_closeness: Annotated[float, Field(description="confidence * (1 - confidence)")]
    area_under_margin: Annotated[
        float | None, Field(description="Mean logit margin; null if a batch was sent as statistics without it")
    ]
    mean_loss: Annotated[float, Field(description="Mean focal loss")]
    forgetting_events: Annotated[
        Count | None, Field(description=f"Changes from a right to a wrong prediction; {UNKNOWN}")
    ]
    never_learned: Annotated[bool | None, Field(description=UNKNOWN)]
    first_learned: Annotated[int | None, Field(description="First epoch with a right prediction")]
    region: Region


class RegionCounts(TypedDict):
    """Number of examples in each region of the data map."""

    easy: Count
    ambiguous: Count
    hard_to_learn: Count
    between: Count


class DynamicsSummary(TypedDict):
    """Totals of all examples of a run; means are null without examples."""

    num_examples: Count
    never_learned: Annotated[Count, Field(description="Examples without a right prediction")]
    forgotten: Annotated[Count, Field(description="Examples with a forgetting event")]
    mean_confidence: float | None
    mean_variability: float | None
    mean_area_under_margin: float | None
    regions: RegionCounts


class DataMapCell(TypedDict):
    """A cell of the data map that has examples."""

    confidence: Annotated[Share, Field(description="Centre of the cell")]
    variability: Annotated[Variability, Field(description="Centre of the cell")]
    count: Annotated[int, Field(ge=1, description="Examples in the cell")]
    correctness: Annotated[
        Share | None, Field(description="Mean share of their rows whose prediction is the target; null if unknown")
    ]


class Dynamics(TypedDict):
    """A page of examples with their training dynamics, and the totals of all examples."""

    run: str
    epochs: Annotated[list[int], Field(description="Epochs of the statistics, ascending")]
    num_matching: Annotated[Count, Field(description="Examples of the region, on all pages")]
    summary: DynamicsSummary
    map: NotRequired[Annotated[list[DataMapCell], Field(description="With bins in the query: the data map as a grid")]]
    rows: list[ExampleDynamics]
