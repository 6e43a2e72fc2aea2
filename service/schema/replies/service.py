"""Replies of `/loss` in JSON, `/configs`, `/healthz` and `/readyz`.

JSON has no NaN and no infinity: a number that is not finite is null.
"""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypeAlias

from pydantic import Field, JsonValue
from typing_extensions import TypedDict

from service.schema.replies.config import Config
from service.schema.result import WarningCode

Number: TypeAlias = float | None


class Region(TypedDict):
    """Connected elements of an example whose prediction differs from their target."""

    region: Annotated[int, Field(description="Number among all regions of the example", ge=0)]
    given: Annotated[int, Field(description="Target of the pair (target, prediction) with the largest sum of losses")]
    suggested: Annotated[int, Field(description="Prediction of that pair")]
    num_elements: int
    box: Annotated[
        list[list[int]],
        Field(
            description="The smallest index along each axis of the example's targets, and the largest plus 1",
            min_length=2,
            max_length=2,
        ),
    ]
    loss_sum: Annotated[Number, Field(description="Sum of the losses of its elements")]
    p_t: Annotated[Number, Field(description="Mean of the p_t of its elements")]


# Sigmoid mode with L labels: an example's prediction is a list of L labels. `regions` is a list for each example.
ExampleOutput: TypeAlias = float | list[int | None] | list[Region] | None


class ConfigReply(TypedDict):
    """A stored configuration.

    `alpha` is the weight of each class (sigmoid: of each label), null if all weights are 1. `uses` counts the requests
    to the process that replies. Times are ISO 8601 in UTC.
    """

    config_id: str
    config: Config
    alpha: list[float] | None
    device: str
    uses: int
    created_at: str
    last_used_at: str


class ConfigList(TypedDict):
    """All stored configurations, the most recently used first; `max_configs` is their maximum number."""

    configs: list[ConfigReply]
    max_configs: int


class BatchLoss(TypedDict):
    """The loss of one batch.

    `loss` is reduced, null for the reduction `none` and for a mean over no example. `num_elements` counts the elements
    that are neither ignored nor excluded, `alpha_sum` is the sum of their alpha_t. `per_example` has a list for each
    requested output, `per_element` one for each output of `elements`, nested like the targets of the request.
    """

    loss: Number
    loss_sum: Number
    alpha_sum: Number
    num_examples: int
    num_ignored: int
    num_excluded: int
    num_elements: int
    per_example: dict[str, list[ExampleOutput]]
    per_element: NotRequired[dict[str, list[JsonValue]]]


class HardestExample(TypedDict):
    """One of the examples with the largest loss; `id` is absent if the request has no ids."""

    batch: int
    index: int
    id: NotRequired[str | int]
    loss: Number
    contribution: Number


class ExcludedExample(TypedDict):
    """An invalid row that `on_invalid: "exclude"` left out; `id` is absent if the request has no ids."""

    batch: int
    index: int
    id: NotRequired[str | int]
    code: str
    msg: str


class ReplyWarning(TypedDict):
    """A sign that the input is not what it should be; the losses are computed as if it were."""

    batch: Annotated[int, Field(description="Number of the first batch that has the sign")]
    code: WarningCode
    message: Annotated[str, Field(description="Explanation in sentences")]


class LossReply(TypedDict):
    """The losses of all batches of a request; `loss` is reduced over all of their examples."""

    config_id: str
    device: str
    loss: Number
    num_examples: int
    num_ignored: int
    num_excluded: int
    num_elements: int
    batches: list[BatchLoss]
    hardest: list[HardestExample]
    excluded: list[ExcludedExample]
    warnings: NotRequired[list[ReplyWarning]]


class Alive(TypedDict):
    """The reply of `GET /healthz`."""

    alive: Literal[True]
    version: str


class Ready(TypedDict):
    """The reply of `GET /readyz` if the device works and the store is writable."""

    ready: Literal[True]
    device: str
