"""JSON's arrays of numbers from text to float64 in one pass, compiled by numba; what `json_logits` uses.

Each number becomes the float64 nearest to what is written, as with Python's `float`. Reading eight digits at a time
within a word is known from Lemire, Number parsing at a gigabyte per second (2021, arXiv:2101.11408); the product with a
power of ten is double-double arithmetic (Dekker 1971, A floating-point technique for extending the available precision)
that knows its error and gives up where that matters: at ties, which no number of 19 digits below 10^15 is.

A branch that goes now this way, now that costs as much as a whole number here. What differs between the numbers of
usual data, their lengths and signs, is computed without one; the branches are for what is rare.
"""

from __future__ import annotations

import itertools
from fractions import Fraction
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from service.loss.kernels.cpu_rows import compiled, stays_a_call

# Said of each, or they have what their caller has: a product fused with a sum could make `_multiplied` wrong.
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": False}
_inner: Any = njit(**_OPTIONS)
_inlined: Any = njit(**_OPTIONS, forceinline=True)
_intrinsic: Any = intrinsic
_tuple: Any = types.UniTuple

Numbers: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

# Any 19 digits are a uint64. Products with these powers are far from the ends of float64's range.
MAX_DIGITS, MAX_POWER = 19, 100
# Bytes that are looked at together. As many before the first digit of a number, and these behind it, may be read.
WINDOW, BEHIND = 32, 72
# Numbers whose digits are read before they are multiplied by their powers of ten, several in one vector.
BLOCK = 256

_COMMA, _MINUS, _PLUS, _DOT, _ZERO, _E, _OPEN, _CLOSE, _SPACE, _QUOTE = b',-+.0e[] "'
_SPACES = sum(1 << byte for byte in b" \t\n\r")
_TOO_LARGE = 2**40
_BYTE = np.uint64(0xFF)
# As a word, the bits of a word that matter, and its length.
_COMMA_ALONE = np.uint64(_COMMA), _BYTE, 1
_COMMA_SPACE = np.uint64(_COMMA | _SPACE << 8), np.uint64(0xFFFF), 2

# Powers of ten to float64, and what that leaves out: 10^-behind at [behind], the same with a minus from _MINUS_TENS on,
# and any 10^power at [_ANY_TENS + power], with a minus _ALL_TENS further on.
_MINUS_TENS, _ANY_TENS, _ALL_TENS = 32, 64 + MAX_POWER, 2 * MAX_POWER + 1
_POWERS = [*range(0, -32, -1), *range(0, -32, -1), *range(-MAX_POWER, MAX_POWER + 1), *range(-MAX_POWER, MAX_POWER + 1)]
_SIGNS = [1] * 32 + [-1] * 32 + [1] * _ALL_TENS + [-1] * _ALL_TENS
_EXACT = [sign * Fraction(10) ** power for sign, power in zip(_SIGNS, _POWERS, strict=True)]
_TENS = np.array([float(ten) for ten in _EXACT])
_TENS_LEFT = np.array([float(ten - Fraction(float(ten))) for ten in _EXACT])
_WHOLE_TENS = np.array([10 ** min(count, MAX_DIGITS) for count in range(32)], np.uint64)
# 32 of these bytes, from the n-th on, keep the last n of 32 others.
_KEPT = np.repeat(np.array([0, 0xFF], np.uint8), WINDOW)


def _ten(negative: bool, before: int, zero: bool, length: int) -> int:
    """Which of `_TENS` belongs to a number of that length with a dot, or with none, after `before` digits, the first of
    them 0 or not; -1 where it is no number, or none for the usual way."""
    behind = max(length - before - 1, 0)
    right = 1 <= before <= (1 if zero else 8) and length != before + 1 and before - zero + behind <= MAX_DIGITS
    # An integer is never -0.
    return behind + _MINUS_TENS * negative if right and not (negative and zero and length == 1) else -1


# At [negative, before, zero, length], in a row.
_SHAPES = np.array(
    [_ten(*shape) for shape in itertools.product((False, True), range(64), (False, True), range(64))], np.int8
)


def _vector(wide: int, *values: int) -> Any:
    count = 8 * WINDOW // wide
    return ir.Constant(ir.VectorType(ir.IntType(wide), count), list(values) * (count // len(values)))


def _load(context: Any, builder: Any, array: Any, value: Any, index: Any, kind: Any) -> Any:
    """What is at any index of a uint8 array, without a check."""
    address = builder.gep(context.make_array(array)(context, builder, value).data, [index])
    return builder.load(builder.bitcast(address, kind.as_pointer()), align=1)


@_intrinsic
def _word(_typing: Any, text: Any, index: Any) -> Any:
    """Eight bytes, the first one lowest."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _load(context, builder, text, args[0], args[1], ir.IntType(64))

    return types.uint64(text, types.int64), generate


@_intrinsic
def _others_and_dots(_typing: Any, text: Any, index: Any) -> Any:
    """A bit for each of 32 bytes that is no digit, and for each that is a dot."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        found = _load(context, builder, text, args[0], args[1], _vector(8, 0).type)
        others = builder.icmp_unsigned(">", builder.sub(found, _vector(8, _ZERO)), _vector(8, 9))
        dots = builder.icmp_unsigned("==", found, _vector(8, _DOT))
        bits = [builder.bitcast(mask, ir.IntType(WINDOW)) for mask in (others, dots)]
        return context.make_tuple(builder, signature.return_type, [builder.zext(one, ir.IntType(64)) for one in bits])

    return _tuple(types.uint64, 2)(text, types.int64), generate


@_intrinsic
def _eights(_typing: Any, text: Any, end: Any, kept: Any, count: Any, first: Any) -> Any:
    """Four times eight digits: `first`, and of the 24 that end at `end` the last `count`.

    Pairs of digits, then fours, then eights, everywhere at once.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = builder.sub(args[1], ir.Constant(ir.IntType(64), WINDOW))
        found = builder.xor(_load(context, builder, text, args[0], start, _vector(8, 0).type), _vector(8, _ZERO))
        digits = builder.and_(found, _load(context, builder, kept, args[2], args[3], found.type))
        places = [ir.Constant(ir.IntType(32), place) for place in range(4)]
        digits = builder.insert_element(builder.bitcast(digits, _vector(64, 0).type), args[4], places[0])
        for wide, tens in ((16, 10), (32, 100), (64, 10000)):
            digits = builder.bitcast(digits, _vector(wide, 0).type)
            low = builder.and_(digits, _vector(wide, 2 ** (wide // 2) - 1))
            high = builder.lshr(digits, _vector(wide, wide // 2))
            digits = builder.add(builder.mul(low, _vector(wide, tens)), high)
        eights = [builder.extract_element(digits, place) for place in places]
        return context.make_tuple(builder, signature.return_type, eights)

    return _tuple(types.uint64, 4)(text, types.int64, kept, types.int64, types.uint64), generate


@_intrinsic
def _zeros_below(_typing: Any, word: Any) -> Any:
    """How many bits there are below the lowest one that is set."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@_intrinsic
def _fused(_typing: Any, left: Any, right: Any, more: Any) -> Any:
    """left * right + more, rounded once."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return types.float64(types.float64, types.float64, types.float64), generate


def read_numbers(text: np.ndarray[Any, np.dtype[np.uint8]], start: int) -> tuple[Numbers, int] | None:
    """An array of numbers, or of rows of numbers of one length, (N,) or (N, C); and the index behind it.

    Args:
        text: (bytes,) contiguous and not writable: for others all would be compiled anew.
        start: Where the opening bracket of the array is.

    Returns:
        None for everything else: other values, no values, rows of two lengths, no JSON, numbers that need more care.
    """
    numbers = np.empty(_most_numbers(text, start))
    count, columns, end = _read_array(text, start, numbers, np.empty(BLOCK, np.uint64), np.empty((2, BLOCK)))
    if count == 0:
        return None
    # What was not used was never touched.
    numbers.resize(count, refcheck=False)
    return (numbers.reshape(-1, columns) if columns else numbers), end


@cache
def warm_up() -> None:
    """Compile, once on a machine, or load what an earlier process has compiled."""
    read_numbers(np.frombuffer(b"[0]", np.uint8), 0)


@compiled
def _most_numbers(text: Any, start: int) -> int:
    """How many numbers an array has at most: it ends before the next string, and each of them takes two bytes."""
    place = start
    while place < len(text):
        block = text[place : place + 4096]
        quotes = False
        for index in range(len(block)):
            quotes |= block[index] == _QUOTE
        place += len(block)
        if quotes:
            break
    return (place - start) // 2


@compiled
def _read_array(text: Any, start: int, numbers: Any, significands: Any, tens: Any) -> tuple[int, int, int]:
    """Fill `numbers`: how many, how many in a row or 0 without rows, and the index behind the array; all 0 for None.

    `significands` and `tens` are space for a block of numbers that wait for their multiplication.
    """
    nothing = (0, 0, 0)
    # Numbers; those of them that wait; those before this row; those of a row.
    count, waiting, row, columns, clear = 0, 0, 0, 0, True
    # What stands between two numbers: it is the same in all of a text, or this takes longer.
    comma, comma_mask, comma_length = _COMMA_SPACE
    last = len(text) - BEHIND
    place = _past_spaces(text, start + 1)
    nested = _byte(text, place) == _OPEN
    place = _past_minus(text, _past_spaces(text, place + 1) if nested else place)
    while count < len(numbers):
        # A number begins here, after its sign.
        negative = text[np.uint64(place - 1)] == _MINUS
        ten = -1
        usual = WINDOW <= place <= last
        if usual:
            significand, ten, end, next_place = _read_usual(text, place, negative)
            after = _word(text, end)
        if ten < 0:
            usual = False
            significand, ten, end = _read_any(text, place, negative)
        elif (after & _BYTE) | np.uint64(0x20) == _E:
            usual = False
            exponent, end = _read_exponent(text, end)
            ten = _ten_of(exponent - (ten & (_MINUS_TENS - 1)), negative)
        if ten < 0:
            return nothing
        significands[np.uint64(waiting)] = significand
        tens[0, np.uint64(waiting)] = _TENS[np.uint64(ten)]
        tens[1, np.uint64(waiting)] = _TENS_LEFT[np.uint64(ten)]
        count += 1
        waiting += 1
        if waiting == BLOCK:
            clear &= _multiplied(significands, tens[0], tens[1], numbers[count - waiting : count])
            waiting = 0
        if usual and (after & comma_mask == comma) & (
            next_place - (text[np.uint64(next_place - 1)] == _MINUS) == end + comma_length
        ):
            place = next_place
            continue
        place = _past_spaces(text, end)
        if _byte(text, place) == _CLOSE:
            if nested:
                columns = columns if row else count
                if count - row != columns:
                    return nothing
                row = count
                place = _past_spaces(text, place + 1)
            if not nested or _byte(text, place) == _CLOSE:
                clear &= _multiplied(significands, tens[0], tens[1], numbers[count - waiting : count])
                return (count, columns, place + 1) if clear else nothing
            place = _past_comma(text, place)
            place = _past_spaces(text, place + 1) if _byte(text, place) == _OPEN else len(text)
        else:
            place = _past_comma(text, place)
            comma, comma_mask, comma_length = _COMMA_ALONE if place - end == 1 else _COMMA_SPACE
        place = _past_minus(text, place)
    return nothing


@_inlined
def _read_usual(text: Any, place: int, negative: bool) -> Any:
    """A number without an exponent, from its first digit on: an integer, which of `_TENS` it is multiplied by or -1
    (see `_ten`), the end, and where the next number begins if but a comma, a space and a minus are between."""
    others, dots = _others_and_dots(text, place)
    others |= np.uint64(1 << WINDOW)
    before = _zeros_below(others)
    stops = others ^ (others & (np.uint64(0) - others) & dots)
    length = _zeros_below(stops)
    # Adding to the lowest of some set bits in a row sets the next one above them.
    next_place = place + _zeros_below(stops + (stops & (np.uint64(0) - stops)))
    end = place + length
    zero = text[np.uint64(place)] == _ZERO
    ten = np.int64(_SHAPES[np.uint64(((negative * 64 + before) * 2 + zero) * 64 + length)])
    behind = ten & (_MINUS_TENS - 1)
    first = (_word(text, place) ^ np.uint64(0x3030303030303030)) << np.uint64((64 - 8 * before) & 63)
    eights = _eights(text, end, _KEPT, behind, first)
    significand = eights[0] * _WHOLE_TENS[np.uint64(behind)] + (
        eights[1] * np.uint64(10**16) + (eights[2] * np.uint64(10**8) + eights[3])
    )
    return significand, ten, end, next_place


@_inner
def _multiplied(significands: Any, tens: Any, tens_left: Any, numbers: Any) -> bool:
    """Give the numbers their float64; whether all are known to be the nearest ones.

    In units of the product, the powers of ten err by up to 2^-106, left * tens_left, which is left out, has as much,
    and what is made here of numbers below 2^-51 is rounded by less than 2^-102 in all. So the right product lies
    between those with 2^-98 more and less, and where both of these round to one float64, so does the right one.
    """
    stays_a_call()
    unclear = 0
    for index in range(len(numbers)):
        rounded = np.float64(significands[index])
        left = np.float64(np.int64(significands[index] - np.uint64(rounded)))
        product = rounded * tens[index]
        # What the product has too much. Taken off, not added: -0 stays what it is.
        over = _fused(-rounded, tens[index], product) - _fused(left, tens[index], rounded * tens_left[index])
        numbers[index] = product - _fused(product, 2.0**-98, over)
        unclear += numbers[index] != product - _fused(product, -(2.0**-98), over)
    return unclear == 0


@_inner
def _read_any(text: Any, place: int, negative: bool) -> Any:
    """Any number as JSON has it, byte by byte from behind its sign: an integer, which of `_TENS` it is multiplied by,
    and the end. There is no such power, -1, where there is no number, or none that can be said in this way."""
    stays_a_call()
    nothing = np.uint64(0), -1, 0
    significand, power, whole, begin = np.uint64(0), 0, True, place
    digits: Any = 0
    while True:
        byte = _byte(text, place)
        if _is_digit(text, place):
            digits += significand > 0 or byte != _ZERO
            significand = significand * np.uint64(10) + np.uint64(byte - _ZERO)
            power -= not whole
        elif byte == _DOT and whole and place > begin:
            whole = False
        else:
            break
        place += 1
    # No digit, none behind the dot, or one behind a 0.
    if place == begin or text[place - 1] == _DOT or (text[begin] == _ZERO and _is_digit(text, begin + 1)):
        return nothing
    if _byte(text, place) | 0x20 == _E:
        whole = False
        exponent, place = _read_exponent(text, place)
        power += exponent
    # simdjson's integers have 64 bits, and none is -0.
    if digits > MAX_DIGITS - whole:
        return nothing
    return significand, _ten_of(power, negative and not (whole and significand == 0)), place


@_inner
def _read_exponent(text: Any, place: int) -> Any:
    """An exponent, from the e on, and the end of it; more than any number may have where it is wrong."""
    below = _byte(text, place + 1) == _MINUS
    place += 2 if below or _byte(text, place + 1) == _PLUS else 1
    begin = place
    exponent: Any = 0
    while _is_digit(text, place):
        exponent = min(exponent * 10 + text[place] - _ZERO, _TOO_LARGE)
        place += 1
    if place == begin:
        exponent = _TOO_LARGE
    return -exponent if below else exponent, place


@_inner
def _ten_of(power: Any, negative: Any) -> Any:
    """Which of `_TENS` is 10^power with that sign, -1 if none is."""
    return _ANY_TENS + power + _ALL_TENS * negative if abs(power) <= MAX_POWER else -1


@_inner
def _is_digit(text: Any, place: int) -> Any:
    return _ZERO <= _byte(text, place) <= _ZERO + 9


@_inlined
def _byte(text: Any, place: int) -> int:
    """A byte, 0 past the end."""
    return text[np.uint64(place)] if place < len(text) else 0


@_inner
def _past_spaces(text: Any, place: int) -> int:
    while True:
        byte = _byte(text, place)
        if byte > _SPACE or not (_SPACES >> byte) & 1:
            return place
        place += 1


@_inner
def _past_minus(text: Any, place: int) -> Any:
    return place + (_byte(text, place) == _MINUS)


@_inner
def _past_comma(text: Any, place: int) -> int:
    """What follows a comma; the end of the text where there is none."""
    return _past_spaces(text, place + 1) if _byte(text, place) == _COMMA else len(text)
