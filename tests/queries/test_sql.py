from __future__ import annotations

import math

import duckdb
import pytest

from service.queries.sql import literal, quoted


@pytest.mark.parametrize("text", ["", "it's", "''", "\\'; DROP TABLE x; --", "ü\n"])
def test_a_text_in_sql_is_quoted(text: str) -> None:
    assert duckdb.sql(f"SELECT {quoted(text)}").fetchall() == [(text,)]


@pytest.mark.parametrize("number", [0, -1, 2**31, 0.1, -0.0, -1e-300, 1.7e308])
def test_a_number_in_sql_keeps_its_value_after_a_minus(number: float) -> None:
    ((value,),) = duckdb.sql(f"SELECT 0-{literal(number)}").fetchall()
    assert value == 0 - number


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_a_number_without_a_value_has_no_literal(number: float) -> None:
    with pytest.raises(ValueError, match="has no literal"):
        literal(number)
