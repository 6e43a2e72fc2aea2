"""Rows and options of an export, and the names that labelling tools see."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal

from service.errors import InvalidRequestError
from service.exports.elements import RowElements, RowUnit
from service.schema.json_values import JsonObject, JsonValue
from service.schema.replies.exports import MaskTag
from service.schema.replies.fields import CurrentVerdict
from service.schema.structure import LABEL_CLASSES, Task


@dataclass(frozen=True, slots=True)
class ExportRow:
    """One example, or one unit of a structured example, with its position in the order of review.

    A score that is infinite, as with masked classes, is None in the rows of a queue, whose file is JSON. A whole
    structured example has no classes, and a unit no scores that are not sums or means over its elements: None.

    Args:
        rank: Position from 1, the example to review first.
        id: Unique in the run.
        target: The given class.
        prediction: The class with the largest logit.
        suggested: The class that the model suggests in place of `target`; None if it suggests no other class.
        given_label: Name of `target`.
        suggested_label: Name of `suggested`.
        suggested_p: Probability of `suggested`, in [0, 1].
        loss: Unreduced focal loss.
        share: Share of the loss of the epoch, in [0, 1].
        cross_entropy: -ln p_t.
        p_t: Probability of `target`.
        log_odds: ln(p_t / (1 - p_t)).
        logit_margin: Logit of `target` minus the largest other logit.
        normalized_margin: (p_t - largest other probability + 1) / 2.
        entropy: Entropy of the probabilities, in nats.
        el2n: L2 norm of the probabilities minus the one-hot target.
        strategy: Strategy of the order.
        score: Score of the strategy.
        reason: Reason for the rank, one sentence for the reviewer.
        attributes: Attributes that the user sent with the example.
        verdict: Current verdict, None before the first review.
        verdict_label: Name of the right class, if it is known.
        comment: The last comment on the verdict.
        review: Id of the last review that the verdict follows from; None without a verdict.
        unit: The unit as in reviews: a label, a span [start, stop], the number of a region; None for a whole example.
        unit_name: Name of the label of a unit of the task `multi_label`; None for other units.
        num_elements: Number of wrong elements of a unit.
        box: First index of a unit along each axis, and the last one plus 1.
        elements: The elements of a structured example, for labelling tools; None if they were not read.
        suggestion: If the reviewer is to see the suggestion; None if the queue shows all.
    """

    rank: int
    id: str
    target: int | None
    prediction: int | None
    suggested: int | None
    given_label: str | None
    suggested_label: str | None
    suggested_p: float | None
    loss: float
    share: float
    cross_entropy: float
    p_t: float
    log_odds: float | None
    logit_margin: float | None
    normalized_margin: float | None
    entropy: float | None
    el2n: float | None
    strategy: str
    score: float | None
    reason: str
    attributes: JsonObject
    verdict: CurrentVerdict | None
    verdict_label: str | None
    comment: str | None
    review: str | None
    unit: int | list[int] | None = None
    unit_name: str | None = None
    num_elements: int | None = None
    box: list[list[int]] | None = None
    elements: RowElements | None = None
    suggestion: Literal["shown", "hidden"] | None = None


# Names of the columns in labelling tools, which use the names `id` and `score` themselves; attributes are often called
# `comment` or `review`.
TOOL_NAMES: Mapping[str, str] = {
    "id": "external_id",
    "given_label": "given_label",
    "suggested_label": "suggested_label",
    "suggested_p": "suggested_p",
    "suggestion": "suggestion",
    "rank": "rank",
    "reason": "reason",
    "loss": "focal_loss",
    "share": "share",
    "cross_entropy": "cross_entropy",
    "p_t": "p_t",
    "log_odds": "log_odds",
    "logit_margin": "logit_margin",
    "normalized_margin": "normalized_margin",
    "entropy": "entropy",
    "el2n": "el2n",
    "strategy": "strategy",
    "score": "strategy_score",
    "verdict": "verdict",
    "verdict_label": "verdict_label",
    "comment": "verdict_comment",
    "review": "last_review",
}
_tool_values = attrgetter(*TOOL_NAMES)


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Options of an export, the same for all rows.

    Args:
        run: Name of the run.
        queue: Name of the queue, None for the whole epoch.
        config_id: Id of the loss configuration.
        epoch: Epoch of the scores.
        total: Number of rows, the largest rank.
        task: Task of the run.
        class_names: Names of the classes, of the task `multi_label` of the labels; None if unknown.
        from_name: Name of Label Studio's control or Argilla's question.
        to_name: Name of Label Studio's object or Argilla's field.
        data_key: Attribute that `to_name` shows; None: the attribute named `to_name`.
        object_tag: Label Studio's tag for `to_name`: Text, Image, Audio, HyperText.
        mask_tag: Label Studio's tag for the regions of masks.
        image_key: Attribute with the path or URL of an image, for FiftyOne.
        image_root: Prefix of image paths outside FiftyOne's data folder, which the export removes.

    Raises:
        InvalidRequestError: The shown attribute has a name that the export writes itself.
    """

    run: str
    queue: str | None
    config_id: str
    epoch: int
    total: int
    task: Task = "classification"
    class_names: tuple[str, ...] | None = None
    from_name: str = "label"
    to_name: str = "text"
    data_key: str | None = None
    object_tag: str = "Text"
    mask_tag: MaskTag = "BrushLabels"
    image_key: str = "image"
    image_root: str = ""

    def __post_init__(self) -> None:
        if self.shown_key in TOOL_NAMES.values():
            raise InvalidRequestError(
                f"data_key {self.shown_key!r} is a name that the export itself writes; store the data under another "
                f"name than {', '.join(TOOL_NAMES.values())}"
            )

    @property
    def shown_key(self) -> str:
        """The attribute that `to_name` shows; of the task `tokens` it is made of the tokens, and has its name."""
        return self.to_name if self.data_key is None or self.task == "tokens" else self.data_key

    def name_of(self, label: int) -> str:
        """The name of a class; of the task `multi_label` of a label, whose classes have names of their own."""
        return str(label) if self.class_names is None else self.class_names[label]

    def class_name(self, label: int) -> str:
        """The name of a class that an element may have."""
        return LABEL_CLASSES[label] if self.task == "multi_label" else self.name_of(label)

    @property
    def model_version(self) -> str:
        """Model name of the predictions of an epoch: 1-200 characters of `[a-zA-Z0-9-_:./ ]`, as Argilla requires.

        Label Studio asks for no further predictions of a version, so each epoch has its own.
        """
        return f"{re.sub(r'[^a-zA-Z0-9_:./ -]', '-', f'focal-{self.run}')[:180]}/{self.epoch}"


def tool_fields(row: ExportRow, options: ExportOptions | None = None) -> JsonObject:
    """The columns of a row under their `TOOL_NAMES`; with options also the units of a structured example as `units`."""
    fields: JsonObject = dict(zip(TOOL_NAMES.values(), _tool_values(row), strict=True))
    if options is not None and row.elements is not None:
        hidden: JsonObject = {"suggested_label": None, "suggested_p": None} if row.suggestion == "hidden" else {}
        fields["units"] = [_unit_fields(unit, options) | hidden for unit in row.elements.units]
    return fields


def _unit_fields(unit: RowUnit, options: ExportOptions) -> JsonObject:
    name: JsonValue = list(unit.name) if isinstance(unit.name, list) else unit.name
    fields: JsonObject = {"unit": name}
    if options.task == "multi_label" and isinstance(unit.name, int):
        fields["unit_name"] = options.name_of(unit.name)
    return fields | {
        "given_label": options.class_name(unit.given),
        "suggested_label": options.class_name(unit.suggested),
        "suggested_p": unit.suggested_p,
        "num_elements": len(unit.places),
        **{TOOL_NAMES[name]: value for name, value in unit.verdict._asdict().items()},
    }


def probability(row: ExportRow) -> float | None:
    """Probability of the suggestion; None without a suggestion, or if it is not a number in [0, 1]."""
    return None if row.suggested_label is None else known_probability(row.suggested_p)


def known_probability(p: float | None) -> float | None:
    """A number in [0, 1]; None for any other."""
    return p if p is not None and 0 <= p <= 1 else None


def shown_data(row: ExportRow, options: ExportOptions) -> JsonValue:
    """The data that the tool shows to the reviewer; the id if the row lacks the attribute."""
    data = row.attributes.get(options.shown_key)
    return row.id if data is None else data


def rename_reserved(attributes: Mapping[str, JsonValue], reserved: Collection[str]) -> JsonObject:
    """Rename attributes with reserved names to `attribute_<name>`, so that no attribute is lost or hides a score."""
    if attributes.keys().isdisjoint(reserved):
        return dict(attributes)
    used = {*reserved, *attributes}
    renamed: JsonObject = {}
    for name, value in attributes.items():
        free = name
        while free in reserved or (free != name and free in used):
            free = f"attribute_{free}"
        used.add(free)
        renamed[free] = value
    return renamed
