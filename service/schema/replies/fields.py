"""Types of members that several replies have."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

Verdict = Literal["ok", "wrong", "unsure", "exclude"]
# The verdict of all reviewers of an example or unit together.
CurrentVerdict = Literal[Verdict, "conflict"]
Strategy = Literal[
    "top_loss",
    "logit_margin",
    "area_under_margin",
    "self_confidence",
    "normalized_margin",
    "adjusted_margin",
    "adjusted_self_confidence",
    "ambiguous",
    "semi_hard",
    "suspected_errors",
    "top_share",
    "random",
    "label_quality",
    "consensus_quality",
    "active_lab",
    "active_lab_calibrated",
]
# A request may also name a mix of them, or leave the choice to the service.
QueueStrategy = Strategy | Literal["mix", "recommended"]

Timestamp = Annotated[str, Field(description="Time in UTC, ISO 8601", json_schema_extra={"format": "date-time"})]
ClassIndex = Annotated[int, Field(description="Class, from 0", ge=0)]
Count = Annotated[int, Field(ge=0)]
Unit = Annotated[
    int | Annotated[list[Count], Field(min_length=2, max_length=2)] | None,
    Field(
        description="Part of a structured example: a label, a span [start, stop) of tokens, or the number of a region "
        "of a mask; null for the whole example"
    ),
]
Share = Annotated[float, Field(ge=0, le=1)]
# JSON has no infinity: a loss that overflows float64 is null on the wire.
LossValue = Annotated[float | None, Field(description="null without examples, and if it overflows float64")]


class Estimate(TypedDict):
    """A value with its 95 % interval; null where it cannot be computed."""

    value: float | None
    low: Annotated[float | None, Field(description="Lower end of the interval")]
    high: Annotated[float | None, Field(description="Upper end of the interval")]


# The class syntax cannot declare a member whose name is a keyword.
ClassMember = TypedDict("ClassMember", {"class": ClassIndex})
