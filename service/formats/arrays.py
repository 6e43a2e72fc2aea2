"""Arrays in the bytes of a body."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias, TypeGuard

import numpy as np

from service.schema.request import Column

MAX_DIMENSIONS = 8
# The bytes of a request: writable, because tensors are views into them.
Body: TypeAlias = bytearray | memoryview


def are_sizes(values: object) -> TypeGuard[list[int]]:
    """True if the values are a list of at most `MAX_DIMENSIONS` integers in [0, 2^63)."""
    return (
        isinstance(values, list)
        and len(values) <= MAX_DIMENSIONS
        and all(type(value) is int and 0 <= value < 2**63 for value in values)
    )


def array_view(body: bytes | Body, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Column:
    """An array in the bytes of a body: a view if the bytes are aligned for the dtype, else a copy.

    Args:
        body: Holds the bytes of the array, little-endian and in C order.
        offset: Position of the first byte.
        dtype: Data type of the array.
        shape: Shape of the array; must not overflow.
    """
    count = math.prod(shape)
    if count == 0:
        return np.empty(shape, dtype)
    array = np.frombuffer(body, dtype, count, offset).reshape(shape)
    return array if array.flags.aligned else array.copy()


def overflows(shape: Sequence[int], dtype: np.dtype[Any]) -> bool:
    """True if the shape is too large for NumPy, which multiplies the other dimensions of an empty array too."""
    return math.prod(max(size, 1) for size in shape) * dtype.itemsize >= 2**63
