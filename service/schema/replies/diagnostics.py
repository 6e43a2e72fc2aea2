"""The reply of `GET /runs/{run}/diagnostics`."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from service.schema.config import Reduction
from service.schema.replies.element_diagnostics import ElementDiagnostics
from service.schema.replies.fields import ClassIndex, ClassMember, Count, LossValue, Share

WarningCode = Literal[
    "no_examples",
    "probabilities_as_logits",
    "log_probabilities_as_logits",
    "partial_epoch",
    "in_sample",
    "over_confident",
    "small_classes",
    "many_classes",
    "duplicated_ids",
    "no_logits",
    "class_weights",
    "inverse_frequency_alpha",
    "one_sided_verdicts",
    "no_better_than_random",
    "far_from_expected",
]


class DiagnosticsWarning(TypedDict):
    """A reason to read diagnostics or verdicts with care."""

    code: WarningCode
    message: Annotated[str, Field(description="Explanation in sentences")]


class LossStatistics(TypedDict):
    """Statistics of the losses of the examples of an epoch."""

    value: Annotated[
        float | None,
        Field(description="The reduced loss; null for the reduction none, and for weighted_mean in structured runs"),
    ]
    reduction: Reduction
    sum: LossValue
    alpha_sum: Annotated[float | None, Field(description="Sum of the class weights of the examples")]
    mean: LossValue
    median: LossValue
    max: LossValue
    accuracy: Annotated[
        Share | None, Field(description="Share of examples whose prediction is their target, in all elements")
    ]


class ClassCount(ClassMember):
    """A class and a number of examples."""

    count: Count


class ClassStatistics(ClassMember):
    """Statistics of one class in an epoch; the last six members are absent if the run stores no logits."""

    name: str | None
    count: Annotated[Count, Field(description="Examples with this target")]
    loss_sum: LossValue
    loss_share: Annotated[float | None, Field(description="Share of the epoch's loss; null if that is 0 or infinite")]
    mean_loss: LossValue
    recall: Annotated[Share | None, Field(description="Share of its examples that are predicted as this class")]
    predicted: Annotated[Count, Field(description="Examples of all classes that are predicted as this class")]
    most_confused: Annotated[ClassCount | None, Field(description="Most frequent wrong prediction of its examples")]
    label_noise: NotRequired[Annotated[Share, Field(description="P(true class is another | target is this class)")]]
    inverse_label_noise: NotRequired[
        Annotated[Share, Field(description="P(target is another class | true class is this one)")]
    ]
    label_quality: NotRequired[Annotated[Share, Field(description="1 - label_noise")]]
    label_issues: NotRequired[
        Annotated[Count, Field(description="Estimated examples with this target and another true class")]
    ]
    inverse_label_issues: NotRequired[
        Annotated[Count, Field(description="Estimated examples of this class with another target")]
    ]
    often_truly: NotRequired[
        Annotated[ClassIndex | None, Field(description="Most frequent true class of its wrong targets")]
    ]


class ConfusionCell(TypedDict):
    """Number of examples with this target and this prediction."""

    target: ClassIndex
    prediction: ClassIndex
    count: Count


class Confusion(TypedDict):
    """Confusion matrix of an epoch."""

    matrix: Annotated[
        list[list[int]] | None, Field(description="matrix[target][prediction] counts examples; null above 200 classes")
    ]
    largest: Annotated[list[ConfusionCell], Field(description="Largest cells off the diagonal, at most 100")]


class ClassPair(TypedDict):
    """Two classes that are mistaken for each other, the smaller index first."""

    first: ClassIndex
    second: ClassIndex
    count: Annotated[
        Count, Field(description="Estimated examples with one class as target and the other as true class")
    ]
    probability: Annotated[Share, Field(description="count as a share of all examples")]


class Histogram(TypedDict):
    """Histogram of the losses; without bins if the largest loss is 0 or infinite."""

    edges: list[float]
    counts: Annotated[
        list[int], Field(description="counts[i] losses lie in [edges[i], edges[i + 1]); the last bin is closed")
    ]


class Concentration(TypedDict):
    """Concentration of the loss in few examples; all members are null if the sum of losses is 0 or infinite."""

    gini: Annotated[float | None, Field(description="Gini coefficient: 0 if all losses are equal")]
    lorenz: Annotated[
        list[list[float]] | None,
        Field(description="Lorenz curve, at most 101 points: share of the examples, easiest first; share of the loss"),
    ]
    top_1_percent: Annotated[float | None, Field(description="Share of the loss in the hardest 1 % of the examples")]
    top_5_percent: float | None
    top_10_percent: float | None


class CalibrationBin(TypedDict):
    """Examples whose confidence lies in (lower, upper]."""

    lower: float
    upper: float
    count: Count
    accuracy: Annotated[Share | None, Field(description="Share whose prediction is the target; null if empty")]
    confidence: Annotated[Share | None, Field(description="Mean confidence; null if empty")]


class Calibration(TypedDict):
    """Confidence of the model, max p, against the accuracy of its predictions; null members without examples.

    `temperature` is null if the cross-entropy has no minimum: every target has the largest logit (T = 0 would be best),
    the logits are no better than chance (T = infinity would be), or differ by so little (1e-150) that the search fails.
    """

    num_examples: Count
    bins: Annotated[list[CalibrationBin], Field(description="Bins of equal width, ascending")]
    ece: Annotated[
        Share | None,
        Field(description="Expected calibration error: mean over examples of |accuracy - confidence| of their bin"),
    ]
    accuracy: Annotated[
        Share | None, Field(description="Share whose prediction is the target; the lowest class wins ties")
    ]
    confidence: Annotated[Share | None, Field(description="Mean confidence")]
    nll: Annotated[float | None, Field(description="Mean cross-entropy in nats")]
    temperature: Annotated[float | None, Field(description="T > 0 that minimises the mean cross-entropy of logits / T")]
    nll_scaled: Annotated[float | None, Field(description="Mean cross-entropy of logits / temperature")]


class LabelErrors(TypedDict):
    """Wrong targets as estimated by confident learning; shares are null without examples."""

    estimated: Annotated[Count, Field(description="Estimated examples with a wrong target")]
    off_diagonal: Annotated[
        Count, Field(description="Examples that confident learning suspects; cleanlab's off_diagonal")
    ]
    off_diagonal_calibrated: Annotated[
        Count, Field(description="Equal to estimated, under the name that cleanlab uses")
    ]
    share: Annotated[Share | None, Field(description="estimated as a share of all examples")]
    health: Annotated[Share | None, Field(description="1 - off_diagonal as a share of all examples")]
    thresholds: Annotated[
        list[float | None] | None,
        Field(description="Mean probability of the target by class; null without examples, and above 1000 classes"),
    ]


class SuggestedAlpha(TypedDict):
    """Class weights that balance the classes, by both schemes of `alpha`."""

    inverse: list[float]
    effective: list[float]


class Diagnostics(TypedDict):
    """Diagnostics of one epoch of a run; `fields` in the query selects the members from `num_duplicates` on.

    A run of multi_label, tokens or masks has `elements`, and none of the members about one class of an example:
    `classes`, `confusion`, `class_pairs`, `calibration`, `label_errors` and `suggested_alpha`.
    """

    run: str
    epoch: Annotated[int, Field(ge=0)]
    epochs: Annotated[list[int], Field(description="All epochs of the run, ascending")]
    num_examples: Annotated[Count, Field(description="Rows of the epoch with different ids")]
    num_ignored: Annotated[Count, Field(description="Rows left out because their target is ignore_index")]
    num_excluded: Annotated[Count, Field(description='Invalid rows left out by on_invalid: "exclude"')]
    num_classes: Annotated[int | None, Field(description="null until the first batch, unless the config defines it")]
    alpha: Annotated[list[float] | None, Field(description="Class weights of the losses; null for weights of 1")]
    gamma: Annotated[float, Field(description="Focusing parameter of the losses")]
    num_duplicates: NotRequired[Annotated[Count, Field(description="Rows left out, since a later row has their id")]]
    loss: NotRequired[LossStatistics]
    elements: NotRequired[
        Annotated[ElementDiagnostics, Field(description="Labels, tokens or pixels of the examples, in structured runs")]
    ]
    classes: NotRequired[
        Annotated[
            list[ClassStatistics],
            Field(description="One row for each class, ascending; above 1000 classes those with the largest loss"),
        ]
    ]
    confusion: NotRequired[Confusion]
    class_pairs: NotRequired[
        Annotated[
            list[ClassPair] | None,
            Field(description="Largest count first, at most 100; null if the run stores no logits"),
        ]
    ]
    histogram: NotRequired[Histogram]
    concentration: NotRequired[Concentration]
    concentration_at_gamma_0: NotRequired[
        Annotated[Concentration, Field(description="Concentration of the weighted cross-entropy")]
    ]
    calibration: NotRequired[Annotated[Calibration | None, Field(description="null if the run stores no logits")]]
    label_errors: NotRequired[Annotated[LabelErrors | None, Field(description="null if the run stores no logits")]]
    suggested_alpha: NotRequired[
        Annotated[SuggestedAlpha | None, Field(description="null if a class has no examples, and above 1000 classes")]
    ]
    warnings: NotRequired[list[DiagnosticsWarning]]
