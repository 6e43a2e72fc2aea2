"""Places of values in a batch: the index of a value in nested lists, as row, element and column of an error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from typing_extensions import TypedDict

from service.schema.structure import Layout

# For the errors of lists in the place of values.
NESTED_HINT = "lists in each other have the layout dense or ragged"


class Place(TypedDict):
    """The place of a value; see `service.schema.faults.fault`."""

    row: int | None
    element: Sequence[int]
    column: int | None


def place_of(index: Sequence[int], layout: Layout) -> Place:
    """The place of a value by its index in the lists of a batch; an empty index is the whole batch.

    In the layout `rows` a row is a value, or a list of columns; in `ragged` it is a list of elements, each a value or a
    list of columns; in `dense` everything after the row is the index of an element.
    """
    row, rest = (index[0], list(index[1:])) if index else (None, [])
    num_axes = {"rows": 0, "ragged": 1, "dense": len(rest)}[layout]
    return {"row": row, "element": rest[:num_axes], "column": rest[num_axes] if len(rest) > num_axes else None}


def place_at(position: int, shape: Sequence[int], offsets: np.ndarray[Any, np.dtype[Any]] | None) -> Place:
    """The place of a value of the layout `dense`, or `ragged` with offsets, by its position among all values.

    Args:
        position: Position in C order.
        shape: Shape of the values.
        offsets: (N + 1,) first element of each row, of ragged values.
    """
    index = [int(number) for number in np.unravel_index(position, tuple(shape))]
    if offsets is None:
        return place_of(index, "dense")
    row = int(np.searchsorted(offsets, index[0], side="right")) - 1
    return place_of([row, index[0] - int(offsets[row]), *index[1:]], "ragged")
