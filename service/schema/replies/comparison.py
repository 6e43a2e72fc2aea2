"""The reply of `GET /runs/{run}/compare/{other}`."""

from __future__ import annotations

from typing import Annotated, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from service.schema.replies.fields import ClassIndex, ClassMember, Count, LossValue, Share

# An example of a structured run has no class of its own.
ExampleClass = Annotated[ClassIndex | None, Field(description="null in structured runs")]
WrongElements = Annotated[
    Count | None,
    Field(description="Elements whose prediction is not their target, in structured runs; null if sent as a histogram"),
]
AllWrongElements = Annotated[Count, Field(description="Wrong elements of all common examples, in structured runs")]
Rank = Annotated[int, Field(ge=1, description="Rank among the common examples; 1 is the largest loss")]


class ComparedRun(TypedDict):
    """One of the two runs of a comparison."""

    run: str
    epoch: Annotated[int, Field(ge=0)]
    num_examples: Annotated[Count, Field(description="Distinct ids")]


class ComparedClass(ClassMember):
    """Changes of the examples that have this target in the second run."""

    count: Count
    mean_loss_before: LossValue
    mean_loss_after: LossValue
    num_newly_hard: Count
    num_resolved: Count


class ComparedExample(TypedDict):
    """An example in both runs."""

    id: str
    target_before: ExampleClass
    target_after: ExampleClass
    prediction_before: ExampleClass
    prediction_after: ExampleClass
    num_wrong_before: NotRequired[WrongElements]
    num_wrong_after: NotRequired[WrongElements]
    loss_before: LossValue
    loss_after: LossValue
    rank_before: Rank
    rank_after: Rank


class Comparison(TypedDict):
    """Comparison of two runs under the same loss, over the examples that both have."""

    before: ComparedRun
    after: ComparedRun
    num_common: Annotated[Count, Field(description="Ids that both runs have")]
    num_only_before: Count
    num_only_after: Count
    top: Annotated[Count, Field(description="Number of examples of a run that count as its hardest")]
    mean_loss_before: LossValue
    mean_loss_after: LossValue
    num_newly_hard: Count
    num_resolved: Count
    num_relabelled: Annotated[Count, Field(description="Examples whose targets changed")]
    num_predicted_otherwise: Annotated[Count, Field(description="Examples whose predictions changed")]
    num_wrong_before: NotRequired[AllWrongElements]
    num_wrong_after: NotRequired[AllWrongElements]
    overlap: Annotated[
        Share | None,
        Field(description="Share of the hardest examples of one run that are also among those of the other"),
    ]
    rank_correlation: Annotated[float | None, Field(description="Spearman's rho; null below two examples")]
    classes: Annotated[
        list[ComparedClass],
        Field(
            description="Classes that have examples, ascending; of more than 1000 those with the largest loss in the "
            "second run; none in structured runs"
        ),
    ]
    newly_hard: Annotated[
        list[ComparedExample], Field(description="Examples among the hardest of the second run only, at most 50")
    ]
    resolved: Annotated[
        list[ComparedExample], Field(description="Examples among the hardest of the first run only, at most 50")
    ]
    moves: Annotated[
        list[ComparedExample], Field(description="Examples with the largest changes of rank, largest first, at most 50")
    ]
