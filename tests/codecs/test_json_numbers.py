"""Numbers in a text equal the result of Python's `float` to the last bit."""

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

# The text around an array: long enough that the usual code reads its last number too.
BEFORE, BEHIND = '{"logits": ', " " * LOOKAHEAD + "}"
MANY = 300


def read(array: str, before: str = BEFORE, behind: str = BEHIND) -> Any:
    """Read an array; check that reading every number byte by byte, at the end of a text, gives the same."""
    text = np.frombuffer((before + array + behind).encode(), np.uint8)
    result, alone = read_numbers(text, len(before)), read_numbers(np.frombuffer((array + "}").encode(), np.uint8), 0)
    if result is None or alone is None:
        assert result is alone
        return None
    assert alone[1] == result[1] - len(before)
    assert bits(alone[0]) == bits(result[0])
    assert (before + array + behind)[: result[1]].rstrip().endswith("]")
    return result[0]


def bits(values: Any) -> list[int]:
    return list(np.asarray(values, np.float64).ravel().view(np.uint64))


def expected(number: str) -> float:
    """The result of `float`; an integer 0 has no sign."""
    return float(number) if set(number) & set(".eE") else float(int(number))


def is_tie(number: str) -> bool:
    """True if the number is exactly in the middle between two floats; the scanner leaves those to simdjson."""
    value, nearest = Fraction(number), float(number)
    others = (math.nextafter(nearest, math.inf), math.nextafter(nearest, -math.inf))
    return any(2 * value == Fraction(nearest) + Fraction(other) for other in others)


def check_exact(numbers: list[str]) -> None:
    result = read(f"[{', '.join(numbers)}]")
    if any(map(is_tie, numbers)):
        assert result is None
    else:
        assert result is not None, numbers
        assert bits(result) == bits(list(map(expected, numbers))), numbers


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
    check_exact(numbers)


@at_most(200, deadline=None)
@given(st.lists(st.floats(1e-80, 1e15) | st.floats(-1e15, -1e-80) | st.just(-0.0), min_size=1, max_size=40))
def test_floats_as_python_writes_them(values: list[float]) -> None:
    assert bits(read(json.dumps(values))) == bits(values)


@at_most(200, deadline=None)
@given(st.integers(0, 2**64 - 1).map(from_bits).filter(math.isfinite))
def test_any_float_is_exact_or_left_to_simdjson(value: float) -> None:
    result = read(json.dumps([value]))
    if result is None:
        assert not 1e-80 < abs(value) < 1e15 or is_tie(repr(value))
    else:
        assert bits(result) == bits(value)


@at_most(200, deadline=None)
@given(st.integers(2**52, 2**53 - 1), st.integers(-120, 4), st.sampled_from([-1, 0, 1]), st.integers(16, 18))
def test_near_the_middle_between_two_floats(mantissa: int, exponent: int, step: int, count: int) -> None:
    middle = Fraction(2 * mantissa + 1) * Fraction(2) ** (exponent - 1)
    power = math.floor(math.log10(middle)) + 1 - count
    number = f"{int(middle / Fraction(10) ** power) + step}e{power}"
    check_exact([number if len(number.partition("e")[0]) <= MAX_DIGITS else "1"])


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
def test_difficult_numbers(number: str) -> None:
    for numbers in ([number], [number, "1.5"], ["1.5", number], [number] * 100):
        check_exact(numbers)


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
def test_invalid_numbers_are_left_to_simdjson(number: str) -> None:
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
def test_unusual_numbers_are_left_to_simdjson(number: str) -> None:
    assert read(f"[1.5, {number}]") is None


@pytest.mark.parametrize(
    "array",
    [
        *("", "[", "[]", "[[]]", "[[], []]", "[[1], []]", "[[1], [1, 2]]", "[[1, 2], [3]]", "[[1], 2]", "[1, [2]]"),
        *("[[[1]]]", "[1", "[1,", "[[1]", "[[1],", "[[1],[", "[[1] [2]]", "[[1]; [2]]", "[1}", "[1)", "[[1,], [2]]"),
        "[[1, 2], [3, 4],]",
    ],
)
def test_other_arrays_are_left_to_simdjson(array: str) -> None:
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
    result = read(array)
    assert result.shape == shape
    assert result.tolist() == json.loads(array)


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
    result = read(f"[{gap[4]}" + f"{gap[5]},{gap[2]}".join(lines) + f"{gap[6]}]")
    assert result.shape == (rows, columns)
    assert bits(result) == bits(list(map(expected, values)))


def test_reads_no_byte_after_the_text() -> None:
    text = "[" + ", ".join(["-1.25"] * 50) + "]"
    for length in range(len(text)):
        # Cut anywhere, with a brace at the end or not, and with digits in the memory behind it.
        for end in (b"", b"}"):
            whole = np.frombuffer(text[:length].encode() + end + b"5" * 100, np.uint8)
            assert read_numbers(whole[: length + len(end)], 0) is None
    whole = np.frombuffer(text.encode() + b"}" + b"5" * 100, np.uint8)
    result = read_numbers(whole[: len(text) + 1], 0)
    assert result is not None
    assert (result[0].tolist(), result[1]) == ([-1.25] * 50, len(text))


@pytest.mark.parametrize(
    ("tail", "is_read"),
    [("}", True), ("} \n", True), ("}" + " " * 100, False), ("", False), ("]", False), ("}x", False)],
)
def test_text_must_end_with_a_brace(tail: str, is_read: bool) -> None:
    result = read_numbers(np.frombuffer(f"[1.5, 2]{tail}".encode(), np.uint8), 0)
    assert (result is not None) == is_read


def test_warm_up_compiles_the_scanner() -> None:
    create_app(Settings(device="cpu")).state.service.close()
    functions = json_numbers.most_numbers, json_numbers._read_array
    assert [len(function.signatures) for function in functions] == [1, 1]
    result = read_numbers(np.frombuffer(b"[[1.5, 2], [3, 4]]}", np.uint8), 0)
    assert result is not None
    assert result[0].tolist() == [[1.5, 2], [3, 4]]
    assert [len(function.signatures) for function in functions] == [1, 1]
