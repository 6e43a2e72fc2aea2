"""The reply of `GET /runs/{run}/diagnostics`.

A loss or a sum of losses that overflows float64 is null, as JSON has no infinity.
"""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from service.schema.config import Reduction

WarningCode = Literal[
    "no_examples",
    "partial_epoch",
    "in_sample",
    "over_confident",
    "small_classes",
    "duplicated_ids",
    "no_logits",
    "class_weights",
]


# The class syntax of Python cannot declare a member with the name of a keyword.
ClassIndex = TypedDict("ClassIndex", {"class": int})


class DiagnosticsWarning(TypedDict):
    """A reason to read the diagnostics with care, in plain words."""

    code: WarningCode
    message: str


class LossStatistics(TypedDict):
    """Statistics of the losses of an epoch.

    `value` is the loss after the run's `reduction`, null for `none`. `alpha_sum` is the sum of the examples' class
    weights, `accuracy` the share of examples whose prediction is their label. Means are null without examples.
    """

    value: float | None
    reduction: Reduction
    sum: float | None
    alpha_sum: float | None
    mean: float | None
    median: float | None
    max: float | None
    accuracy: float | None


class ClassCount(ClassIndex):
    """A class and a number of examples."""

    count: int


class ClassStatistics(ClassIndex):
    """Statistics of one class in an epoch.

    Of the examples labelled as this class: `count`, `loss_sum`, `loss_share` of the epoch's loss, `mean_loss`, `recall`
    (share that is predicted as this class), and `most_confused` (the most frequent wrong prediction). `predicted` is
    the number of examples predicted as this class.

    The other members are estimates of confident learning, absent if the run stores no logits: `label_noise` P(true
    label is not k | label k) and `inverse_label_noise` P(label is not k | true label k) in [0, 1], `label_quality`
    1 - `label_noise`, the number of examples behind both, and `often_truly`, the most frequent true class of the
    wrong labels.
    """

    name: str | None
    count: int
    loss_sum: float | None
    loss_share: float | None
    mean_loss: float | None
    recall: float | None
    predicted: int
    most_confused: ClassCount | None
    label_noise: NotRequired[float]
    inverse_label_noise: NotRequired[float]
    label_quality: NotRequired[float]
    label_issues: NotRequired[int]
    inverse_label_issues: NotRequired[int]
    often_truly: NotRequired[int | None]


class ConfusionCell(TypedDict):
    """The number of examples with this label and this prediction."""

    target: int
    prediction: int
    count: int


class Confusion(TypedDict):
    """Confusion matrix, `matrix[target][prediction]`, null above 200 classes.

    `largest` are the 100 largest cells off the diagonal at most, in descending order.
    """

    matrix: list[list[int]] | None
    largest: list[ConfusionCell]


class ClassPair(TypedDict):
    """Two classes that are mistaken for each other.

    `count` is the estimated number of examples with the label of one and the true class of the other, `probability`
    their share of all examples.
    """

    first: int
    second: int
    count: int
    probability: float


class Histogram(TypedDict):
    """Number of examples by loss: `counts[i]` lie in [`edges[i]`, `edges[i + 1]`), the last bin is closed."""

    edges: list[float]
    counts: list[int]


class Concentration(TypedDict):
    """Concentration of the loss in few examples; all members are null if the sum of losses is 0 or infinite.

    `gini` is the Gini coefficient in [0, 1]. `lorenz` has at most 101 pairs: share of the examples, smallest loss
    first, and their share of the loss. `top_1_percent` is the share of the loss in the hardest 1 % of the examples.
    """

    gini: float | None
    lorenz: list[list[float]] | None
    top_1_percent: float | None
    top_5_percent: float | None
    top_10_percent: float | None


class CalibrationBin(TypedDict):
    """Examples whose confidence lies in (`lower`, `upper`].

    `accuracy` is the share of examples whose prediction is their label, `confidence` their mean confidence; both are
    null in an empty bin.
    """

    lower: float
    upper: float
    count: int
    accuracy: float | None
    confidence: float | None


class Calibration(TypedDict):
    """Calibration of the model: the confidence, max p, of its predictions, argmax p, against their accuracy.

    - `bins`: bins of equal width over (0, 1], in ascending order;
    - `ece`: expected calibration error, the mean over examples of |accuracy - confidence| of their bin, in [0, 1];
    - `accuracy`: share of examples whose prediction is their label; the lowest class wins ties;
    - `confidence`: mean confidence;
    - `nll`: mean cross-entropy in nats;
    - `temperature`: the T > 0 that minimises the mean cross-entropy of logits / T. Null if there is no minimum: every
      label has the largest logit (T = 0 would be best), the logits are no better than chance (T = infinity would be),
      or differ by less than the search can resolve (1e-150);
    - `nll_scaled`: mean cross-entropy of logits / T, null without a temperature.

    All but `num_examples` and `bins` are null without examples.
    """

    num_examples: int
    bins: list[CalibrationBin]
    ece: float | None
    accuracy: float | None
    confidence: float | None
    nll: float | None
    temperature: float | None
    nll_scaled: float | None


class LabelErrors(TypedDict):
    """Number of wrong labels as estimated by confident learning.

    `estimated` (cleanlab's `off_diagonal_calibrated`) and its `share` of the examples; `off_diagonal` is the number of
    suspected examples, `health` 1 - their share; `thresholds` are the mean probability of the label by class, null for
    a class without examples.
    """

    estimated: int
    off_diagonal: int
    off_diagonal_calibrated: int
    share: float | None
    health: float | None
    thresholds: list[float | None]


class SuggestedAlpha(TypedDict):
    """Class weights that balance the classes, by both schemes of `alpha`."""

    inverse: list[float]
    effective: list[float]


class Diagnostics(TypedDict):
    """Diagnostics of one epoch of a run.

    `fields` of the query selects members; the first nine are always present. `alpha` and `gamma` are those of the
    losses. `num_duplicates` is the number of rows whose id another row of the epoch has. `class_pairs`, `calibration`
    and `label_errors` are null if the run stores no logits, `suggested_alpha` if a class has no examples.
    """

    run: str
    epoch: int
    epochs: list[int]
    num_examples: int
    num_ignored: int
    num_excluded: int
    num_classes: int | None
    alpha: list[float] | None
    gamma: float
    num_duplicates: NotRequired[int]
    loss: NotRequired[LossStatistics]
    classes: NotRequired[list[ClassStatistics]]
    confusion: NotRequired[Confusion]
    class_pairs: NotRequired[list[ClassPair] | None]
    histogram: NotRequired[Histogram]
    concentration: NotRequired[Concentration]
    concentration_at_gamma_0: NotRequired[Concentration]
    calibration: NotRequired[Calibration | None]
    label_errors: NotRequired[LabelErrors | None]
    suggested_alpha: NotRequired[SuggestedAlpha | None]
    warnings: NotRequired[list[DiagnosticsWarning]]
