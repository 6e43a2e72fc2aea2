"""Query parameters of the routes about the quality of labels and reviews; see `service.api.queries`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from service.api.http.query_types import Digits, Epoch, QueryModel
from service.mining.next_rows import MAX_NEXT_ROWS
from service.runs.names import NAME

MAX_CONFLICTS = 1000


class RemainingQuery(QueryModel):
    """Random rows and next rows of an estimate of the wrong labels that are left."""

    epoch: Epoch = Field(None, description="Epoch of the examples: `last` (default), or a number")
    queue: str | None = Field(
        None,
        description="Queue of the prediction; default: the newest one with open rows",
        json_schema_extra={"pattern": f"^{NAME.pattern}$"},
    )
    rows: Annotated[int, Digits(1, MAX_NEXT_ROWS)] | None = Field(
        None, description="Number of next rows to predict; default: 10, 100, 1000 and all open rows"
    )
    control: str | None = Field(
        None,
        description="Name of the only queue whose random rows count; default: all queues",
        json_schema_extra={"pattern": f"^{NAME.pattern}$"},
    )


class AgreementQuery(QueryModel):
    """Page of the conflicts between reviewers."""

    limit: Annotated[int, Digits(0, MAX_CONFLICTS)] = Field(50, description="Maximum number of conflicts")
    offset: Annotated[int, Digits()] = Field(0, description="Number of conflicts before the page")
