"""The member `elements` of `GET /runs/{run}/diagnostics`: labels, tokens or pixels of a structured run."""

from __future__ import annotations

from typing import Annotated, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from service.schema.replies.fields import ClassIndex, ClassMember, Count, LossValue, Share

UNKNOWN = "null if masks were sent as histograms, whose elements have no predictions"
LabelMember = Annotated[ClassIndex, Field(description="The label; in multi_label runs only")]


class ElementClass(ClassMember):
    """Elements with this target; in multi_label runs the elements of this label. The members from `threshold` on are
    absent without probabilities, and the first two of them in multi_label runs."""

    name: str | None
    count: Annotated[Count, Field(description="Elements that are not ignored")]
    num_positive: NotRequired[Annotated[Count, Field(description="Elements with the target 1, in multi_label runs")]]
    num_wrong: Annotated[Count, Field(description="Elements whose prediction is not their target")]
    error_rate: Annotated[Share | None, Field(description=f"num_wrong as a share of count; {UNKNOWN}")]
    num_units: Annotated[Count, Field(description="Units: wrong labels, spans or regions")]
    loss_sum: LossValue
    loss_share: Annotated[float | None, Field(description="Share of the loss of all elements; null if that is 0")]
    mean_loss: LossValue
    threshold: NotRequired[Annotated[float | None, Field(description="Mean probability of the target")]]
    often_truly: NotRequired[
        Annotated[ClassIndex | None, Field(description="Most frequent true class of its wrong targets")]
    ]
    thresholds: NotRequired[
        Annotated[
            list[float | None], Field(description="Mean probabilities of the targets 0 and 1, in multi_label runs")
        ]
    ]
    joint: NotRequired[
        Annotated[
            list[list[int]],
            Field(description="joint[target][true target] estimates the elements of a label, in multi_label runs"),
        ]
    ]
    label_issues: NotRequired[
        Annotated[
            Count,
            Field(description="Estimated elements with another true class; of a label: issues with the target 1"),
        ]
    ]
    inverse_label_issues: NotRequired[
        Annotated[
            Count,
            Field(description="Estimated elements of this class with another target; of a label: issues with target 0"),
        ]
    ]
    label_noise: NotRequired[Annotated[Share, Field(description="label_issues as a share, as cleanlab defines it")]]
    inverse_label_noise: NotRequired[Annotated[Share, Field(description="The same of inverse_label_issues")]]
    label_quality: NotRequired[Annotated[Share, Field(description="1 - label_noise")]]


class ElementConfusion(TypedDict):
    """Wrong elements with this target and this prediction."""

    label: NotRequired[LabelMember]
    target: ClassIndex
    prediction: ClassIndex
    count: Count
    num_units: Annotated[Count, Field(description="Units in which this pair has the largest loss")]
    loss_sum: LossValue


class CommonIssue(TypedDict):
    """Label issues with this target and this most likely class."""

    label: NotRequired[LabelMember]
    target: ClassIndex
    suggested: ClassIndex
    count: Count
    share: NotRequired[
        Annotated[Share, Field(description="count as a share of the label's elements, in multi_label runs")]
    ]


class CommonWord(TypedDict):
    """Label issues of a word."""

    word: str
    target: ClassIndex
    suggested: ClassIndex
    count: Count


class ElementIssues(TypedDict):
    """Elements with a wrong target by confident learning; the numbers are those of cleanlab."""

    estimated: Annotated[Count, Field(description="Estimated elements with a wrong target")]
    share: Annotated[Share | None, Field(description="estimated as a share of the elements that are not ignored")]
    num_issues: Annotated[
        Count, Field(description="Elements that the filter prune_by_noise_rate marks: the label issues of `common`")
    ]
    num_examples: Annotated[Count, Field(description="Examples with a label issue")]
    health: Annotated[Share | None, Field(description="Share of the examples without a label issue")]
    joint: Annotated[
        list[list[int]] | None,
        Field(
            description="joint[target][true class] estimates the elements; null above 200 classes, and in multi_label "
            "runs, where each label has its own"
        ),
    ]
    common: Annotated[list[CommonIssue], Field(description="Most frequent kinds of label issues, at most 100")]
    words: NotRequired[
        Annotated[
            list[CommonWord],
            Field(description="Most frequent words of label issues, at most 100; with the attribute `tokens` only"),
        ]
    ]


class EntityIssues(ElementIssues):
    """Tokens with a wrong target, if classes such as B-PER and I-PER are one; classes are the entities of `names`."""

    names: Annotated[list[str], Field(description="Names of the classes without B-, I-, E-, L-, S- and U-")]


class ElementDiagnostics(TypedDict):
    """The elements of the examples of an epoch: labels, tokens or pixels."""

    num_elements: Count
    num_valid: Annotated[Count, Field(description="Elements that are not ignored")]
    num_ignored: Count
    num_wrong: Annotated[Count, Field(description="Elements whose prediction is not their target")]
    error_rate: Annotated[Share | None, Field(description=f"num_wrong as a share of num_valid; {UNKNOWN}")]
    num_units: Annotated[Count, Field(description="Units: wrong labels, spans or regions")]
    num_examples_wrong: Annotated[Count, Field(description="Examples with a wrong element")]
    loss_sum: LossValue
    classes: Annotated[
        list[ElementClass],
        Field(
            description="One row for each class, of multi_label runs for each label, ascending; above 1000 those with "
            "the largest loss"
        ),
    ]
    confusions: Annotated[list[ElementConfusion], Field(description="Largest count first, at most 100")]
    label_issues: Annotated[
        ElementIssues | None,
        Field(description="null without the probabilities of all classes, and above 1000 classes of tokens or masks"),
    ]
    entities: NotRequired[
        Annotated[EntityIssues, Field(description="Label issues of merged classes, if class names begin with B- or I-")]
    ]
