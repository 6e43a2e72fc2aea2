"""Reads the arrays of a large JSON body with compiled scanners: in less memory than simdjson, without the GIL.

This is the only module that imports the scanners. Without both, simdjson reads the whole body.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np

from service.codecs.json_nested import NestedNumbers, read_nested
from service.codecs.json_numbers import read_numbers
from service.formats.arrays import Body
from service.formats.part_names import LOGITS_NAMES, TARGET_NAMES
from service.schema.request import STATISTIC_PARTS

NAMES = (*LOGITS_NAMES, *TARGET_NAMES, *STATISTIC_PARTS)
ARRAYS = re.compile(rb'"(%s)"[ \t\n\r]*:[ \t\n\r]*\[' % "|".join(NAMES).encode())
LOGITS, TARGETS = (frozenset(name.encode() for name in names) for names in (LOGITS_NAMES, TARGET_NAMES))
DEEPER = re.compile(rb"\[[ \t\n\r]*\[[ \t\n\r]*\[")
# The integers from here on are placeholders for the arrays, at most so many.
PLACEHOLDER, MAX_ARRAYS = 7_024_319_152_861_340_000, 20_000


class SplitBody(NamedTuple):
    """A body without its arrays.

    Args:
        rest: The body with an integer as a placeholder for each array that was read.
        arrays: The arrays by placeholder.
        texts: Their texts by placeholder.
    """

    rest: Body | bytes
    arrays: dict[int, NestedNumbers]
    texts: dict[int, memoryview]

    @classmethod
    def whole(cls, body: Body) -> SplitBody:
        """A body from which no array was read."""
        return cls(body, {}, {})


def warm_up() -> None:
    """Compile the scanners, or load the machine code that an earlier process has cached."""
    read_numbers(np.frombuffer(b"[0]}", np.uint8), 0)
    read_nested(np.frombuffer(b"[[0]]}", np.uint8), 0, integers=False)


def split_arrays(body: Body) -> SplitBody | None:
    """Read each array of numbers that follows a name of logits, targets or statistics, and put a placeholder there.

    In valid JSON, a quote followed by a colon ends a name, so the array is that name's value, and the rest is JSON with
    an integer in the array's place. If the body is not valid, neither is the rest. Whether the name belongs to a batch
    is for the caller to check: each placeholder must be a part of a batch, once, or an attribute, whose text then
    counts. A client that sends such an integer itself gets an error.

    Returns:
        None if there are no such arrays, if one of logits is not of numbers alone, or if they are less than half of the
        body.
    """
    text = np.frombuffer(memoryview(body).toreadonly(), np.uint8)
    arrays: dict[int, NestedNumbers] = {}
    texts: dict[int, memoryview] = {}
    parts: list[Body | bytes] = []
    place = left = searched = 0
    while found := ARRAYS.search(body, searched):
        start = searched = found.end() - 1
        read = _read(body, text, start, is_target=found[1] in TARGETS) if len(arrays) < MAX_ARRAYS else None
        if read is None:
            if found[1] not in LOGITS:
                # Labels may be texts, and statistics null.
                continue
            return None
        placeholder = PLACEHOLDER + len(arrays)
        arrays[placeholder], end = read
        texts[placeholder] = memoryview(body)[start:end]
        parts += [body[place:start], b"%d " % placeholder]
        left += start - place
        place = searched = end
    if 2 * (left + len(text) - place) > len(text):
        return None
    return SplitBody(b"".join((*parts, body[place:])), arrays, texts)


def _read(
    body: Body, text: np.ndarray[Any, np.dtype[np.uint8]], start: int, *, is_target: bool
) -> tuple[NestedNumbers, int] | None:
    """The array that begins at an index, and the index behind it."""
    if not is_target and DEEPER.match(body, start) is None:
        numbers = read_numbers(text, start)
        if numbers is not None:
            return NestedNumbers(numbers[0], None), numbers[1]
    return read_nested(text, start, integers=is_target)
