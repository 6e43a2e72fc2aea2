"""The JSON of outputs of elements and of regions: as text, without a Python object for each number.

A reply can have millions of elements. orjson writes arrays of equal lengths directly; what it cannot write, lists of
different lengths and null among integers, is made from the text that it writes.
"""

from __future__ import annotations

import numpy as np
import orjson

from service.schema.replies.service import Region
from service.schema.request import Column
from service.schema.structure import Regions

# orjson holds the GIL while it writes: larger arrays are written one by one.
AT_ONCE = 2**16
# Regions that are Python objects at a time.
BLOCK = 1024


def output_json(values: Column, offsets: Column | None = None) -> Column | orjson.Fragment:
    """One output for orjson: NaN and a negative prediction become null.

    Args:
        values: Floats, or integers that are negative only where they stand for null.
        offsets: (N + 1,) first element of each example: a list for each. None: nested as the shape of the values.
    """
    values = np.ascontiguousarray(values)
    missing = values.dtype.kind == "i" and bool((values < 0).any())
    if not missing and offsets is None and values.size < AT_ONCE:
        return values
    text = orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)
    if missing:
        text = text.replace(b"-1", b"null")
    if offsets is not None:
        text = text[1:-1]
        ends = _places(text, b"]") + 1 if values.ndim > 1 else np.append(_places(text, b","), len(text))
        text = _grouped(text, ends, offsets)
    return orjson.Fragment(text)


def regions_json(regions: Regions) -> bytes:
    """The regions as JSON: for each example the list of its regions."""
    blocks = (_block(regions, first) for first in range(0, len(regions.number), BLOCK))
    text = b",".join(orjson.dumps(block)[1:-1] for block in blocks)
    # No value in a region has a brace.
    return _grouped(text, _places(text, b"}") + 1, regions.offsets)


def _block(regions: Regions, first: int) -> list[Region]:
    rows = slice(first, first + BLOCK)
    return [
        {
            "region": region,
            "given": given,
            "suggested": suggested,
            "num_elements": num_elements,
            "box": [start, stop],
            "loss_sum": loss_sum,
            "p_t": p_t,
        }
        for region, given, suggested, num_elements, start, stop, loss_sum, p_t in zip(
            regions.number[rows].tolist(),
            regions.given[rows].tolist(),
            regions.suggested[rows].tolist(),
            regions.num_elements[rows].tolist(),
            regions.start[rows].tolist(),
            regions.stop[rows].tolist(),
            regions.loss_sum[rows].tolist(),
            regions.p_t[rows].tolist(),
            strict=True,
        )
    ]


def _places(text: bytes, byte: bytes) -> Column:
    return np.flatnonzero(np.frombuffer(text, np.uint8) == byte[0])


def _grouped(text: bytes, ends: Column, offsets: Column) -> bytes:
    """A list of lists of the items of a text.

    Args:
        text: Items with commas between them.
        ends: (T,) index behind each item.
        offsets: (N + 1,) first item of each list.
    """
    if len(offsets) < 2:
        return b"[]"
    # Slices of empty lists end at the comma in front of their beginning, or at 0.
    starts = np.append(0, ends + 1)
    first, last = starts[offsets[:-1]].tolist(), np.maximum(starts[offsets[1:]] - 1, 0).tolist()
    return b"[[" + b"],[".join(text[start:stop] for start, stop in zip(first, last, strict=True)) + b"]]"
