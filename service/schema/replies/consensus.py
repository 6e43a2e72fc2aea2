"""Replies of `/runs/{run}/annotations` and `/runs/{run}/consensus`: labels of several annotators."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from service.schema.replies.fields import ClassIndex, Count, Share


class AddedAnnotations(TypedDict):
    """The effect of annotations that were sent; none is stored that was known already."""

    added: Annotated[Count, Field(description="Labels of annotators for examples that they had not labelled")]
    changed: Annotated[Count, Field(description="Labels that replace another one of the same annotator")]
    unchanged: Annotated[Count, Field(description="Labels that were known already")]
    num_annotations: Annotated[Count, Field(description="Annotations of the run")]


class AnnotatorStatistics(TypedDict):
    """An annotator's part in the consensus of an epoch."""

    annotator: Annotated[str | None, Field(description="Name; null for reviews without a reviewer")]
    num_annotations: Annotated[Count, Field(description="Examples of the epoch that the annotator labelled")]
    num_shared: Annotated[Count, Field(description="Those of them that others labelled too")]
    weight: Annotated[
        float | None,
        Field(description="Trust by agreement with the others, up to 1; null if no example has two annotators", ge=0),
    ]
    quality: Annotated[
        Share | None,
        Field(description="Mean of the labels' probabilities and their agreement with the consensus; null if unknown"),
    ]
    agreement: Annotated[Share, Field(description="Share of labels that are the consensus")]
    worst_class: Annotated[ClassIndex, Field(description="Class of the labels that are least often the consensus")]


class ExampleConsensus(TypedDict):
    """The consensus on an example."""

    id: str
    target: Annotated[ClassIndex, Field(description="The given label: that of the example's row")]
    num_annotations: Count
    consensus: Annotated[ClassIndex | None, Field(description="Likeliest class; null without annotations")]
    quality: Annotated[
        Share | None, Field(description="Probability that the consensus is right; null without annotations")
    ]
    agreement: Annotated[Share | None, Field(description="Share of annotators whose label is the consensus")]
    active_lab: Annotated[
        Share, Field(description="ActiveLab's score as cleanlab has it: the lower, the more a further label tells")
    ]
    active_lab_calibrated: Annotated[
        Share, Field(description="ActiveLab's score with the model calibrated to the annotators' labels; better")
    ]


class Consensus(TypedDict):
    """The consensus of annotators and model on the examples of an epoch: totals, all annotators, a page of examples."""

    run: str
    epoch: Count
    num_examples: Annotated[Count, Field(description="Examples of the epoch")]
    num_annotated: Annotated[Count, Field(description="Examples with an annotation")]
    num_shared: Annotated[Count, Field(description="Examples with several annotators")]
    num_annotations: Annotated[Count, Field(description="Annotations of these examples")]
    num_unknown: Annotated[Count, Field(description="Annotations of examples that the epoch lacks")]
    num_differing: Annotated[Count, Field(description="Annotated examples whose consensus is not their given label")]
    model_weight: Annotated[
        float | None, Field(description="Trust in the model, on the scale of the annotators' weights", ge=0)
    ]
    annotators: Annotated[
        list[AnnotatorStatistics], Field(description="Lowest quality first; those without a quality last")
    ]
    num_matching: Annotated[Count, Field(description="Examples that meet the conditions, on all pages")]
    rows: list[ExampleConsensus]
