"""Types of members that several replies have."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

Verdict = Literal["ok", "wrong", "unsure"]
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

Timestamp = Annotated[str, Field(description="Time in UTC, ISO 8601", json_schema_extra={"format": "date-time"})]
ClassIndex = Annotated[int, Field(description="Class, from 0", ge=0)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
