"""Arrays out of a request's body."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from service.schema.request import Column

# Bytes of a request body: writable, since tensors are views into them.
Body: TypeAlias = bytearray | memoryview


def array_view(body: bytes | Body, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Column:
    """An array in the bytes of a body: a view where the offset is aligned, else a copy.

    Args:
        body: Holds at least the array's bytes behind the offset; little-endian, row by row.
        offset: Bytes before it.
        dtype: Of the array.
        shape: Of the array, one that does not overflow.
    """
    count = math.prod(shape)
    if count == 0:
        return np.empty(shape, dtype)
    array = np.frombuffer(body, dtype, count, offset).reshape(shape)
    return array if array.flags.aligned else array.copy()


def overflows(shape: Sequence[int], dtype: np.dtype[Any]) -> bool:
    """Whether numpy has no array of this shape; of an empty one too it multiplies the other dimensions."""
    return math.prod(max(size, 1) for size in shape) * dtype.itemsize >= 2**63
