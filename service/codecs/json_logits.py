"""The logits of a large JSON body, read apart from the rest of it: faster than simdjson does, and without the GIL."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from service.codecs.base import Body
from service.codecs.json_numbers import Numbers, read_numbers

LOGITS = re.compile(rb'"logits"[ \t\n\r]*:[ \t\n\r]*\[')
# Integers that stand for the arrays: an integer has one spelling, so that none is there where these digits are not.
STAND_IN, MAX_ARRAYS = 702_431_915_286_134, 10_000


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

    The rest is JSON where the body is, for an array is replaced by an integer. Whether an array is a batch's logits is
    for its reader to say, by where it meets the integer.

    Returns:
        None where there are none, where one is not of numbers alone, or where they are less than half of the body.
    """
    text = np.frombuffer(memoryview(body).toreadonly(), np.uint8)
    logits: dict[int, Numbers] = {}
    parts: list[Body | bytes] = []
    place = left = 0
    while found := LOGITS.search(body, place):
        start = found.end() - 1
        # Behind a backslash it is no name, but within one.
        if text[found.start() - 1] == ord("\\") or len(logits) == MAX_ARRAYS:
            return None
        read = read_numbers(text, start)
        if read is None:
            return None
        stand_in = STAND_IN * MAX_ARRAYS + len(logits)
        logits[stand_in], end = read
        parts += [body[place:start], b"%d " % stand_in]
        left += start - place
        place = end
    if 2 * (left + len(text) - place) > len(text):
        return None
    rest = b"".join((*parts, body[place:]))
    return Parted(rest, logits) if rest.count(b"%d" % STAND_IN) == len(logits) else None
