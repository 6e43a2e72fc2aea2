"""What every export is made of: the row, what holds for all rows, and the names that a labelling tool sees."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

from service.errors import InvalidRequestError

Verdict = Literal["ok", "wrong", "unsure"]


@dataclass(frozen=True, slots=True)
class ExportRow:
    """One example, where it stands in the order of review, and why.

    Args:
        rank: From 1, the example to look at first.
        id: Unique in the run.
        target: The given class.
        prediction: The class with the largest logit.
        suggested: The class that the model would give instead of `target`; None where it has no other.
        given_label: Name of `target`.
        suggested_label: Name of `suggested`.
        suggested_p: Probability of `suggested`, in [0, 1].
        loss: Focal loss, not reduced.
        share: Of the whole run's loss, in [0, 1].
        cross_entropy: -ln p_t.
        p_t: Probability of `target`.
        log_odds: ln(p_t / (1 - p_t)).
        logit_margin: Logit of `target` less the largest other one.
        normalized_margin: (p_t - largest other probability + 1) / 2.
        entropy: Of the probabilities, in nats.
        el2n: Distance of the probabilities from the one-hot target.
        strategy: What the order follows.
        score: The strategy's number.
        reason: One line for people.
        attributes: What the user keeps with the example, of JSON values.
        verdict: Of the last review, None before the first.
        verdict_label: The class that the reviewer gave.
    """

    rank: int
    id: str
    target: int
    prediction: int
    suggested: int | None
    given_label: str
    suggested_label: str | None
    suggested_p: float | None
    loss: float
    share: float
    cross_entropy: float
    p_t: float
    log_odds: float
    logit_margin: float
    normalized_margin: float
    entropy: float
    el2n: float
    strategy: str
    score: float
    reason: str
    attributes: dict[str, Any]
    verdict: Verdict | None
    verdict_label: str | None


# The flat columns under the names that a labelling tool gets; there, `id` and `score` are the tool's own words.
TOOL_NAMES: Mapping[str, str] = {
    "id": "external_id",
    "given_label": "given_label",
    "suggested_label": "suggested_label",
    "suggested_p": "suggested_p",
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
}
_tool_values = attrgetter(*TOOL_NAMES)


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What holds for all rows of an export.

    Args:
        run: Name of the run.
        queue: Name of the queue, None for the whole run.
        config_id: Of the loss.
        epoch: Of the scores.
        total: Number of rows, the largest rank.
        class_names: In the order of the classes; None where only their numbers are known.
        from_name: Label Studio's control, Argilla's question.
        to_name: Label Studio's object, Argilla's field.
        data_key: The attribute that `to_name` shows; None: the one called `to_name`.
        object_tag: Label Studio's tag for `to_name`: Text, Image, Audio, HyperText.
        image_key: The attribute with the path or URL of an image, for FiftyOne.
        image_root: What such a path begins with and FiftyOne's data folder does not have.

    Raises:
        InvalidRequestError: The data would stand under a name that the export itself writes.
    """

    run: str
    queue: str | None
    config_id: str
    epoch: int
    total: int
    class_names: tuple[str, ...] | None = None
    from_name: str = "label"
    to_name: str = "text"
    data_key: str | None = None
    object_tag: str = "Text"
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
        """The attribute that `to_name` shows."""
        return self.data_key if self.data_key is not None else self.to_name

    @property
    def model_version(self) -> str:
        """One name for all predictions of a run: 1-200 characters of `[a-zA-Z0-9-_:./ ]`, as Argilla demands."""
        return re.sub(r"[^a-zA-Z0-9\-_:./ ]", "-", f"focal-{self.run}")[:200]


def tool_fields(row: ExportRow) -> dict[str, Any]:
    """The row under `TOOL_NAMES`."""
    return dict(zip(TOOL_NAMES.values(), _tool_values(row), strict=True))


def probability(row: ExportRow) -> float | None:
    """Probability of the suggestion where there is one and it is a number in [0, 1]."""
    p = row.suggested_p
    return p if row.suggested_label is not None and p is not None and 0 <= p <= 1 else None


def shown_data(row: ExportRow, options: ExportOptions) -> Any:
    """What the reviewer looks at; the id where the attributes do not hold it, so that the task can be shown."""
    data = row.attributes.get(options.shown_key)
    return row.id if data is None else data


def beside(attributes: Mapping[str, Any], taken: Collection[str]) -> dict[str, Any]:
    """The attributes, those whose name is taken under `attribute_<name>`: none is lost and none hides a score."""
    if attributes.keys().isdisjoint(taken):
        return dict(attributes)
    used = {*taken, *attributes}
    free: dict[str, Any] = {}
    for name, value in attributes.items():
        chosen = name
        while chosen in taken or (chosen != name and chosen in used):
            chosen = f"attribute_{chosen}"
        used.add(chosen)
        free[chosen] = value
    return free
