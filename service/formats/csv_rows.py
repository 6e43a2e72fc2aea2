"""CSV as Arrow record batches: logits as float64 or lists of it, other columns as text; every error names its row.

Types are not inferred, because the first rows do not determine the types of later ones.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv

from service.formats.chunk_files import chunk_file
from service.formats.column_names import ResolvedColumns
from service.formats.columns import ColumnError, NotANumberError
from service.formats.csv_dialect import ByteSource, Dialect, read_header, utf8_file
from service.formats.csv_values import CsvNumbers, lists_of_texts

PARSE_ERROR = re.compile(r"(?:In CSV column #(\d+)|CSV parse error): Row #(\d+): (.*)", re.DOTALL)
NOT_A_NUMBER = re.compile(r"CSV conversion error to double: invalid value '(.*)'", re.DOTALL)
NOT_UTF8 = "; the text is not UTF-8: declare its encoding as charset"
REWRITTEN_ROWS = 10_000


@dataclass(frozen=True, eq=False)
class CsvFile:
    """A CSV file after its header line.

    Args:
        header: The names in the first line, without spaces around them.
        dialect: Separator and spaces.
        lines: The file at its first row.
    """

    header: list[str]
    dialect: Dialect
    lines: BinaryIO


def open_csv(
    source: ByteSource,
    fits: Callable[[Sequence[str]], bool],
    *,
    encoding: str | None = None,
    separator: str | None = None,
) -> CsvFile:
    """Open a CSV file of any dialect, and read its header line.

    Args:
        source: Begins at the first line.
        fits: True if these names include the needed columns; it tells the separator.
        encoding: The declared encoding (`encoding_of`); None: by the byte order mark, else UTF-8.
        separator: The declared separator (`separator_of`); None: by the header line.

    Raises:
        DialectError: The first line is not CSV, or ambiguous.
        UnicodeDecodeError: The bytes are not of the encoding.
    """
    lines = utf8_file(source, encoding)
    header, dialect = read_header(lines, fits, separator)
    return CsvFile(header, dialect, lines)


def csv_rows(file: CsvFile, columns: ResolvedColumns) -> Iterator[pa.RecordBatch]:
    """Read selected columns of a CSV file, block by block.

    Raises:
        ColumnError: A value is not a number, or a line has more or fewer values than the header.
    """
    direct = columns.logits if len(columns.logits) > 1 and not file.dialect.decimal_comma else ()
    types = dict.fromkeys(columns.all, pa.string()) | dict.fromkeys(direct, pa.float64())
    convert = pyarrow.csv.ConvertOptions(include_columns=columns.all, column_types=types, null_values=[""])
    # With several threads, errors do not name the row.
    read = pyarrow.csv.ReadOptions(use_threads=False, column_names=file.header)
    # A value may be a text of several lines.
    separator = "," if file.dialect.spaces else file.dialect.separator
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True, delimiter=separator)
    lines = chunk_file(_rewritten(file.lines, file.dialect.separator)) if file.dialect.spaces else file.lines
    numbers, first_row = CsvNumbers(file.dialect), 0
    try:
        for batch in pyarrow.csv.open_csv(
            pa.PythonFile(lines, mode="r"), read_options=read, parse_options=parse, convert_options=convert
        ):
            yield _converted(batch, columns, direct, numbers, first_row)
            first_row += len(batch)
    except pa.ArrowInvalid as err:
        # A file without rows is valid here, but not for pyarrow.
        if str(err) != "Empty CSV file":
            raise _error(str(err), file.header) from err


def _converted(
    batch: pa.RecordBatch, columns: ResolvedColumns, direct: Sequence[str], numbers: CsvNumbers, first_row: int
) -> pa.RecordBatch:
    """The batch with numbers in the columns of logits that were read as text, and with lists of labels."""
    arrays = dict(zip(batch.schema.names, batch.columns, strict=True))
    for name in columns.numbers if not direct else ():
        read = numbers.numbers if len(columns.logits) > 1 else numbers.lists_or_numbers
        arrays[name] = read(arrays[name], name, first_row)
    lists = lists_of_texts(arrays[columns.targets])
    if lists is not None:
        arrays[columns.targets] = lists
    return pa.record_batch(arrays)


def _rewritten(lines: BinaryIO, separator: str) -> Iterator[bytes]:
    """CSV with spaces after its separators, written anew with commas: pyarrow cannot skip spaces before a quote.

    Raises:
        ColumnError: A line is not CSV.
    """
    cells = csv.reader((line.decode() for line in lines), delimiter=separator, skipinitialspace=True)
    rows = filter(None, cells)
    while True:
        text = io.StringIO()
        try:
            csv.writer(text).writerows(islice(rows, REWRITTEN_ROWS))
        except csv.Error as err:
            raise ColumnError(f"line {cells.line_num} after the header: {err}", None, None) from err
        if not text.tell():
            return
        yield text.getvalue().encode()


def _error(text: str, header: list[str]) -> ColumnError:
    """Convert an error of pyarrow, which counts rows from 1."""
    match = PARSE_ERROR.search(text)
    if match is None:
        return ColumnError(text, None, None)
    row, column = int(match[2]) - 1, header[int(match[1])] if match[1] else None
    number = NOT_A_NUMBER.match(match[3])
    if number is not None:
        return NotANumberError(f"{number[1][:100]!r} is not a number", row, column)
    return ColumnError(match[3] + (NOT_UTF8 if "invalid UTF8" in match[3] else ""), row, column)
