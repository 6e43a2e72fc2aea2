"""Ragged batches that the caller has as one list of elements for each example: joined, with offsets."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from service.client.arrays import package_of
from service.errors import ShapeError
from service.formats.part_names import OFFSETS
from service.formats.ragged import check_offsets, offsets_of
from service.schema.faults import fault
from service.schema.request import Column


def join_examples(parts: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    """Join the elements of all examples, and add the offsets of the examples.

    Args:
        parts: Logits or statistics, `targets`, and perhaps `ids`. All but the ids are a sequence of arrays, tensors or
            lists, one for each example, (T_i, C) or (T_i,); or an array (N, T, ...).
        number: Number of the batch, for messages.

    Returns:
        The parts (T, C) or (T,), and `offsets` (N + 1,) int64. Tensors stay tensors on their device.

    Raises:
        ShapeError: A part has an example that is no list, or another number of elements than its targets.
    """
    lists = {part: _joined(values, part, number) for part, values in parts.items() if part != "ids"}
    _, offsets = lists["targets"]
    for part, (_, of_part) in lists.items():
        check_offsets(part, of_part, offsets, number)
    return {**parts, **{part: values for part, (values, _) in lists.items()}, OFFSETS: offsets}


def _joined(values: Any, part: str, number: int) -> tuple[Any, Column]:
    if hasattr(values, "reshape"):
        if len(values.shape) < 2:
            raise _needs_offsets(part, number)
        rows, elements, *axes = values.shape
        return values.reshape(rows * elements, *axes), np.arange(rows + 1, dtype=np.int64) * elements
    if not isinstance(values, Sequence):
        raise _needs_offsets(part, number)
    examples = [value if hasattr(value, "shape") else np.asarray(value) for value in values]
    for row, example in enumerate(examples):
        if not len(example.shape):
            raise fault(ShapeError, "an example is a list of elements", part, batch=number, row=row)
    offsets = offsets_of([len(example) for example in examples])
    # Lists without an element do not tell the number of classes.
    full = [(row, example) for row, example in enumerate(examples) if len(example)] or list(enumerate(examples))[:1]
    for row, example in full:
        if example.shape[1:] != full[0][1].shape[1:]:
            msg = f"an element has the shape {list(example.shape[1:])}, others {list(full[0][1].shape[1:])}"
            raise fault(ShapeError, msg, part, batch=number, row=row)
    return _concatenated([example for _, example in full]), offsets


def _concatenated(examples: Sequence[Any]) -> Any:
    if not examples:
        return np.empty(0)
    if package_of(examples[0]) == "torch":
        return sys.modules["torch"].cat(list(examples))
    return np.concatenate(examples)


def _needs_offsets(part: str, number: int) -> ShapeError:
    msg = "ragged examples are one list of elements for each example, or all elements in a row and offsets (N + 1,)"
    return fault(ShapeError, msg, part, batch=number)
