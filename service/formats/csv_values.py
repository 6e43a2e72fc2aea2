"""Numbers in the cells of a CSV file: decimal commas, and lists in one cell."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from service.formats.columns import ColumnError, NotANumberError
from service.formats.csv_dialect import Dialect

BRACKETS = "[](){} \t\r\n"
# A list as Python, NumPy, JSON, DuckDB and PostgreSQL write it.
IS_LIST = r"^\s*[\[({].*[\])}]\s*$"
IS_NUMBER = r"^[+-]?[\d.]"
QUOTES = "'\""
BETWEEN = r"\s*,\s*|\s+"


class CsvNumbers:
    """Converts cells to numbers; the first decimal mark of a file is the only one in it.

    Args:
        dialect: Tells whether a comma can be a decimal mark.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._decimal_comma = dialect.decimal_comma
        self._mark: str | None = None

    def numbers(self, texts: pa.Array, name: str, first_row: int) -> pa.Array:
        """The numbers in cells, null for an empty one.

        Args:
            texts: The cells.
            name: Name of the column.
            first_row: Row of the first cell in the file.

        Raises:
            NotANumberError: A cell has no number; names the row.
            ColumnError: A cell has another decimal mark than the cells before.
        """
        texts = pc.utf8_trim_whitespace(texts)
        texts = pc.if_else(pc.equal(texts, ""), None, texts)
        if self._decimal_comma:
            self._check_mark(texts, name, first_row)
            texts = pc.replace_substring(texts, ",", ".")
        return _as_float64(texts, name, first_row)

    def lists_or_numbers(self, texts: pa.Array, name: str, first_row: int) -> pa.Array:
        """The lists in cells; the numbers if no cell has a list. See `numbers`.

        Values of a list are separated by semicolons, else by commas or spaces. Without brackets a comma separates them
        only if it cannot be a decimal mark.
        """
        in_brackets = pc.match_substring_regex(texts, f"(?s){IS_LIST}")
        plain = pc.utf8_trim(texts, BRACKETS)
        semicolons = pc.match_substring(plain, ";")
        separated = semicolons if self._decimal_comma else pc.match_substring_regex(plain, r"[;,\s]")
        if not pc.any(pc.or_(in_brackets, separated)).as_py():
            return self.numbers(texts, name, first_row)
        plain = pc.if_else(pc.equal(pc.utf8_trim_whitespace(texts), ""), None, plain)
        is_semicolon = pc.any(semicolons).as_py()
        parts = pc.split_pattern(plain, ";") if is_semicolon else pc.split_pattern_regex(plain, f"(?s){BETWEEN}")
        rows = pc.list_parent_indices(parts)
        values = pc.utf8_trim_whitespace(parts.values)
        values = pc.replace_substring(values, ",", ".") if is_semicolon else values
        return _lists(parts, _as_float64(values, name, first_row, rows))

    def _check_mark(self, texts: pa.Array, name: str, first_row: int) -> None:
        for mark, other in ((",", "."), (".", ",")):
            found = pc.match_substring(texts, mark)
            if not pc.any(found).as_py():
                continue
            self._mark = self._mark or mark
            if self._mark != mark:
                row = found.index(True).as_py()
                value = texts[row].as_py()[:100]
                msg = f"{value!r} has the decimal mark {mark!r}, other numbers of the file have {other!r}"
                raise ColumnError(msg, first_row + row, name)


def lists_of_texts(texts: pa.Array) -> pa.Array | None:
    """The lists of labels in cells, as texts; None if a cell is no list in brackets.

    A single text in brackets, such as `[unknown]`, is no list.
    """
    if not len(texts) or not pc.all(pc.match_substring_regex(texts, f"(?s){IS_LIST}")).as_py():
        return None
    parts = pc.split_pattern_regex(pc.utf8_trim(texts, BRACKETS), r"(?s)\s*[,;]\s*|\s+")
    items = pc.utf8_trim(parts.values, QUOTES)
    if (
        pc.max(pc.list_value_length(parts)).as_py() == 1
        and not pc.all(pc.match_substring_regex(items, IS_NUMBER)).as_py()
    ):
        return None
    return _lists(parts, items)


def _lists(parts: pa.ListArray, values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(parts.offsets, values, mask=parts.is_null() if parts.null_count else None)


def _as_float64(texts: pa.Array, name: str, first_row: int, rows: pa.Array | None = None) -> pa.Array:
    """The numbers; `rows` has the row of each text, if a row has several."""
    try:
        return texts.cast(pa.float64())
    except pa.ArrowInvalid:
        for position, text in enumerate(texts):
            try:
                pa.array([text.as_py()], pa.string()).cast(pa.float64())
            except pa.ArrowInvalid as err:
                row = position if rows is None else rows[position].as_py()
                value = text.as_py()
                hint = ": a cell holds one list, and CSV no layout but rows" if set(value) & set(BRACKETS[:6]) else ""
                raise NotANumberError(f"{value[:100]!r} is not a number{hint}", first_row + row, name) from err
        raise
