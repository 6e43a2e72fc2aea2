"""Structured examples: how the elements of a batch belong to examples, and how their losses are combined.

An example has one element (its class), or many: labels, tokens, pixels, voxels. Elements carry the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

Layout = Literal["rows", "dense", "ragged"]
DivisorName = Literal["elements", "examples", "positives"]
WithinName = Literal["mean", "sum", "max"]
Task = Literal["classification", "multi_label", "tokens", "masks"]

# Layout of the batches of a run, by its task.
LAYOUT_OF: dict[Task, Layout] = {
    "classification": "rows",
    "multi_label": "rows",
    "tokens": "ragged",
    "masks": "dense",
}

# Names of the classes 0 and 1 of each label of the task `multi_label`.
LABEL_CLASSES = ("absent", "present")


def review_classes(task: Task, class_names: Sequence[str] | None) -> Sequence[str] | None:
    """Names of the classes that a review may give: of a label of the task `multi_label` they say if it is there."""
    return LABEL_CLASSES if task == "multi_label" else class_names


# Axes of logits and targets; the search for regions takes 3 to the power of them.
MAX_AXES = 8
MAX_REGIONS = 1000
DEFAULT_REGIONS = 10


class TopShare(BaseModel):
    """The mean of an example's largest element losses: `top_share` in (0, 1] of its valid elements, at least one."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    top_share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


def _within_kind(value: object) -> str:
    return "top_share" if isinstance(value, dict | TopShare) else "name"


def _divisor_kind(value: object) -> str:
    return "name" if isinstance(value, str) else "number"


Within = Annotated[
    Annotated[WithinName, Tag("name")] | Annotated[TopShare, Tag("top_share")], Discriminator(_within_kind)
]
Divisor = Annotated[
    Annotated[DivisorName, Tag("name")] | Annotated[float, Field(gt=0, allow_inf_nan=False), Tag("number")],
    Discriminator(_divisor_kind),
]


class Lists(NamedTuple):
    """A list of numbers for each example of a batch.

    Args:
        values: (V,), those of all examples, one after the other.
        offsets: (N + 1,) int64, the first value of each example, and V.
    """

    values: np.ndarray[Any, np.dtype[Any]]
    offsets: np.ndarray[Any, np.dtype[Any]]


def divisor_of(layout: Layout, divisor: DivisorName | float | None) -> DivisorName | float:
    """The divisor of a request: as given, else `examples` for the layout `rows` and `elements` for the others."""
    if divisor is not None:
        return divisor
    return "examples" if layout == "rows" else "elements"


@dataclass(frozen=True, eq=False)
class Regions:
    """Connected elements whose prediction differs from their target, at most `top_regions` of each example.

    Those of an example are ordered by the sum of their losses, the largest first, then by number. K is the number of
    regions of the batch, R the number of axes of an example's targets (at least 1).

    Args:
        offsets: (N + 1,) int64, the first region of each example.
        number: (K,) int64, number of the region among all of its example, in the order of their first elements; it does
            not depend on the configuration.
        given: (K,) int64, target of the pair (target, prediction) with the largest sum of losses in the region.
        suggested: (K,) int64, prediction of that pair.
        num_elements: (K,) int64.
        start: (K, R) int64, smallest index along each axis of the example's targets.
        stop: (K, R) int64, largest index along each axis, plus 1.
        loss_sum: (K,) float64, sum of the losses of its elements.
        p_t: (K,) float64, mean of the p_t of its elements.
    """

    offsets: np.ndarray[Any, np.dtype[Any]]
    number: np.ndarray[Any, np.dtype[Any]]
    given: np.ndarray[Any, np.dtype[Any]]
    suggested: np.ndarray[Any, np.dtype[Any]]
    num_elements: np.ndarray[Any, np.dtype[Any]]
    start: np.ndarray[Any, np.dtype[Any]]
    stop: np.ndarray[Any, np.dtype[Any]]
    loss_sum: np.ndarray[Any, np.dtype[Any]]
    p_t: np.ndarray[Any, np.dtype[Any]]
