"""The logits of a large JSON body, read apart from the rest of it: faster than simdjson does, and without the GIL."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from service.codecs.json_numbers import Numbers, read_numbers
from service.formats.arrays import Body

LOGITS = re.compile(rb'"logits"[ \t\n\r]*:[ \t\n\r]*\[')
# The integers from here on stand for the arrays, so many at most.
STAND_IN, MAX_ARRAYS = 7_024_319_152_861_340_000, 10_000


class Parted(NamedTuple):
    """A body in parts.

    Args:
        rest: It, with an integer in place of each array of logits that was read.
        logits: The arrays by these integers, float64, (N,) or (N, C).
    """

    rest: bytes
    logits: dict[int, Numbers]


def parted(body: Body) -> Parted | None:
    """The arrays of a body that stand behind the name `logits`, and what is left.

    Where the body is JSON, a quote that is followed by a colon ends a name, so that the array is its value, and with an
    integer in its place the rest is JSON; where the body is none, the rest is none. Whose value it is, its reader says:
    that of a batch has to have one of these integers, and each only once, so that those of a client lead to an error.

    Returns:
        None where there are none, where one is not of numbers alone, or where they are less than half of the body.
    """
    text = np.frombuffer(memoryview(body).toreadonly(), np.uint8)
    logits: dict[int, Numbers] = {}
    parts: list[Body | bytes] = []
    place = left = 0
    while found := LOGITS.search(body, place):
        start = found.end() - 1
        read = read_numbers(text, start) if len(logits) < MAX_ARRAYS else None
        if read is None:
            return None
        stand_in = STAND_IN + len(logits)
        logits[stand_in], end = read
        parts += [body[place:start], b"%d " % stand_in]
        left += start - place
        place = end
    if 2 * (left + len(text) - place) > len(text):
        return None
    return Parted(b"".join((*parts, body[place:])), logits)
