"""CSV as Arrow record batches: logits and targets as float64, other columns as text; every error names its row.

Types are not inferred, because the first rows do not determine the types of later ones.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv

from service.formats.columns import ColumnError, NotANumberError, ResolvedColumns

PARSE_ERROR = re.compile(r"(?:In CSV column #(\d+)|CSV parse error): Row #(\d+): (.*)", re.DOTALL)
NOT_A_NUMBER = re.compile(r"CSV conversion error to double: invalid value '(.*)'", re.DOTALL)


def header_of(line: bytes) -> list[str]:
    """The names in the first line of a CSV file.

    Raises:
        ValueError: The line is not UTF-8, or not CSV.
    """
    try:
        return next(csv.reader([line.decode("utf-8-sig")]), [])
    except csv.Error as err:
        raise ValueError(f"the first line: {err}") from err


def csv_rows(source: BinaryIO, header: list[str], columns: ResolvedColumns) -> Iterator[pa.RecordBatch]:
    """Read selected columns of a CSV file, block by block.

    Args:
        source: Begins at the first line.
        header: The names in the first line.
        columns: The columns to read.

    Raises:
        ColumnError: A value is not a number, or a line has more or fewer values than the header.
    """
    types = dict.fromkeys(columns.all, pa.string())
    types |= dict.fromkeys((*columns.logits, columns.targets), pa.float64())
    convert = pyarrow.csv.ConvertOptions(include_columns=columns.all, column_types=types, null_values=[""])
    # With several threads, errors do not name the row.
    read = pyarrow.csv.ReadOptions(use_threads=False)
    # A value may be a text of several lines.
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    file = pa.PythonFile(source, mode="r")
    try:
        yield from pyarrow.csv.open_csv(file, read_options=read, parse_options=parse, convert_options=convert)
    except pa.ArrowInvalid as err:
        raise _error(str(err), header) from err


def _error(text: str, header: list[str]) -> ColumnError:
    """Convert an error of pyarrow, which counts the header as row 1."""
    match = PARSE_ERROR.search(text)
    if match is None:
        return ColumnError(text, None, None)
    row, column = int(match[2]) - 2, header[int(match[1])] if match[1] else None
    number = NOT_A_NUMBER.match(match[3])
    if number is not None:
        return NotANumberError(f"{number[1][:100]!r} is not a number", row, column)
    return ColumnError(match[3], row, column)
