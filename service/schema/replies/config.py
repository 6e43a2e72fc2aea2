"""The configuration of a loss in replies."""

from __future__ import annotations

from typing import Annotated, Literal, cast

from pydantic import Field
from typing_extensions import TypedDict

from service.schema.config import LossConfig, Mode, Reduction
from service.schema.replies.fields import Share


class ClassCountsAlpha(TypedDict):
    """Class weights as a function of the number of examples of each class."""

    class_counts: list[int]
    scheme: Literal["inverse", "effective"]
    beta: Share


class Config(TypedDict):
    """A configuration with every member, defaults included."""

    mode: Mode
    alpha: Annotated[
        float | list[float] | ClassCountsAlpha | None,
        Field(description="As in the request: weight of the positive class, a weight for each class, or class counts"),
    ]
    gamma: Annotated[float, Field(ge=0)]
    reduction: Reduction
    ignore_index: int | None
    positive_class: Annotated[int, Field(ge=0, le=1)]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    gamma_negative: Annotated[
        float | None, Field(ge=0, description="Gamma of negative labels in sigmoid mode; null: gamma")
    ]
    clip: Annotated[float, Field(ge=0, lt=1)]


def config_reply(config: LossConfig) -> Config:
    """Convert a configuration to its form in replies and files."""
    return cast(Config, config.model_dump(mode="json"))
