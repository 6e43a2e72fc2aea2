"""Texts in CSV files that people open in a spreadsheet: guarded against evaluation as a formula, and restored.

Spreadsheets evaluate a cell that begins with `=`, `+`, `-`, `@`, a tab or a line end, and the texts of a data set are
not trusted. Such a text is written with a leading `'`. Numbers are unchanged, also an id `-5`. A text that already has
`'` before such a character gets another `'`, so the rule can be undone exactly: `unguard(guard(text)) == text` for
every text.

Source of the characters: OWASP, "CSV Injection".
"""

from __future__ import annotations

import re

import pyarrow as pa

# Characters that begin a formula, also in full width, after any number of quotes.
FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")


def guard(text: str) -> str:
    """Put `'` before a text that a spreadsheet would evaluate; other texts are unchanged."""
    return "'" + text if FORMULA.match(text) and not NUMBER.fullmatch(text) else text


def guard_cell(value: object) -> object:
    """Guard a value of a CSV file if it is a text."""
    return guard(value) if isinstance(value, str) else value


def guard_table(table: pa.Table) -> pa.Table:
    """Guard the columns of texts of a table, to write it as CSV."""
    for number, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            texts = [text and guard(text) for text in table.column(number).to_pylist()]
            table = table.set_column(number, field, pa.array(texts, field.type))
    return table


def unguard(text: str) -> str:
    """Restore a text that `guard` has changed; other texts are unchanged."""
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text
