"""CSV as Arrow record batches: numbers as float64, all else as text, and every fault with its row.

Types guessed from the first rows would not fit a later one. Imports neither torch nor a codec, as
`service.formats.columns`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv

from service.formats.columns import ColumnError, NotANumberError, ResolvedColumns

FAULT = re.compile(r"(?:In CSV column #(\d+)|CSV parse error): Row #(\d+): (.*)", re.DOTALL)
NOT_A_NUMBER = re.compile(r"CSV conversion error to double: invalid value '(.*)'", re.DOTALL)


def header_of(line: bytes) -> list[str]:
    """The names in the first line of a CSV.

    Raises:
        ValueError: It is not UTF-8, or no line of a CSV.
    """
    try:
        return next(csv.reader([line.decode("utf-8-sig")]), [])
    except csv.Error as err:
        raise ValueError(f"the first line: {err}") from err


def csv_rows(source: BinaryIO, header: list[str], columns: ResolvedColumns) -> Iterator[pa.RecordBatch]:
    """The rows of a CSV with their wanted columns, block by block.

    Args:
        source: From its first line on.
        header: The names in that line.
        columns: Those that are wanted.

    Raises:
        ColumnError: A value that is no number, or a line with more or fewer values than the header.
    """
    types = dict.fromkeys(columns.all, pa.string())
    types |= dict.fromkeys((*columns.logits, columns.targets), pa.float64())
    convert = pyarrow.csv.ConvertOptions(include_columns=columns.all, column_types=types, null_values=[""])
    # One thread: only then does an error tell its row.
    read = pyarrow.csv.ReadOptions(use_threads=False)
    # A text of several lines is a value as well.
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    file = pa.PythonFile(source, mode="r")
    try:
        yield from pyarrow.csv.open_csv(file, read_options=read, parse_options=parse, convert_options=convert)
    except pa.ArrowInvalid as err:
        raise _error(str(err), header) from err


def _error(text: str, header: list[str]) -> ColumnError:
    """pyarrow counts the header as row 1."""
    fault = FAULT.search(text)
    if fault is None:
        return ColumnError(text, None, None)
    row, column = int(fault[2]) - 2, header[int(fault[1])] if fault[1] else None
    number = NOT_A_NUMBER.match(fault[3])
    if number is not None:
        return NotANumberError(f"{number[1][:100]!r} is no number", row, column)
    return ColumnError(fault[3], row, column)
