"""The request for a queue."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.errors import InvalidRequestError
from service.queries.filters import MAX_ATTRIBUTES, Filter
from service.queries.view import SCORE_NAMES
from service.runs.names import NAME
from service.runs.review_history import MAX_REVIEWERS
from service.runs.run_classes import RunClasses
from service.runs.snapshot import Snapshot
from service.schema.faults import fault, validation_fault
from service.schema.replies.fields import QueueStrategy, Strategy

MAX_BUDGET = 100_000
# The time of a query grows with the runs over which ranks are averaged.
MAX_RUNS = 16
OVER_EPOCHS = ("confidence", "variability")
# Largest share of gold rows in a queue.
MAX_GOLD = 0.5
# The time of a query grows with the length of a name and with the rows.
MAX_ATTRIBUTE_NAME = 1000
OtherRun = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
AttributeName = Annotated[str, Field(max_length=MAX_ATTRIBUTE_NAME)]
# The strategies that rank by the consensus of annotators.
OF_CONSENSUS: frozenset[str] = frozenset({"consensus_quality", "active_lab", "active_lab_calibrated"})
Bound = Annotated[float, Field(allow_inf_nan=False)] | None


class AtMost(BaseModel):
    """Cap on the rows of a queue with the same value of an attribute, such as an annotator or a group of duplicates.

    Without an attribute it is a cap on the units of an example.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    attribute: AttributeName | None = None
    count: Annotated[int, Field(ge=1)]


class Only(BaseModel):
    """Conditions on the rows of a queue, examples or units; all of them must hold.

    Args:
        target: Required target class, by number or name; of a label of a `multi_label` run 0 or 1.
        prediction: Required predicted class, likewise.
        correct: True for rows whose prediction is the target, False for the others.
        ids: Ids of the examples; null for all.
        attributes: Required text by attribute, compared with the attributes that were sent last for the example.
        ranges: Smallest and largest value of a score in the epoch, or of `confidence` or `variability` over the epochs;
            null for no bound.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    target: Annotated[int, Field(ge=0, lt=2**31)] | str | None = None
    prediction: Annotated[int, Field(ge=0, lt=2**31)] | str | None = None
    correct: bool | None = None
    ids: Annotated[list[str], Field(min_length=1, max_length=MAX_BUDGET)] | None = None
    attributes: Annotated[dict[AttributeName, str], Field(max_length=MAX_ATTRIBUTES)] = {}
    # Not strict: JSON has lists, no tuples.
    ranges: Annotated[
        dict[str, Annotated[tuple[Bound, Bound], Field(strict=False)]],
        Field(max_length=len(SCORE_NAMES) + len(OVER_EPOCHS)),
    ] = {}

    @model_validator(mode="after")
    def _known(self) -> Only:
        for name in self.ranges:
            if name not in (*SCORE_NAMES, *OVER_EPOCHS):
                raise ValueError(f"no range of {name[:100]!r}; known are {', '.join((*SCORE_NAMES, *OVER_EPOCHS))}")
        return self

    @property
    def filter(self) -> Filter:
        """The conditions on the rows of an epoch; `QueueRequest.by_number` has replaced the names of classes."""
        classes = {"target": self.target, "prediction": self.prediction}
        bounds = {name: pair for name, pair in self.ranges.items() if name in SCORE_NAMES}
        return Filter(
            classes={name: [label] for name, label in classes.items() if isinstance(label, int)},
            at_least={name: least for name, (least, _) in bounds.items() if least is not None},
            at_most={name: largest for name, (_, largest) in bounds.items() if largest is not None},
            correct=self.correct,
            attributes=self.attributes,
            ids=self.ids,
        )

    @property
    def over_epochs(self) -> dict[str, tuple[float | None, float | None]]:
        """The ranges of statistics over the epochs."""
        return {name: pair for name, pair in self.ranges.items() if name in OVER_EPOCHS}


class QueueRequest(BaseModel):
    """The body of `POST /runs/{run}/queues`.

    Args:
        name: Name of the queue; default: the strategy and a number. Repeating the request with the same name changes
            nothing.
        strategy: The ranking, `mix`, or `recommended`, which chooses one or a mix by the epochs and the verdicts of the
            run.
        mix: Share of each strategy in a mix.
        runs: Names of further runs of the same examples, such as other models: the rows of this run are ranked by the
            mean of their ranks in all of them.
        budget: Maximum number of rows.
        per_class: `equal`, `proportional` (to the counts of the classes), or a number of rows for each class, by its
            number or name. The classes of a `multi_label` run are its labels.
        min_per_class: Minimum number of rows of each class, as far as it has them.
        at_most: Cap on rows with the same value of an attribute, or without `attribute` on the units of an example.
        only: Conditions on the rows.
        units: In a run of structured examples: true for rows that are wrong labels, spans or regions, false for whole
            examples; default: units for `top_loss`, `self_confidence` and `suspected_errors`, which alone can have
            them. Rows of `random` are always whole examples.
        exclude_reviewed: True to leave out rows with a verdict; default: true, but false for `random`, since a
            control sample must be drawn from all examples, and with `reviewers`.
        seed: Seed of `random`.
        epoch: Epoch of the scores; default: the last one.
        first: For `area_under_margin`: number of the first epochs to use.
        margin: For `semi_hard`: largest logit margin.
        share: For `top_share`: share of the loss.
        reviewers: For `consensus_quality`, `active_lab` and `active_lab_calibrated`: true to count the reviewers of the
            run as annotators.
        overlap: Number of reviewers of each row.
        blind: True to hide the verdicts on a row from a reviewer who has not judged it.
        without_suggestion: Share of the rows that are shown without the class that the model suggests.
        gold: Share of the rows that are gold rows: examples with an adjudicated verdict, which are reviewed again to
            measure the reviewers. Replies do not tell which these are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str | None = None
    strategy: QueueStrategy = "recommended"
    mix: (
        Annotated[
            dict[Strategy, Annotated[float, Field(gt=0, allow_inf_nan=False)]],
            Field(max_length=len(get_args(Strategy))),
        ]
        | None
    ) = None
    runs: Annotated[list[OtherRun], Field(min_length=1, max_length=MAX_RUNS)] | None = None
    budget: Annotated[int, Field(ge=1, le=MAX_BUDGET)] = 50
    per_class: (
        Literal["equal", "proportional"]
        | Annotated[dict[str, Annotated[int, Field(ge=0)]], Field(max_length=MAX_BUDGET)]
        | None
    ) = None
    min_per_class: Annotated[int, Field(ge=0)] = 0
    at_most: AtMost | None = None
    only: Only | None = None
    units: bool | None = None
    exclude_reviewed: bool | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    epoch: Annotated[int, Field(ge=0)] | None = None
    first: Annotated[int, Field(ge=1)] | None = None
    margin: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    reviewers: bool = False
    overlap: Annotated[int, Field(ge=1, le=MAX_REVIEWERS)] = 1
    blind: bool = False
    without_suggestion: Annotated[float, Field(ge=0, le=1)] = 0
    gold: Annotated[float, Field(ge=0, le=MAX_GOLD)] = 0

    @model_validator(mode="after")
    def _fits(self) -> QueueRequest:
        if self.runs is not None and len(set(self.runs)) < len(self.runs):
            raise ValueError("runs has a name twice")
        if (self.strategy == "mix") != bool(self.mix):
            raise ValueError(
                "mix, the share of each strategy, is required with the strategy mix and allowed with no other"
            )
        if self.reviewers and OF_CONSENSUS.isdisjoint(self.mix or {self.strategy}):
            raise ValueError(f"reviewers is for the strategies {', '.join(sorted(OF_CONSENSUS))}")
        if self.reviewers and self.blind:
            raise ValueError(
                "a queue by the verdicts of reviewers cannot be blind, as its suggestions follow from them"
            )
        if isinstance(self.per_class, dict):
            if sum(self.per_class.values()) > self.budget:
                raise ValueError(f"per_class asks for {sum(self.per_class.values())} rows, the budget is {self.budget}")
            if self.min_per_class:
                raise ValueError("min_per_class cannot be combined with a number of rows for each class in per_class")
        return self

    def by_number(self, snapshot: Snapshot) -> QueueRequest:
        """The request with the numbers of the classes of a run in place of their names.

        Raises:
            InvalidRequestError: The run has no class of a name, or `per_class` has a class twice.
        """
        changed: dict[str, object] = {}
        if self.only is not None:
            numbers = {
                name: _class_number(RunClasses(snapshot), label, "only", name)
                for name in ("target", "prediction")
                if (label := getattr(self.only, name)) is not None
            }
            changed["only"] = self.only.model_copy(update=numbers)
        if isinstance(self.per_class, dict):
            quotas, labels = dict[str, int](), RunClasses(snapshot, labels=True)
            for label, rows in self.per_class.items():
                number = str(_class_number(labels, label, "per_class", label))
                if number in quotas:
                    raise fault(InvalidRequestError, f"per_class has class {number} twice", "per_class", label)
                quotas[number] = rows
            changed["per_class"] = quotas
        return self.model_copy(update=changed)

    @property
    def parts(self) -> dict[Strategy, float]:
        """Share of each strategy; `recommended` must have been replaced by its choice."""
        assert self.strategy != "recommended", "recommended is no ranking"
        if self.strategy == "mix":
            return dict(self.mix or {})
        return {self.strategy: 1.0}

    @property
    def leaves_out_reviewed(self) -> bool:
        """`exclude_reviewed` with its default."""
        default = self.strategy != "random" and not self.reviewers
        return default if self.exclude_reviewed is None else self.exclude_reviewed

    @property
    def has_row_rules(self) -> bool:
        """True if the request has quotas, conditions or a cap on whole examples in addition to the strategy."""
        has_cap = self.at_most is not None and self.at_most.attribute is not None
        return bool(self.per_class or self.min_per_class or has_cap or self.only)

    @classmethod
    def parse(cls, value: object) -> QueueRequest:
        """Validate a decoded JSON object.

        Raises:
            InvalidRequestError: A field is unknown, has the wrong type or is out of range; the error names each.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as err:
            raise validation_fault(InvalidRequestError, err) from err


class QueueRename(BaseModel):
    """The body of `PATCH /runs/{run}/queues/{queue}`.

    Args:
        name: New name of the queue.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str

    @classmethod
    def parse(cls, value: object) -> QueueRename:
        """Validate a decoded JSON object.

        Raises:
            InvalidRequestError: A field is unknown, missing or has the wrong type.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as err:
            raise validation_fault(InvalidRequestError, err) from err


def _class_number(classes: RunClasses, label: int | str, *place: str) -> int:
    try:
        return classes.find(label)
    except ValueError as err:
        raise fault(InvalidRequestError, str(err), *place, detail=f"{'.'.join(place)[:200]}: {err}") from err
