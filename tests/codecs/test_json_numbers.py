"""Numbers that are read from a text: each the float64 that Python's `float` makes of it, to the last bit."""

from __future__ import annotations

import json
import math
import struct
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.app import create_app
from service.codecs import json_numbers
from service.codecs.json_numbers import LOOKAHEAD, MAX_DIGITS, MAX_POWER, read_numbers
from service.settings import Settings
from tests.strategies import at_most

# What stands around an array: enough behind it that its last number too is read in the usual way.
BEFORE, BEHIND = '{"logits": ', " " * LOOKAHEAD + "}"
MANY = 300


def read(array: str, before: str = BEFORE, behind: str = BEHIND) -> Any:
    """Read an array; check that reading every number byte by byte, at the end of a text, gives the same."""
    text = np.frombuffer((before + array + behind).encode(), np.uint8)
    found, alone = read_numbers(text, len(before)), read_numbers(np.frombuffer((array + "}").encode(), np.uint8), 0)
    if found is None or alone is None:
        assert found is alone
        return None
    assert alone[1] == found[1] - len(before)
    assert bits(alone[0]) == bits(found[0])
    assert (before + array + behind)[: found[1]].rstrip().endswith("]")
    return found[0]


def bits(values: Any) -> list[int]:
    return list(np.asarray(values, np.float64).ravel().view(np.uint64))


def wanted(number: str) -> float:
    """The result of `float`; an integer 0 has no sign."""
    return float(number) if set(number) & set(".eE") else float(int(number))


def is_tie(number: str) -> bool:
    """True if the number is exactly in the middle between two floats; the scanner leaves those to simdjson."""
    value, nearest = Fraction(number), float(number)
    others = (math.nextafter(nearest, math.inf), math.nextafter(nearest, -math.inf))
    return any(2 * value == Fraction(nearest) + Fraction(other) for other in others)


def right(numbers: list[str]) -> None:
    found = read(f"[{', '.join(numbers)}]")
    if any(map(is_tie, numbers)):
        assert found is None
    else:
        assert found is not None, numbers
        assert bits(found) == bits(list(map(wanted, numbers))), numbers


def from_bits(pattern: int) -> float:
    value: float = struct.unpack("<d", struct.pack("<Q", pattern))[0]
    return value


digits = st.text("0123456789", min_size=1, max_size=MAX_DIGITS)
signs = st.sampled_from(["", "-"])
below, above = st.sampled_from(["e-", "E-"]), st.sampled_from(["e", "E", "e+", "E+"])


@st.composite
def decimals(draw: st.DrawFn) -> str:
    """A number of at most 18 digits, with or without a dot and an exponent."""
    text = draw(digits)
    dot = draw(st.integers(0, len(text)))
    whole, behind = text[:dot].lstrip("0") or "0", text[dot:]
    number = draw(signs) + whole + (f".{behind}" if behind else "")
    if draw(st.booleans()):
        zeros = draw(st.sampled_from(["", "0", "00"]))
        if draw(st.booleans()):
            number += draw(below) + zeros + str(draw(st.integers(0, 70)))
        else:
            number += draw(above) + zeros + str(draw(st.integers(0, MAX_DIGITS - len(text))))
    return number


@at_most(200, deadline=None)
@given(st.lists(decimals(), min_size=1, max_size=40))
def test_decimals(numbers: list[str]) -> None:
    right(numbers)


@at_most(200, deadline=None)
@given(st.lists(st.floats(1e-80, 1e15) | st.floats(-1e15, -1e-80) | st.just(-0.0), min_size=1, max_size=40))
def test_floats_as_python_writes_them(values: list[float]) -> None:
    assert bits(read(json.dumps(values))) == bits(values)


@at_most(200, deadline=None)
@given(st.integers(0, 2**64 - 1).map(from_bits).filter(math.isfinite))
def test_any_float_is_right_or_left_to_others(value: float) -> None:
    found = read(json.dumps([value]))
    if found is None:
        assert not 1e-80 < abs(value) < 1e15 or is_tie(repr(value))
    else:
        assert bits(found) == bits(value)


@at_most(200, deadline=None)
@given(st.integers(2**52, 2**53 - 1), st.integers(-120, 4), st.sampled_from([-1, 0, 1]), st.integers(16, 18))
def test_near_the_middle_between_two_floats(mantissa: int, exponent: int, step: int, count: int) -> None:
    middle = Fraction(2 * mantissa + 1) * Fraction(2) ** (exponent - 1)
    power = math.floor(math.log10(middle)) + 1 - count
    number = f"{int(middle / Fraction(10) ** power) + step}e{power}"
    right([number if len(number.partition("e")[0]) <= MAX_DIGITS else "1"])


@pytest.mark.parametrize(
    "number",
    [
        # Hard for parsers that compute 64 or 128 bits of the product.
        "7.2057594037927933e16",
        "9007199254740993e-1",
        "1.7976931348623157e-20",
        "6.63123687146975828e-16",
        "3.23788391330290129e-15",
        "8.589934593e-9",
        "1448997445238699e-30",
        "8511030020275656e-21",
        "90071992547409.1499",
        "0.000000000000000000001",
        "999999999999999999e-18",
        "0.999999999999999999",
        "99.9999999999999999",
        "12345678.1234567891",
        "123456789.123456789",
        "0.00000000123456789012345678",
        "999999999999999999",
        "-0",
        "-0.0",
        "-0e5",
        "0e18",
        "1e17",
    ],
)
def test_hard_ones(number: str) -> None:
    for numbers in ([number], [number, "1.5"], ["1.5", number], [number] * 100):
        right(numbers)


@pytest.mark.parametrize(
    "number",
    [
        *(
            "",
            "-",
            "+1",
            ".5",
            "5.",
            "-.5",
            "1.e5",
            "1e",
            "1e+",
            "1E-",
            "01",
            "-01",
            "00",
            "00.5",
            "1.2.3",
            "1..2",
            "1-2",
        ),
        *("1e5.5", "1e5e5", "--1", "- 1", "1 2", "0x1", "1_0", "NaN", "Infinity", "null", "true", '"1"', "{}", "[]"),
        *("1/2", "1:2", "1\0", "1\f", "\u00a01", "1;", "e5", "-e5", "1.-5", "1.e", ".", "-.", "1,", ",1", "1,,2"),
    ],
)
def test_what_is_no_number_is_left_to_others(number: str) -> None:
    for array in (f"[{number}]", f"[1.5, {number}]", f"[{number}, 1.5]", f"[[{number}]]", f"[[1.5], [{number}]]"):
        assert read(array) is None, array


@pytest.mark.parametrize(
    "number",
    [
        "12345678901234567890",
        "1234567890123456789",
        "12345678.12345678901",
        "0.1234567890123456789",
        "99.99999999999999999",
        "1e18",
        "0e19",
        "-9223372036854775809",
        "1.2345678901234567890123",
        f"1e{MAX_POWER + 1}",
        f"1e-{MAX_POWER + 1}",
        "1e400",
        "1e-400",
        "9007199254740993",
        "-9007199254740993.0",
        "4503599627370496.5",
        "50100e17",
        "1e23",
        "0e101",
        "1" * 400,
        "1e" + "9" * 400,
    ],
)
def test_numbers_that_need_more_care_are_left_to_others(number: str) -> None:
    assert read(f"[1.5, {number}]") is None


@pytest.mark.parametrize(
    "array",
    [
        *("", "[", "[]", "[[]]", "[[], []]", "[[1], []]", "[[1], [1, 2]]", "[[1, 2], [3]]", "[[1], 2]", "[1, [2]]"),
        *("[[[1]]]", "[1", "[1,", "[[1]", "[[1],", "[[1],[", "[[1] [2]]", "[[1]; [2]]", "[1}", "[1)", "[[1,], [2]]"),
        "[[1, 2], [3, 4],]",
    ],
)
def test_what_is_no_array_of_numbers_is_left_to_others(array: str) -> None:
    assert read(array) is None
    assert read(array, behind="") is None


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        ("[1]", (1,)),
        ("[[1]]", (1, 1)),
        ("[1,2 ,3\n,\t-4]", (4,)),
        (" [ [ 1 , 2 ]\r\n, [3,  -4 ] ] "[1:], (2, 2)),
        ("[[1],[2],[-3],[4]]", (4, 1)),
        ("[" + ", ".join(["1.5"] * (2 * MANY)) + "]", (2 * MANY,)),
        ("[" + ", ".join(["[1.5, -2]"] * MANY) + "]", (MANY, 2)),
        ("[" + ",".join(["-1e-5"] * (MANY + 1)) + "]", (MANY + 1,)),
    ],
)
def test_shapes(array: str, shape: tuple[int, ...]) -> None:
    found = read(array)
    assert found.shape == shape
    assert found.tolist() == json.loads(array)


@at_most(100, deadline=None)
@given(st.data())
def test_rows_with_any_space_between(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 40))
    spaces = st.sampled_from(["", "", "", " ", " ", "\n", "  ", "\t", "\r\n", " " * 40])
    plain = decimals().filter(lambda number: not is_tie(number))
    values = data.draw(st.lists(plain, min_size=rows * columns, max_size=rows * columns))
    gap = [data.draw(spaces) for _ in range(7)] if data.draw(st.booleans()) else ["", "", " ", "", "", " ", ""]
    lines = [
        f"[{gap[0]}" + f"{gap[1]},{gap[2]}".join(values[row * columns : (row + 1) * columns]) + f"{gap[3]}]"
        for row in range(rows)
    ]
    found = read(f"[{gap[4]}" + f"{gap[5]},{gap[2]}".join(lines) + f"{gap[6]}]")
    assert found.shape == (rows, columns)
    assert bits(found) == bits(list(map(wanted, values)))


def test_nothing_behind_the_end_of_the_text_is_read() -> None:
    text = "[" + ", ".join(["-1.25"] * 50) + "]"
    for length in range(len(text)):
        # Cut anywhere, with a brace at the end or not, and with digits in the memory behind it.
        for end in (b"", b"}"):
            whole = np.frombuffer(text[:length].encode() + end + b"5" * 100, np.uint8)
            assert read_numbers(whole[: length + len(end)], 0) is None
    whole = np.frombuffer(text.encode() + b"}" + b"5" * 100, np.uint8)
    found = read_numbers(whole[: len(text) + 1], 0)
    assert found is not None
    assert (found[0].tolist(), found[1]) == ([-1.25] * 50, len(text))


@pytest.mark.parametrize(
    ("tail", "is_read"),
    [("}", True), ("} \n", True), ("}" + " " * 100, False), ("", False), ("]", False), ("}x", False)],
)
def test_the_text_ends_with_a_brace(tail: str, is_read: bool) -> None:
    found = read_numbers(np.frombuffer(f"[1.5, 2]{tail}".encode(), np.uint8), 0)
    assert (found is not None) == is_read


def test_it_is_compiled_before_the_first_request() -> None:
    create_app(Settings(device="cpu")).state.service.close()
    functions = json_numbers._most_numbers, json_numbers._read_array
    assert [len(function.signatures) for function in functions] == [1, 1]
    found = read_numbers(np.frombuffer(b"[[1.5, 2], [3, 4]]}", np.uint8), 0)
    assert found is not None
    assert found[0].tolist() == [[1.5, 2], [3, 4]]
    assert [len(function.signatures) for function in functions] == [1, 1]
