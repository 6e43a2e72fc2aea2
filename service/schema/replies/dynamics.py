"""The reply of `GET /runs/{run}/dynamics`."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

Region = Literal["easy", "ambiguous", "hard_to_learn", "between"]


class ExampleDynamics(TypedDict):
    """Statistics of one example over the epochs.

    - `confidence`: mean p_t; `variability`: its population standard deviation, in [0, 0.5];
    - `correctness`: number of its `epochs` in which the prediction is the label;
    - `threshold_closeness`: `confidence` (1 - `confidence`);
    - `area_under_margin`: mean logit margin; `mean_loss`: mean focal loss;
    - `forgetting_events`: number of changes from a right to a wrong prediction;
    - `first_learned`: first epoch with a right prediction, null if `never_learned`.
    """

    id: str
    target: int
    epochs: int
    confidence: float
    variability: float
    correctness: int
    threshold_closeness: float
    area_under_margin: float
    mean_loss: float
    forgetting_events: int
    never_learned: bool
    first_learned: int | None
    region: Region


class RegionCounts(TypedDict):
    """Number of examples in each region of the data map."""

    easy: int
    ambiguous: int
    hard_to_learn: int
    between: int


class DynamicsSummary(TypedDict):
    """Totals of all examples of a run; means are null without examples.

    `never_learned` and `forgotten` are numbers of examples, the latter of those with a forgetting event.
    """

    num_examples: int
    never_learned: int
    forgotten: int
    mean_confidence: float | None
    mean_variability: float | None
    mean_area_under_margin: float | None
    regions: RegionCounts


class DataMapCell(TypedDict):
    """A cell of the data map: its centre, the number of examples, and their mean share of right predictions."""

    confidence: float
    variability: float
    count: int
    correctness: float


class Dynamics(TypedDict):
    """A page of examples with their training dynamics, and the totals of all examples.

    `num_matching` is the number of examples in the requested region. `map` is present if the query has `bins`.
    """

    run: str
    epochs: list[int]
    num_matching: int
    summary: DynamicsSummary
    map: NotRequired[list[DataMapCell]]
    rows: list[ExampleDynamics]
