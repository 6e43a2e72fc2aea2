"""Nested lists in a document that simdjson has parsed: their extent, their values, and errors with their places."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import orjson
import simdjson

from service.errors import InvalidLogitError, InvalidRequestError, InvalidTargetError, ShapeError
from service.formats.arrays import Body
from service.formats.places import NESTED_HINT, place_of
from service.formats.ragged import offsets_of
from service.schema.faults import element_text, fault
from service.schema.request import Column
from service.schema.structure import Layout

# simdjson stores the length of an array in 24 bits and stops counting there.
MAX_COUNTED = 2**24 - 1


class Extent(NamedTuple):
    """The extent of nested lists.

    Args:
        shape: Shape of the array that they become; (T,) or (T, C) of ragged ones, with all elements in a row.
        num_lists: Number of lists, the outermost included.
        offsets: (N + 1,) int64, the first element of each example of ragged lists; None for regular ones.
    """

    shape: tuple[int, ...]
    num_lists: int
    offsets: Column | None = None

    @property
    def depth(self) -> int:
        """Number of lists in each other."""
        return len(self.shape) + (self.offsets is not None)


def count_brackets(body: Body | bytes) -> int:
    """The number of opening brackets, in a quarter of the time of `body.count`."""
    return int(np.count_nonzero(np.frombuffer(body, np.uint8) == ord("[")))


def regular_extent(array: Any, number: int, part: str, max_depth: int) -> Extent:
    """The extent of lists of equal lengths; does not look into the innermost ones.

    Args:
        array: A value of the document.
        number: Number of the batch, for messages.
        part: `logits` or `targets`, for messages.
        max_depth: Lists nested deeper count as values.

    Raises:
        InvalidRequestError: The value is not a list.
        InvalidLogitError: A list of logits is null.
        ShapeError: A value is not a list, or does not have the length of the first one.
    """
    _check_list(array, number, part)
    shape: list[int] = []
    first = array
    while isinstance(first, simdjson.Array) and len(shape) < max_depth:
        shape.append(_length(first))
        first = first[0] if shape[-1] else None
    _check_lists(array, tuple(shape), number, part, ())
    return Extent(tuple(shape), 1 + sum(accumulate(shape[:-1], int.__mul__)))


def ragged_extent(array: Any, number: int, part: str) -> Extent:
    """The extent of a list of examples, each a list of elements, each a number or a list of C numbers.

    Args and Raises: see `regular_extent`.
    """
    _check_list(array, number, part)
    width: int | None = None
    lengths = []
    for row, elements in enumerate(array):
        if not isinstance(elements, simdjson.Array):
            raise _length_error(elements, None, number, part, (row,))
        lengths.append(_length(elements))
        if not lengths[-1]:
            continue
        if width is None:
            width = _length(elements[0]) if isinstance(elements[0], simdjson.Array) else -1
        if isinstance(elements[0], simdjson.Array) or width >= 0:
            _check_lists(elements, (lengths[-1], width), number, part, (row,))
    total, offsets = sum(lengths), offsets_of(lengths)
    if width is None or width < 0:
        return Extent((total,), 1 + len(lengths), offsets)
    return Extent((total, width), 1 + len(lengths) + total, offsets)


def _check_list(array: Any, number: int, part: str) -> None:
    if not isinstance(array, simdjson.Array):
        raise fault(InvalidRequestError, "not a list", part, batch=number, detail=f"{part} is a list")


def _check_lists(array: Any, shape: tuple[int, ...], number: int, part: str, place: tuple[int, ...]) -> None:
    """Check that the items of a list are lists of the same shape; `place` is the index of the list."""
    if len(shape) < 2:
        return
    size = shape[1]
    # `_length` in line, except for very long rows: there may be thousands of them.
    fits = size < MAX_COUNTED and {len(row) if type(row) is simdjson.Array else -1 for row in array} == {size}
    if fits and len(shape) == 2:
        return
    for position, item in enumerate(array):
        if not fits and (not isinstance(item, simdjson.Array) or _length(item) != size):
            raise _length_error(item, size, number, part, (*place, position))
        _check_lists(item, shape[1:], number, part, (*place, position))


def _length_error(
    item: Any, size: int | None, number: int, part: str, place: tuple[int, ...]
) -> InvalidLogitError | ShapeError:
    """The error of an item that is not a list of this length; a size of -1 is a number instead."""
    row, *element = place
    if item is None and part == "logits":
        return fault(InvalidLogitError, "null is not a list of numbers", part, batch=number, row=row, element=element)
    where = f"row {row}" + (f", element {element_text(element)}" if element else "")
    described = f"has {_length(item)} values" if isinstance(item, simdjson.Array) else "is not a list"
    first = f"{'the first one' if element else 'row 0'} {'is a number' if size == -1 else f'has {size}'}"
    msg = f"{where} of {part} {described}" + ("" if size is None else f", {first}")
    return fault(ShapeError, msg, part, *place, batch=number)


def _length(array: Any) -> int:
    length = len(array)
    if length >= MAX_COUNTED:
        ((length, _),) = deque(enumerate(array, start=1), maxlen=1)
    return length


def check_numbers(array: Any, depth: int, layout: Layout, number: int, part: str, *, nulls: bool) -> None:
    """Raise InvalidLogitError for the first value that is not a number, or not null either if `nulls` is set."""
    for index, value in cells(array, depth):
        if nulls and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            is_nested = layout == "rows" and isinstance(value, simdjson.Array) and not any(index)
            hint = f": {NESTED_HINT}" if is_nested else ""
            msg = f"{describe(value)} is not a number{hint}"
            raise fault(InvalidLogitError, msg, part, batch=number, **place_of(index, layout))


def check_labels(array: Any, depth: int, layout: Layout, number: int) -> None:
    """Raise InvalidTargetError for the first value that is a list or an object."""
    for index, value in cells(array, depth):
        if isinstance(value, simdjson.Array | simdjson.Object):
            msg = f"{describe(value)} is not a label"
            raise fault(InvalidTargetError, msg, "targets", batch=number, **place_of(index, layout))


def cells(array: Any, depth: int) -> Iterator[tuple[tuple[int, ...], Any]]:
    """Index and value of each cell of lists of this depth."""
    for position, item in enumerate(array):
        if depth > 1 and isinstance(item, simdjson.Array):
            for index, value in cells(item, depth - 1):
                yield (position, *index), value
        else:
            yield (position,), item


def has_missing_rows(array: Any) -> bool:
    """True if an array of rows has null in the place of a row."""
    if not isinstance(array, simdjson.Array):
        return False
    kinds = {type(row) for row in array}
    return type(None) in kinds and simdjson.Array in kinds


def with_missing_rows(array: Any, number: int) -> tuple[np.ndarray[Any, np.dtype[np.float64]], int]:
    """The logits (N, C) of an array with null in the place of rows, which become NaN, and the number of other rows.

    Raises:
        InvalidLogitError, ShapeError: A value is not a number, or a row has another length.
    """
    rows = {row: values.as_list() for row, values in enumerate(array) if isinstance(values, simdjson.Array)}
    width = len(next(iter(rows.values())))
    logits = np.full((len(array), width), np.nan)
    for row, values in enumerate(array):
        cells_of_row = rows.get(row)
        if values is None:
            continue
        if cells_of_row is None or len(cells_of_row) != width:
            raise fault(ShapeError, f"row {row} of logits is not {width} numbers", "logits", row, batch=number)
        for column, value in enumerate(cells_of_row):
            if isinstance(value, bool) or not isinstance(value, int | float | None):
                msg = f"{describe(value)} is not a number"
                raise fault(InvalidLogitError, msg, "logits", batch=number, row=row, column=column)
        logits[row] = cells_of_row
    return logits, len(rows)


def describe(value: Any) -> str:
    """A value in a message: its kind if it is a list or an object, else its JSON."""
    if isinstance(value, simdjson.Array | list):
        return "a list"
    if isinstance(value, simdjson.Object | dict):
        return "an object"
    return orjson.dumps(value).decode()[:100]
