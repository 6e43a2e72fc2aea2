"""Label Studio's run-length encoding of a mask, for `brushlabels`.

The image has H * W pixels of four equal 8-bit channels. The code is a stream of bits: 32 with the number of values, 5
with the width of a value, 4 for each of four widths of lengths; then for each run of equal values the bit 1, 2 bits
with the index of a width, the length and the value. Widths and lengths are written minus 1.

Source: label-studio-sdk converter/brush.py; the frontend decodes with @thi.ng/rle-pack.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

CHANNELS = 4
PAINTED = 255
VALUE_BITS = 8
# Runs of up to 2**width values; longer ones are split.
LENGTH_BITS = (3, 4, 8, 16)
LONGEST = 1 << LENGTH_BITS[-1]


def brush_rle(places: np.ndarray[Any, np.dtype[Any]], num_pixels: int) -> list[int]:
    """Encode a mask.

    Args:
        places: (P,) positions of the painted pixels in the flat mask, ascending, all different; at least one.
        num_pixels: Number of pixels of the mask, less than 2**30.

    Returns:
        Bytes as numbers, the member `rle` of a `brushlabels` value.
    """
    bits = [f"{num_pixels * CHANNELS:032b}{VALUE_BITS - 1:05b}", *(f"{width - 1:04b}" for width in LENGTH_BITS)]
    bits += (_run_bits(length, value) for length, value in _runs(places, num_pixels))
    text = "".join(bits)
    # The original ends with at least one bit of padding, so a whole byte if none is needed.
    padding = 8 - len(text) % 8
    return list((int(text, 2) << padding).to_bytes((len(text) + padding) // 8))


def _runs(places: np.ndarray[Any, np.dtype[Any]], num_pixels: int) -> Iterator[tuple[int, int]]:
    """Length and value of each run of equal values of channels."""
    gaps = np.flatnonzero(places[1:] - places[:-1] > 1)
    ends = [*(places[gaps] + 1).tolist(), int(places[-1]) + 1]
    end_before = 0
    for first, end in zip([int(places[0]), *places[gaps + 1].tolist()], ends, strict=True):
        if first > end_before:
            yield (first - end_before) * CHANNELS, 0
        yield (end - first) * CHANNELS, PAINTED
        end_before = end
    if end_before < num_pixels:
        yield (num_pixels - end_before) * CHANNELS, 0


# Masks have few different lengths.
@lru_cache(4096)
def _run_bits(length: int, value: int) -> str:
    """The bits of a run; of a longer one than `LONGEST` all parts have the largest width."""
    whole, rest = divmod(length - 1, LONGEST)
    last = len(LENGTH_BITS) - 1
    index = last if whole else next(index for index, width in enumerate(LENGTH_BITS) if rest < 1 << width)
    return _part_bits(last, LONGEST, value) * whole + _part_bits(index, rest + 1, value)


def _part_bits(index: int, length: int, value: int) -> str:
    return f"1{index:02b}{length - 1:0{LENGTH_BITS[index]}b}{value:0{VALUE_BITS}b}"
