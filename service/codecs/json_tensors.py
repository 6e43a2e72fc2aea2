"""The arrays of a JSON request as NumPy arrays, by layout: numbers without a Python object for each.

`as_buffer` of simdjson flattens nested lists, so their lengths are checked list by list in `json_arrays`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from service.codecs.base import check_rows
from service.codecs.json_arrays import (
    Extent,
    cells,
    check_labels,
    check_numbers,
    has_missing_rows,
    ragged_extent,
    regular_extent,
    with_missing_rows,
)
from service.codecs.json_nested import NestedNumbers
from service.errors import DecodeError, ShapeError
from service.formats.arrays import MAX_DIMENSIONS
from service.formats.ragged import check_offsets
from service.schema.faults import fault
from service.schema.request import NO_LOGITS, STATISTIC_PARTS, Column, RequestOptions

NUMBER_PARTS = frozenset(("logits", *STATISTIC_PARTS))
# Logits, targets, offsets and statistics; see `Batch`.
Tensors: TypeAlias = tuple[Column, Column, Column | None, dict[str, Column] | None]

# Types of simdjson's buffers, and of their numbers; integers first.
TARGET_KINDS = (("i", np.int64), ("d", np.float64))


class TensorReader:
    """Reads the logits or statistics, and the targets, of the batches of one document.

    Args:
        options: Options of the request.
        arrays: Arrays that were read already, by their placeholders; the reader removes those that it finds.
        max_rows: Limit of the labels that are texts, booleans or null; None: no limit.
    """

    def __init__(self, options: RequestOptions, arrays: dict[int, NestedNumbers], max_rows: int | None) -> None:
        self._layout = options.layout
        # With on_invalid "exclude", a null among the logits becomes NaN, and the loss excludes its row.
        self._null_is_nan = options.on_invalid == "exclude"
        self._arrays = arrays
        self._max_rows = max_rows
        self._read: list[tuple[Any, int, int, str]] = []
        # Lists in the arrays so far, as deep as their layout allows.
        self.num_lists = 0

    def read(self, batch: Any, parts: Mapping[str, str], number: int) -> Tensors:
        """The logits, targets, offsets and statistics of a batch.

        Args:
            batch: An object of the document.
            parts: The names of its members by part, targets among them.
            number: Number of the batch, for messages.
        """
        arrays = {
            part: self._number_array(batch[name], number, part) for part, name in parts.items() if part in NUMBER_PARTS
        }
        targets, offsets = self._target_array(batch[parts["targets"]], number)
        for part, (_, own) in arrays.items():
            check_offsets(part, own, offsets, number)
        logits, _ = arrays.pop("logits", (NO_LOGITS, None))
        return logits, targets, offsets, {part: values for part, (values, _) in arrays.items()} or None

    def check_all(self) -> None:
        """Check every value of the arrays so far; needed if there may be lists in the place of numbers."""
        for array, depth, number, part in self._read:
            self._check(array, depth, number, part)

    def _number_array(self, array: Any, number: int, part: str) -> tuple[Column, Column | None]:
        """The array (N,), (N, C), ... of lists of numbers; ragged (T,) or (T, C) and offsets."""
        if type(array) is int and array in self._arrays:
            return self._of_placeholder(self._arrays.pop(array), number, part)
        if part == "logits" and self._layout == "rows" and self._null_is_nan and has_missing_rows(array):
            logits, lists = with_missing_rows(array, number)
            self.num_lists += 1 + lists
            return logits, None
        extent = self._extent(array, number, part)
        if 0 in extent.shape:
            return np.empty(extent.shape), extent.offsets
        try:
            flat = np.frombuffer(array.as_buffer(of_type="d"), np.float64)
        except (TypeError, ValueError) as err:
            self._check(array, extent.depth, number, part)
            if not self._accepts_null(part):
                raise DecodeError(f"batch {number}: {part} has a number that float64 cannot hold: {err}") from err
            values = (np.nan if value is None else value for _, value in cells(array, extent.depth))
            flat = np.fromiter(values, np.float64)
        return self._reshaped(flat, extent, array, number, part), extent.offsets

    def _of_placeholder(self, read: NestedNumbers, number: int, part: str) -> tuple[Column, Column | None]:
        """The array and offsets of lists that were read already.

        Raises:
            ShapeError: They do not fit the layout. The whole body is parsed then, for the place of the error.
        """
        values, offsets = read
        if self._layout == "ragged" and offsets is None and values.ndim > 1:
            offsets = np.arange(len(values) + 1) * values.shape[1]
            values = values.reshape(-1, *values.shape[2:])
        if (offsets is None) == (self._layout == "ragged") or (self._layout != "dense" and values.ndim > 2):
            raise fault(ShapeError, f"the lists of {part} do not fit the layout {self._layout}", part, batch=number)
        return values, offsets

    def _target_array(self, array: Any, number: int) -> tuple[Column, Column | None]:
        """The array of lists of targets, int64, else float64, else objects; ragged with offsets."""
        if type(array) is int and array in self._arrays:
            return self._of_placeholder(self._arrays.pop(array), number, "targets")
        extent = self._extent(array, number, "targets")
        if 0 in extent.shape:
            return np.empty(extent.shape, np.int64), extent.offsets
        for kind, dtype in TARGET_KINDS:
            try:
                flat = np.frombuffer(array.as_buffer(of_type=kind), dtype)
            except (TypeError, ValueError):
                continue
            return self._reshaped(flat, extent, array, number, "targets"), extent.offsets
        check_rows(math.prod(extent.shape), self._max_rows)
        self._check(array, extent.depth, number, "targets")
        objects = np.empty(math.prod(extent.shape), object)
        objects[:] = [value for _, value in cells(array, extent.depth)]
        return objects.reshape(extent.shape), extent.offsets

    def _extent(self, array: Any, number: int, part: str) -> Extent:
        if self._layout == "ragged":
            extent = ragged_extent(array, number, part)
        else:
            extent = regular_extent(array, number, part, 2 if self._layout == "rows" else MAX_DIMENSIONS)
        self.num_lists += extent.num_lists
        self._read.append((array, extent.depth, number, part))
        return extent

    def _reshaped(self, flat: Column, extent: Extent, array: Any, number: int, part: str) -> Column:
        if flat.size != math.prod(extent.shape):
            self._check(array, extent.depth, number, part)
        return flat.reshape(extent.shape)

    def _check(self, array: Any, depth: int, number: int, part: str) -> None:
        if part == "targets":
            check_labels(array, depth, self._layout, number)
        else:
            check_numbers(array, depth, self._layout, number, part, nulls=self._accepts_null(part))

    def _accepts_null(self, part: str) -> bool:
        """True if null becomes NaN: the reply of an ignored element has null, which may be sent back."""
        return self._null_is_nan or part != "logits"
