"""Raw cells of CSV: they join to the same text, and have the values that Python's `csv` reads."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cli.relabel.csv_records import Record, cell_of, cell_value, read_records
from service.formats.columns import ColumnError
from service.formats.csv_dialect import Dialect

# Python's writer quotes the characters of line ends only if they are those of its own.
STYLES = [(csv.QUOTE_MINIMAL, "\r\n"), (csv.QUOTE_ALL, "\r\n"), (csv.QUOTE_ALL, "\n"), (csv.QUOTE_ALL, "\r")]
DIALECTS = st.builds(Dialect, st.sampled_from(",;\t|"), st.booleans())
TEXTS = st.text(st.sampled_from('a ",;\t|\r\né'), max_size=8)


def records(text: str, dialect: Dialect) -> list[Record]:
    return list(read_records(iter(io.StringIO(text, newline="")), dialect))


@given(rows=st.lists(st.lists(TEXTS, min_size=2, max_size=4), max_size=5), dialect=DIALECTS, data=st.data())
def test_written_rows_are_read_raw(rows: list[list[str]], dialect: Dialect, data: st.DataObject) -> None:
    text = io.StringIO(newline="")
    quoting, end = data.draw(st.sampled_from(STYLES))
    csv.writer(text, delimiter=dialect.separator, quoting=quoting, lineterminator=end).writerows(rows)
    found = records(text.getvalue(), Dialect(dialect.separator, spaces=False))
    assert [[cell_value(cell, Dialect(dialect.separator, spaces=False)) for cell in row.cells] for row in found] == rows
    assert "".join(dialect.separator.join(row.cells) + row.end for row in found) == text.getvalue()


@given(text=st.text(st.sampled_from('a ",\r\n'), max_size=30), spaces=st.booleans())
def test_any_text_is_read_as_python_reads_it(text: str, spaces: bool) -> None:
    dialect = Dialect(",", spaces)
    try:
        found = records(text, dialect)
    except ColumnError:
        return
    assert "".join(",".join(row.cells) + row.end for row in found) == text
    expected = list(csv.reader(io.StringIO(text, newline=""), skipinitialspace=spaces))
    assert [[] if row.cells == [""] else [cell_value(cell, dialect) for cell in row.cells] for row in found] == expected


@given(value=TEXTS, like=st.sampled_from(["", "a", '"a"', ' "a"']), dialect=DIALECTS)
def test_a_written_cell_has_its_value(value: str, like: str, dialect: Dialect) -> None:
    cell = cell_of(value, dialect, like=like)
    (record,) = records(f"{cell}{dialect.separator}x", dialect)
    assert [cell_value(read, dialect) for read in record.cells] == [value, "x"]
    assert cell.startswith('"') or not like.strip().startswith('"')


def test_a_quote_that_is_never_closed_is_an_error() -> None:
    with pytest.raises(ColumnError, match="never closed"):
        records('a,"b\nc,d\n', Dialect(",", spaces=False))


def test_long_texts_take_linear_time() -> None:
    text = '"' + 'x ""y""\n' * 200_000 + '",z\n'
    (record,) = records(text, Dialect(",", spaces=False))
    assert record.cells[1] == "z"
