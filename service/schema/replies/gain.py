"""The reply of `GET /runs/{run}/gain/{other}`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from service.schema.replies.comparison import ComparedRun
from service.schema.replies.fields import ClassMember, Count, Estimate, Share


class Metrics(TypedDict):
    """Accuracy, loss and calibration of a model, or differences of them, with 95 % bootstrap intervals."""

    accuracy: Estimate
    loss: Annotated[Estimate, Field(description="Mean focal loss; null where it needs logits that are not stored")]
    ece: Annotated[
        Estimate, Field(description="Expected calibration error, of 15 bins, with a basic bootstrap interval")
    ]


class McNemar(TypedDict):
    """McNemar's exact test of equal accuracy of both models."""

    only_before: Annotated[Count, Field(description="Examples that only the first model predicts right")]
    only_after: Annotated[Count, Field(description="Examples that only the second model predicts right")]
    p: Annotated[Share, Field(description="Two-sided p-value")]


class GainUnderLabels(TypedDict):
    """Both models under the same labels."""

    before: Metrics
    after: Metrics
    difference: Annotated[Metrics, Field(description="After minus before, with paired intervals")]
    mcnemar: McNemar


class GainedClass(ClassMember, McNemar):
    """Both models on the examples whose corrected label is this class."""

    count: Count
    accuracy_before: Share
    accuracy_after: Share


class LeftOut(TypedDict):
    """Common examples without a label to measure with."""

    excluded: Count
    conflict: Count
    wrong_without_label: Count


class Gain(TypedDict):
    """Comparison of two models on the examples that both runs have, under the given and under the corrected labels.

    The given label is that of the first run. The corrected one is the label of the verdict; without a verdict it is the
    label of the second run.
    """

    before: ComparedRun
    after: ComparedRun
    num_common: Annotated[Count, Field(description="Ids that both runs have")]
    num_compared: Annotated[Count, Field(description="Common examples but those left out")]
    num_reviewed: Annotated[Count, Field(description="Compared examples with the verdict ok or wrong in either run")]
    num_corrected: Annotated[Count, Field(description="Compared examples whose corrected label is not the given one")]
    left_out: LeftOut
    given: GainUnderLabels
    corrected: GainUnderLabels
    change_before: Annotated[Metrics, Field(description="First model: corrected minus given labels, paired")]
    change_after: Annotated[Metrics, Field(description="Second model: corrected minus given labels, paired")]
    classes: Annotated[
        list[GainedClass], Field(description="By number; of more than 1000 classes those with the most examples")
    ]
    notes: Annotated[list[str], Field(description="Limits of this reply, as sentences")]
