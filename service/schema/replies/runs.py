"""Replies of `/runs` and `/runs/{run}`."""

from __future__ import annotations

from typing import Annotated, Literal, final

from pydantic import Field
from typing_extensions import TypedDict

from service.schema.json_values import JsonObject
from service.schema.replies.config import Config
from service.schema.replies.fields import Count, Timestamp
from service.schema.replies.reviews import Progress
from service.schema.structure import Task, WithinName


class Epoch(TypedDict):
    """Counts of one epoch of a run."""

    epoch: Annotated[int, Field(ge=0)]
    num_batches: Count
    num_examples: Annotated[Count, Field(description="Stored rows")]
    num_ignored: Annotated[Count, Field(description="Rows left out because their target is ignore_index")]
    num_excluded: Annotated[Count, Field(description='Invalid rows left out by on_invalid: "exclude"')]


class CreatedRun(TypedDict):
    """A run without its reviews: the reply to `PUT /runs/{run}`."""

    run: Annotated[str, Field(description="Name of the run")]
    created_at: Timestamp
    config: Config
    config_id: str
    class_names: list[str] | None
    num_classes: Annotated[
        int | None, Field(ge=1, description="null until the first batch, unless the config defines it")
    ]
    display: Annotated[JsonObject, Field(description="Display settings from the creation of the run, for the page")]
    store_logits: bool
    task: Annotated[Task, Field(description="Kind of the labels")]
    within: Annotated[
        WithinName | dict[Literal["top_share"], float],
        Field(description="How the loss of an example is made of those of its elements"),
    ]
    epochs: Annotated[list[Epoch], Field(description="Ascending")]
    num_examples: Annotated[Count, Field(description="Stored rows of the last epoch")]
    num_rows: Annotated[Count, Field(description="Stored rows of all epochs")]


@final
class Run(CreatedRun):
    """A run with the progress of its reviews."""

    reviews: Progress


@final
class DamagedRun(TypedDict):
    """A run with a damaged file; it can be deleted, and `focal-loss verify` may repair it."""

    run: Annotated[str, Field(description="Name of the run")]
    error: Annotated[str, Field(description='File and fault, such as "run.json cannot be read: ..."')]


class RunList(TypedDict):
    """All runs of the service, by name; a damaged one has only its name and the error."""

    runs: list[Run | DamagedRun]
