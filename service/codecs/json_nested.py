"""Reads JSON lists of numbers, nested in any way, compiled by numba; used by `json_split`.

Numbers are read as in `json_numbers`, which reads short rows of equal lengths faster. Here lists may be nested deeper,
and those of the second level, which are examples, may have different lengths.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from service.codecs import json_numbers
from service.codecs.json_numbers import (
    LOOKAHEAD,
    SCANNER_OPTIONS,
    divide,
    inlined,
    inner,
    last_brace,
    most_numbers,
    read_any,
    read_usual,
    skip_spaces,
)
from service.formats.arrays import MAX_DIMENSIONS
from service.formats.ragged import offsets_of
from service.loss.kernels import cpu_compile
from service.loss.kernels.cpu_compile import compiled

# Lengths of lists: not yet known, and different.
_UNKNOWN, _DIFFERENT = -1, -2
_COMMA, _MINUS, _OPEN, _CLOSE = b",-[]"
_ONE = np.uint64(1)
# float64 holds every integer below this one.
EXACT_BELOW = 2**53


class NestedNumbers(NamedTuple):
    """The numbers in nested lists.

    Args:
        values: float64, or int64 if `integers` are asked for and all numbers are written as integers. (N, d1, ...) if
            the lists have equal lengths; else (T,) or (T, C, ...), the items of all lists of the second level.
        offsets: (N + 1,) int64, the first item of each list of the second level; None if their lengths are equal.
    """

    values: np.ndarray[Any, np.dtype[Any]]
    offsets: np.ndarray[Any, np.dtype[np.int64]] | None


def read_nested(
    text: np.ndarray[Any, np.dtype[np.uint8]], start: int, *, integers: bool
) -> tuple[NestedNumbers, int] | None:
    """Read lists of numbers, and return them with the index behind them.

    Args:
        text: As for `json_numbers.read_numbers`.
        start: Index of the opening bracket.
        integers: Return integers where all numbers are.

    Returns:
        None if anything is unusual or wrong: see `json_numbers.read_numbers`, and lists without items, but examples.
    """
    last = last_brace(text)
    if last is None or last <= start:
        return None
    most = most_numbers(text, start)
    numbers, lengths = np.empty(most), np.empty(most, np.int64)
    sizes, counts = np.full(MAX_DIMENSIONS, _UNKNOWN), np.zeros(MAX_DIMENSIONS, np.int64)
    count, depth, num_lists, all_integers, end = _read_lists(text, start, last, numbers, sizes, counts, lengths)
    if count == 0:
        return None
    numbers.resize(count, refcheck=False)
    lengths.resize(num_lists, refcheck=False)
    shape, offsets = [int(size) for size in sizes[:depth]], None
    if _DIFFERENT in shape:
        shape[:2], offsets = [-1], offsets_of(lengths)
    del lengths
    if integers and all_integers:
        if max(-numbers.min(), numbers.max()) >= EXACT_BELOW:
            return None
        numbers = numbers.astype(np.int64)
    return NestedNumbers(numbers.reshape(shape), offsets), end


@compiled(cpu_compile, json_numbers, **SCANNER_OPTIONS)
def _read_lists(text: Any, start: int, last: int, numbers: Any, sizes: Any, counts: Any, lengths: Any) -> Any:
    """Fill `numbers`, the length of the lists of each level in `sizes`, and the lengths of the second in `lengths`.

    Returns the count of numbers, their depth, the number of lists of the second level, whether all numbers are written
    as integers, and the index behind the lists; zeros where `read_nested` returns None. As in `json_numbers`, every
    loop stops at the closing brace at `last`, and no step passes it.
    """
    nothing = 0, 0, 0, False, 0
    usual_until = np.uint64(max(last - LOOKAHEAD, 0))
    count, num_lists, depth, leaf = 0, 0, 1, 0
    all_exact, all_integers = True, True
    place = skip_spaces(text, np.uint64(start) + _ONE)
    while count < len(numbers):
        while text[place] == _OPEN and depth < len(sizes):
            counts[depth] = 0
            depth += 1
            place = skip_spaces(text, place + _ONE)
        # Only an example may be without items.
        if text[place] != _CLOSE or depth != 2 or counts[1] > 0:
            leaf = leaf if leaf > 0 else depth
            number, exact, is_integer, end = _read_number(text, place, usual_until)
            if end == place or depth != leaf:
                return nothing
            numbers[count] = number
            count += 1
            counts[depth - 1] += 1
            # No branch: the processor goes on to the next number before it knows this one.
            all_exact &= exact
            all_integers &= is_integer
            place = skip_spaces(text, end)
        while text[place] == _CLOSE:
            if not _is_closed(depth, num_lists, sizes, counts, lengths):
                return nothing
            num_lists += depth == 2
            depth -= 1
            place += _ONE
            if depth == 0:
                # No empty lists between numbers.
                is_usual = all_exact and (leaf > 1 or num_lists == 0)
                return (count, leaf, num_lists, all_integers, np.int64(place)) if is_usual else nothing
            counts[depth - 1] += 1
            place = skip_spaces(text, place)
        if text[place] != _COMMA:
            return nothing
        place = skip_spaces(text, place + _ONE)
    return nothing


@inlined
def _read_number(text: Any, place: Any, usual_until: Any) -> Any:
    """A number, whether it is the nearest to its text, whether that is an integer, and the index behind it.

    The index is `place` if there is no number.
    """
    negative = text[place] == _MINUS
    begin = place + np.uint64(negative)
    is_integer = False
    significand, power, end = read_usual(text, begin) if begin < usual_until else (0, -1, begin)
    if power < 0:
        significand, power, end, is_integer = read_any(text, begin)
        if power < 0:
            return 0.0, False, False, place
        # simdjson and Python have no integer -0.
        negative &= significand != 0 or not is_integer
    number, exact = divide(significand, power)
    return -number if negative else number, exact, is_integer, end


@inner
def _is_closed(depth: Any, num_lists: Any, sizes: Any, counts: Any, lengths: Any) -> Any:
    """Store the length of a list that ends; False if other lists of its level have another one."""
    size = counts[depth - 1]
    if depth == 2:
        if num_lists == len(lengths):
            return False
        lengths[num_lists] = size
    if sizes[depth - 1] == _UNKNOWN:
        sizes[depth - 1] = size
    elif sizes[depth - 1] != size:
        sizes[depth - 1] = _DIFFERENT
        return depth == 2
    return True
