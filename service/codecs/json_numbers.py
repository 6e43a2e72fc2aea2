"""Reads a JSON array of numbers into float64, compiled by numba; used by `json_split`.

Every number becomes the float64 nearest to its text, as with Python's `float`. Anything unusual (more than 18
significant digits, a huge exponent, a tie between two floats, a value that is not a number) makes `read_numbers` return
None, and simdjson reads the whole body.

Eight digits are converted at a time inside one 64-bit word (Lemire 2021, Number parsing at a gigabyte per second,
arXiv:2101.11408). The division by a power of ten corrects its own rounding error (Dekker 1971, A floating-point
technique for extending the available precision). Branches that depend on the length or sign of a number are avoided,
because the processor predicts them wrongly half of the time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from service.loss.kernels import cpu_compile
from service.loss.kernels.cpu_compile import compiled

# Never fused or reassociated: `divide` relies on the rounding of every operation.
SCANNER_OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": False, "_nrt": False}
inner: Any = njit(**SCANNER_OPTIONS)
inlined: Any = njit(**SCANNER_OPTIONS, forceinline=True)

# 18 digits fit into an int64. Quotients by these powers of ten are far from the ends of float64's range.
MAX_DIGITS, MAX_POWER = 18, 100
# Bytes that `read_usual` may look ahead: a sign, two digits, a dot, three words of digits.
LOOKAHEAD = 32
# Bytes at the end of the body that are searched for its closing brace; whitespace may follow it.
TAIL = 16
# Bytes whose commas are counted between two checks for a string.
BLOCK = 4096

_COMMA, _MINUS, _PLUS, _DOT, _ZERO, _E, _OPEN, _CLOSE, _QUOTE, _OBJECT_END = b',-+.0e[]"}'
_SPACE, _TAB, _LINE_FEED, _RETURN = b" \t\n\r"

# 10^power as a float64, and the rest that the float64 lacks.
_TENS = np.array([float(10**power) for power in range(MAX_POWER + 1)])
_TENS_REST = np.array([float(10**power - int(float(10**power))) for power in range(MAX_POWER + 1)])
_INTEGER_TENS = np.array([10**power for power in range(9)], np.uint64)

# Indices are unsigned: numba would test a signed one for counting from the end.
_ONE, _EIGHT = np.uint64(1), np.uint64(8)
_LOW_BITS, _HIGH_BITS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
_ZEROS, _ABOVE_NINE = np.uint64(0x3030303030303030), np.uint64(0x7676767676767676)
_PAIRS = np.uint64(0x000000FF000000FF)
_PAIR_1_AND_3, _PAIR_2_AND_4 = np.uint64(100 + (1_000_000 << 32)), np.uint64(1 + (10_000 << 32))


def read_numbers(
    text: np.ndarray[Any, np.dtype[np.uint8]], start: int
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], int] | None:
    """Read an array of numbers, or of rows of numbers of equal length, and return it with the index behind it.

    Args:
        text: (bytes,) contiguous and read-only; for other arrays the code would be compiled again.
        start: Index of the array's opening bracket.

    Returns:
        (N,) or (N, C). None if anything is unusual or wrong, and if the text does not end with a closing brace, which
        up to 15 bytes of whitespace may follow.
    """
    last = last_brace(text)
    if last is None or last <= start:
        return None
    numbers = np.empty(most_numbers(text, start))
    count, columns, end = _read_array(text, start, last, numbers)
    if count == 0:
        return None
    numbers.resize(count, refcheck=False)
    return (numbers.reshape(-1, columns) if columns else numbers), end


def last_brace(text: np.ndarray[Any, np.dtype[np.uint8]]) -> int | None:
    """Index of the closing brace at the end of a text, which up to 15 bytes of whitespace may follow; None without."""
    tail = text[-TAIL:].tobytes()
    last = len(text) - len(tail) + len(tail.rstrip(b" \t\n\r")) - 1
    return last if last >= 0 and text[last] == _OBJECT_END else None


@compiled(**SCANNER_OPTIONS)
def most_numbers(text: Any, start: int) -> int:
    """An upper bound for the number of values: one more than the commas up to the next string."""
    commas, place = 0, start
    while place < len(text):
        block = text[place : place + BLOCK]
        quotes = 0
        for byte in block:
            commas += byte == _COMMA
            quotes += byte == _QUOTE
        place = len(text) if quotes else place + BLOCK
    return commas + 1


@compiled(cpu_compile, **SCANNER_OPTIONS)
def _read_array(text: Any, start: int, last: int, numbers: Any) -> tuple[int, Any, Any]:
    """Fill `numbers`; return their count, the length of a row (0 without rows), and the index behind the array.

    Returns zeros where `read_numbers` returns None. `last` is the index of a closing brace behind `start`. No other
    bound is checked: every loop stops at that brace, and no step passes it.
    """
    nothing = (0, 0, 0)
    usual_until = np.uint64(max(last - LOOKAHEAD, 0))
    # `row` is the count at the end of the last row.
    count, row, columns, all_exact = 0, 0, 0, True
    place = skip_spaces(text, np.uint64(start) + _ONE)
    nested = text[place] == _OPEN
    if nested:
        place = skip_spaces(text, place + _ONE)
    while count < len(numbers):
        negative = text[place] == _MINUS
        place += np.uint64(negative)
        significand, power, end = read_usual(text, place) if place < usual_until else (0, -1, place)
        if power < 0:
            significand, power, end, is_integer = read_any(text, place)
            if power < 0:
                return nothing
            # simdjson and Python have no integer -0.
            negative &= significand != 0 or not is_integer
        number, exact = divide(significand, power)
        numbers[count] = -number if negative else number
        all_exact &= exact
        count += 1
        place = skip_spaces(text, end)
        if text[place] == _CLOSE and nested:
            columns = columns if row else count
            if count - row != columns:
                return nothing
            row = count
            place = skip_spaces(text, place + _ONE)
            if text[place] == _COMMA:
                place = skip_spaces(text, place + _ONE)
                if text[place] != _OPEN:
                    return nothing
                place = skip_spaces(text, place + _ONE)
                continue
        if text[place] == _CLOSE:
            return (count, columns, np.int64(place + _ONE)) if all_exact else nothing
        if text[place] != _COMMA or row == count:
            return nothing
        place = skip_spaces(text, place + _ONE)
    return nothing


@inlined
def read_usual(text: Any, place: Any) -> Any:
    """Read one or two digits, a dot and 1 to 18 digits: the digits as an integer, how many follow the dot, the end.

    The power is -1 if the text at `place` is anything else.
    """
    nothing = 0, -1, place
    first, second = text[place] - np.uint8(_ZERO), text[place + _ONE] - np.uint8(_ZERO)
    has_two = second <= 9
    place += np.uint64(1 + has_two)
    if text[place] != _DOT or first > 9 or (has_two and first == 0):
        return nothing
    place += _ONE
    significand = np.uint64(first) * np.uint64(10) + np.uint64(second) if has_two else np.uint64(first)
    value, count = _eight_digits(text, place)
    significand = significand * _INTEGER_TENS[count] + value
    decimals = count
    if count == _EIGHT:
        value, count = _eight_digits(text, place + _EIGHT)
        significand = significand * _INTEGER_TENS[count] + value
        value, more = _eight_digits(text, place + _EIGHT + _EIGHT)
        # The third word counts only if the second one is full.
        value, more = (value, more) if count == _EIGHT else (np.uint64(0), np.uint64(0))
        significand = significand * _INTEGER_TENS[more] + value
        decimals += count + more
    place += decimals
    too_many = decimals + np.uint64(has_two) + np.uint64(first > 0) > np.uint64(MAX_DIGITS)
    if (decimals == 0) | too_many | (text[place] | 0x20 == _E):
        return nothing
    return np.int64(significand), np.int64(decimals), place


@inlined
def _eight_digits(text: Any, place: Any) -> Any:
    """The value of the digits at `place`, at most eight of them, and their count."""
    word = _word(text, place) ^ _ZEROS
    # The lowest bit of the first byte that is not a digit; 0 if all eight are digits.
    others = ((word + _ABOVE_NINE) | word) & _HIGH_BITS
    stop = (others & (np.uint64(0) - others)) >> np.uint64(7)
    count = (((stop - _ONE) & _LOW_BITS) * _LOW_BITS) >> np.uint64(56)
    # Move the digits to the end of the word, behind zeros. A shift by 64 is undefined.
    digits = word << ((np.uint64(64) - _EIGHT * count) & np.uint64(63)) if count > 0 else np.uint64(0)
    # Digits to pairs, then all four pairs to one number.
    pairs = digits * np.uint64(10) + (digits >> _EIGHT)
    high, low = (pairs & _PAIRS) * _PAIR_1_AND_3, ((pairs >> np.uint64(16)) & _PAIRS) * _PAIR_2_AND_4
    return (high + low) >> np.uint64(32), count


@inlined
def _word(text: Any, place: Any) -> Any:
    """Eight bytes as an integer, the first one lowest; LLVM turns this into one load."""
    return (
        np.uint64(text[place])
        | np.uint64(text[place + np.uint64(1)]) << np.uint64(8)
        | np.uint64(text[place + np.uint64(2)]) << np.uint64(16)
        | np.uint64(text[place + np.uint64(3)]) << np.uint64(24)
        | np.uint64(text[place + np.uint64(4)]) << np.uint64(32)
        | np.uint64(text[place + np.uint64(5)]) << np.uint64(40)
        | np.uint64(text[place + np.uint64(6)]) << np.uint64(48)
        | np.uint64(text[place + np.uint64(7)]) << np.uint64(56)
    )


@inner
def read_any(text: Any, place: Any) -> Any:
    """Read any JSON number byte by byte, from behind its sign.

    Returns:
        An integer, the power of ten to divide it by, the end, and whether the number is written as an integer. The
        power is -1 if there is no number, or if it does not fit into this form.
    """
    nothing = 0, -1, place, False
    begin, is_integer = place, True
    significand: Any = 0
    exponent: Any = 0
    digits, decimals = 0, 0
    while _is_digit(text[place]) or (text[place] == _DOT and is_integer and place > begin):
        if text[place] == _DOT:
            is_integer = False
        else:
            significand = significand * 10 + np.int64(text[place] - np.uint8(_ZERO))
            digits += digits > 0 or text[place] != _ZERO
            decimals += not is_integer
        place += _ONE
    if place == begin or text[place - _ONE] == _DOT or (text[begin] == _ZERO and _is_digit(text[begin + _ONE])):
        return nothing
    if text[place] | 0x20 == _E:
        is_integer = False
        place += _ONE
        below = text[place] == _MINUS
        place += np.uint64(below or text[place] == _PLUS)
        if not _is_digit(text[place]):
            return nothing
        while _is_digit(text[place]):
            exponent = min(exponent * 10 + np.int64(text[place] - np.uint8(_ZERO)), 1000)
            place += _ONE
        decimals += exponent if below else -exponent
    while decimals < 0 and digits <= MAX_DIGITS:
        significand, digits, decimals = significand * 10, digits + 1, decimals + 1
    return (significand, decimals, place, is_integer) if digits <= MAX_DIGITS and decimals <= MAX_POWER else nothing


@inlined
def divide(significand: int, power: int) -> Any:
    """The float64 nearest to significand / 10^power, and whether it is known to be the nearest.

    `quotient` is the float64 division; `rest` is what it lacks. Both the significand and 10^power are given as a sum of
    two floats. The remainder `high - quotient * ten` is exact, and the other terms are below 2^-52 of the quotient
    with a relative error below 2^-50, so quotient + rest errs by less than 2^-98 of the quotient. If adding and
    subtracting that much rounds to one float, the exact value rounds to it too. Otherwise it is too close to a tie.
    """
    ten, ten_rest = _TENS[np.uint64(power)], _TENS_REST[np.uint64(power)]
    high = np.float64(significand)
    low = np.float64(significand - np.int64(high))
    quotient = high / ten
    # Dekker's product: quotient * ten = product + error, exactly.
    product = quotient * ten
    (a, b), (c, d) = _halves(quotient), _halves(ten)
    error = ((a * c - product) + a * d + b * c) + b * d
    rest = (((high - product) - error) + (low - quotient * ten_rest)) / ten
    slack = quotient * 2.0**-98
    number = quotient + (rest + slack)
    return number, number == quotient + (rest - slack)


@inlined
def _halves(x: float) -> Any:
    """Split a float64 into two of 26 bits, whose products are exact (Veltkamp)."""
    scaled = x * (2.0**27 + 1)
    high = scaled - (scaled - x)
    return high, x - high


@inlined
def _is_digit(byte: Any) -> Any:
    return byte - np.uint8(_ZERO) <= 9


@inlined
def _is_space(byte: Any) -> Any:
    return (byte == _SPACE) | (byte == _TAB) | (byte == _LINE_FEED) | (byte == _RETURN)


@inlined
def skip_spaces(text: Any, place: Any) -> Any:
    """The index of the next byte that is not a space; the usual cases, none and one space, come first."""
    if text[place] == _SPACE:
        place += _ONE
    while text[place] <= _SPACE and _is_space(text[place]):
        place += _ONE
    return place
