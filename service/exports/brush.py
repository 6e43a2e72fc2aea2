"""Label Studio's run-length encoding of a mask, for `brushlabels`.

The image has H * W pixels of four equal 8-bit channels. The code is a stream of bits: 32 with the number of values, 5
with the width of a value, 4 for each of four widths of lengths; then for each run of equal values the bit 1, 2 bits
with the index of a width, the length and the value. Widths and lengths are written minus 1.

Source: label-studio-sdk converter/brush.py; the frontend decodes with @thi.ng/rle-pack.
"""

from __future__ import annotations

from typing import Any

import numpy as np

CHANNELS = 4
PAINTED = 255
VALUE_BITS = 8
# Runs of up to 2**width values; longer ones are split.
LENGTH_BITS = np.array([3, 4, 8, 16])
LONGEST = 1 << 16

Integers = np.ndarray[Any, np.dtype[np.int64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]


def brush_rle(mask: Mask) -> list[int]:
    """Encode a mask.

    Args:
        mask: (H, W) bool, at least one pixel and less than 2**30.

    Returns:
        Bytes as numbers, the member `rle` of a `brushlabels` value.
    """
    lengths, painted = _runs(mask.ravel())
    codes, widths = _tokens(lengths * CHANNELS, painted)
    head = np.array([mask.size * CHANNELS, VALUE_BITS - 1, *(LENGTH_BITS - 1)])
    head_widths = np.array([32, 5, *[4] * len(LENGTH_BITS)])
    bits = _bits(np.concatenate([head, codes]), np.concatenate([head_widths, widths]))
    # The original ends with at least one bit of padding, so a whole byte if none is needed.
    padding = np.zeros(8 - len(bits) % 8, np.uint8)
    encoded: list[int] = np.packbits(np.concatenate([bits, padding])).tolist()
    return encoded


def _runs(pixels: Mask) -> tuple[Integers, Mask]:
    """Length and value of each run of equal pixels."""
    last = np.append(np.flatnonzero(pixels[1:] != pixels[:-1]), len(pixels) - 1)
    return np.diff(last, prepend=-1), pixels[last]


def _tokens(lengths: Integers, painted: Mask) -> tuple[Integers, Integers]:
    """The code of each run and its number of bits; a run longer than `LONGEST` has several of the largest width."""
    whole = (lengths - 1) // LONGEST
    widths = np.where(whole > 0, len(LENGTH_BITS) - 1, np.searchsorted(1 << LENGTH_BITS, lengths))
    parts = whole + 1
    part_lengths = np.full(parts.sum(), LONGEST)
    part_lengths[np.cumsum(parts) - 1] = lengths - whole * LONGEST
    width, value = np.repeat(widths, parts), np.repeat(np.where(painted, PAINTED, 0), parts)
    length_bits = LENGTH_BITS[width]
    codes = (((4 | width) << length_bits | (part_lengths - 1)) << VALUE_BITS) | value
    return codes, 3 + length_bits + VALUE_BITS


def _bits(codes: Integers, widths: Integers) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The lowest bits of each code, the highest of them first: as many as its width."""
    ends = np.cumsum(widths)
    shifts = np.repeat(ends, widths) - np.arange(1, ends[-1] + 1)
    bits: np.ndarray[Any, np.dtype[np.uint8]] = (np.repeat(codes, widths) >> shifts & 1).astype(np.uint8)
    return bits
