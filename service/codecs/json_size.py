"""Number of values in a JSON text, counted before Python objects are made of them: an empty list has 56 bytes."""

from __future__ import annotations

from typing import Any

import numpy as np

from service.errors import TooManyValuesError
from service.formats.arrays import Body
from service.loss.kernels.cpu_compile import compiled

# As many as a configuration may have weights, and some more.
MAX_VALUES = 2**20
# Of a body with tensors, beside the arrays of plain numbers that the scanner of `json_split` reads.
MAX_TENSOR_VALUES = 2**21
# The values of smaller texts take less than 2 MB.
MIN_COUNTED_BYTES = 64 * 1024

_QUOTE, _BACKSLASH, _COMMA, _COLON, _LIST, _OBJECT = b'"\\,:[{'


def warm_up() -> None:
    """Compile the counter, or load the machine code that an earlier process has cached."""
    count_values(b"[]")


def check_size(text: Body | bytes, most: int = MAX_VALUES) -> None:
    """Refuse a text with too many values.

    Raises:
        TooManyValuesError: The text has more than `most` values and names.
    """
    if len(text) > MIN_COUNTED_BYTES and (count := count_values(text)) > most:
        raise TooManyValuesError(f"the body has {count} values and names, the limit is {most}")


def count_values(text: Body | bytes) -> int:
    """Number of values and names in a JSON text; at least that if the text has an empty list or object."""
    return int(_count(np.frombuffer(memoryview(text).toreadonly(), np.uint8)))


@compiled(error_model="numpy", _nrt=False)
def _count(text: Any) -> int:
    count, in_string, is_escaped = 1, False, False
    for byte in text:
        if in_string:
            if is_escaped:
                is_escaped = False
            elif byte == _BACKSLASH:
                is_escaped = True
            elif byte == _QUOTE:
                in_string = False
        elif byte == _QUOTE:
            in_string = True
        elif byte in (_COMMA, _COLON, _LIST, _OBJECT):
            count += 1
    return count
