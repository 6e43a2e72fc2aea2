"""What a queue is asked for with."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.errors import InvalidRequestError
from service.runs.examples import RANGES, Filter
from service.schema.faults import validation_fault

Strategy = Literal[
    "top_loss",
    "logit_margin",
    "area_under_margin",
    "self_confidence",
    "normalized_margin",
    "ambiguous",
    "semi_hard",
    "suspected_errors",
    "top_share",
    "random",
]
MAX_BUDGET = 100_000
OVER_EPOCHS = ("confidence", "variability")
Bound = Annotated[float, Field(allow_inf_nan=False)] | None
CLASS_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


class AtMost(BaseModel):
    """No more than `count` rows of a queue have one value of an attribute: near duplicates, one annotator."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    attribute: str
    count: Annotated[int, Field(ge=1)]


class Only(BaseModel):
    """Which examples a queue may take; all that is given has to hold.

    Args:
        target: The given class.
        prediction: The predicted class.
        correct: Whether they are the same.
        ids: Only these.
        attributes: The text that an attribute must have, as last sent.
        ranges: The least and the largest value of a score of the epoch, or of `confidence` or `variability` over the
            epochs; null for no bound.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    target: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    prediction: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    correct: bool | None = None
    ids: Annotated[list[str], Field(min_length=1, max_length=MAX_BUDGET)] | None = None
    attributes: dict[str, str] = {}
    # JSON has lists for them.
    ranges: dict[str, Annotated[tuple[Bound, Bound], Field(strict=False)]] = {}

    @model_validator(mode="after")
    def _known(self) -> Only:
        for name in self.ranges:
            if name not in (*RANGES, *OVER_EPOCHS):
                raise ValueError(f"no range of {name[:100]!r}; known are {', '.join((*RANGES, *OVER_EPOCHS))}")
        return self

    @property
    def filter(self) -> Filter:
        """What it says of the rows of an epoch."""
        equal = {"target": self.target, "prediction": self.prediction}
        bounds = {name: pair for name, pair in self.ranges.items() if name in RANGES}
        return Filter(
            equal={name: value for name, value in equal.items() if value is not None},
            at_least={name: least for name, (least, _) in bounds.items() if least is not None},
            at_most={name: largest for name, (_, largest) in bounds.items() if largest is not None},
            correct=self.correct,
            attributes=self.attributes,
            ids=self.ids,
        )

    @property
    def over_epochs(self) -> dict[str, tuple[float | None, float | None]]:
        """The ranges of what is known over the epochs alone."""
        return {name: pair for name, pair in self.ranges.items() if name in OVER_EPOCHS}


class QueueRequest(BaseModel):
    """The body of `POST /runs/{run}/queues`.

    Args:
        name: Of the queue; default: the strategy and a number. With a name the same request again changes nothing.
        strategy: How to rank, or `mix`.
        mix: The share of each strategy in a mix.
        budget: How many rows at most.
        per_class: `equal`, `proportional` (to the classes' counts), or how many of each class.
        min_per_class: At least so many of each class that has them.
        at_most: See `AtMost`.
        only: See `Only`.
        exclude_reviewed: Leave out what has a verdict; default true, for `random` alone false, since a control slice
            speaks for all examples.
        seed: Of `random`.
        epoch: Of the scores; default: the last one.
        first: For `area_under_margin`: only the first epochs.
        margin: For `semi_hard`: the largest logit margin that counts as semi-hard.
        share: For `top_share`: of the loss.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str | None = None
    strategy: Strategy | Literal["mix"]
    mix: dict[Strategy, Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None = None
    budget: Annotated[int, Field(ge=1, le=MAX_BUDGET)] = 50
    per_class: Literal["equal", "proportional"] | dict[str, Annotated[int, Field(ge=0)]] | None = None
    min_per_class: Annotated[int, Field(ge=0)] = 0
    at_most: AtMost | None = None
    only: Only | None = None
    exclude_reviewed: bool | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    epoch: Annotated[int, Field(ge=0)] | None = None
    first: Annotated[int, Field(ge=1)] | None = None
    margin: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    share: Annotated[float, Field(gt=0, le=1)] = 0.5

    @model_validator(mode="after")
    def _fits(self) -> QueueRequest:
        if (self.strategy == "mix") != bool(self.mix):
            raise ValueError("mix names the share of each strategy, and goes with the strategy mix alone")
        if isinstance(self.per_class, dict):
            if not all(CLASS_INDEX.fullmatch(label) for label in self.per_class):
                raise ValueError("per_class maps class indices to numbers of rows")
            if sum(self.per_class.values()) > self.budget:
                raise ValueError(f"per_class asks for {sum(self.per_class.values())} rows, the budget is {self.budget}")
            if self.min_per_class:
                raise ValueError("min_per_class does not go with numbers for each class")
        return self

    @property
    def parts(self) -> dict[Strategy, float]:
        """Each strategy and its share."""
        if self.strategy == "mix":
            return dict(self.mix or {})
        return {self.strategy: 1.0}

    @property
    def leaves_out_reviewed(self) -> bool:
        return self.strategy != "random" if self.exclude_reviewed is None else self.exclude_reviewed

    @property
    def prefers_some(self) -> bool:
        """Whether a rule beside the strategy decides over its rows."""
        return bool(self.per_class or self.min_per_class or self.at_most or self.only)

    @classmethod
    def parse(cls, value: Any) -> QueueRequest:
        """The request that a decoded JSON object says.

        Raises:
            InvalidRequestError: Unknown field, wrong type or value out of range; names each.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as err:
            raise validation_fault(InvalidRequestError, err) from err
