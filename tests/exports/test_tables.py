"""CSV, JSONL and Parquet, parsed by other readers and compared value by value."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from typing import Any

import orjson
import polars
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.exports.rows import ExportRow
from service.exports.tables import COLUMNS, METADATA_KEY, ROW_GROUP_ROWS, write_csv, write_jsonl, write_parquet
from service.formats.spreadsheets import unguard
from tests.exports.examples import INFINITE, PLAIN, ROWS, Supply, options, whole
from tests.strategies import json_values

csv.field_size_limit(1 << 20)

texts = st.text(max_size=8) | st.text("'=+-@\t\r\n1.e\uff1d", max_size=5)
rows = st.builds(
    replace,
    st.just(PLAIN),
    id=texts,
    reason=texts,
    suggested_label=st.none() | texts,
    suggested_p=st.none() | st.floats(0, 1),
    loss=st.floats(allow_nan=False),
    attributes=st.dictionaries(texts, json_values, max_size=3),
)


def csv_cells(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline=""), strict=True))


def as_cell(value: Any) -> str:
    return "" if value is None else str(value)


def assert_csv_holds(rows_read: list[dict[str, str]], given: list[ExportRow]) -> None:
    for cells, row in zip(rows_read, given, strict=True):
        assert tuple(cells) == COLUMNS
        assert orjson.loads(cells["attributes"]) == row.attributes
        for name in set(COLUMNS) - {"attributes"}:
            assert unguard(cells[name]) == as_cell(getattr(row, name)), name


def parquet_rows(content: bytes) -> list[dict[str, Any]]:
    return list(pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist())


def columns_of_row(row: ExportRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in COLUMNS}


def with_text(row: ExportRow) -> dict[str, Any]:
    return columns_of_row(row) | {"attributes": orjson.dumps(row.attributes).decode()}


@given(st.lists(rows, max_size=3))
def test_every_format_preserves_every_value(given: list[ExportRow]) -> None:
    assert_csv_holds(csv_cells(whole(write_csv(given, options()))), given)
    assert parquet_rows(whole(write_parquet(given, options()))) == [with_text(row) for row in given]
    finite = [row if math.isfinite(row.loss) else replace(row, loss=0.0) for row in given]
    content = whole(write_jsonl(finite, options()))
    assert [orjson.loads(line) for line in content.split(b"\n")[:-1]] == [columns_of_row(row) for row in finite]


def test_difficult_rows_can_be_read_back() -> None:
    assert_csv_holds(csv_cells(whole(write_csv(ROWS, options()))), ROWS)
    assert parquet_rows(whole(write_parquet(ROWS, options()))) == [with_text(row) for row in ROWS]
    assert [orjson.loads(line) for line in whole(write_jsonl(ROWS, options())).split(b"\n")[:-1]] == [
        columns_of_row(row) for row in ROWS
    ]


def test_polars_reads_csv_and_parquet_alike() -> None:
    few = [replace(PLAIN, rank=rank, id=f"row-{rank}", verdict="ok", verdict_label="a,b") for rank in range(1, 6)]
    table = polars.read_csv(io.BytesIO(whole(write_csv(few, options()))))
    assert table.to_dicts() == polars.read_parquet(io.BytesIO(whole(write_parquet(few, options())))).to_dicts()
    assert table["loss"].to_list() == [2.31] * 5


def test_lines_of_a_csv_file_end_with_crlf() -> None:
    content = whole(write_csv([PLAIN], options()))
    assert content.startswith(b"rank,id,target,")
    assert content.count(b"\r\n") == content.count(b"\n") == 2


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-1+1", "'-1+1"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("'=1", "''=1"),
        ("-5", "-5"),
        ("+1.5e-3", "+1.5e-3"),
        ("'tis", "'tis"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_a_cell_is_never_a_formula_and_numbers_are_unchanged(text: str, cell: str) -> None:
    (cells,) = csv_cells(whole(write_csv([replace(PLAIN, id=text, verdict_label=text)], options())))
    assert (cells["id"], cells["verdict_label"], cells["logit_margin"]) == (cell, cell, "-3.1")


def test_csv_and_parquet_preserve_nan_and_infinities() -> None:
    (cells,) = csv_cells(whole(write_csv([INFINITE], options())))
    assert (cells["loss"], cells["log_odds"], cells["score"]) == ("inf", "-inf", "nan")
    (values,) = parquet_rows(whole(write_parquet([INFINITE], options())))
    assert (values["loss"], values["log_odds"]) == (math.inf, -math.inf)
    assert math.isnan(values["score"])


def test_row_groups_are_bounded_and_the_metadata_names_the_run() -> None:
    total = 2 * ROW_GROUP_ROWS + 1
    parts = list(write_parquet(Supply(total), options(total)))
    file = pyarrow.parquet.ParquetFile(io.BytesIO(whole(parts)))
    sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    assert sizes == [ROW_GROUP_ROWS, ROW_GROUP_ROWS, 1]
    assert len(parts) == 4
    assert file.read(["rank"])["rank"].to_pylist() == list(range(1, total + 1))
    metadata = orjson.loads(file.schema_arrow.metadata[METADATA_KEY])
    names = ("run", "queue", "epoch", "config_id")
    assert [metadata[name] for name in names] == ["r-1.a", "q1", 7, "fl_0123"]


def test_columns_are_required_if_every_row_has_a_value() -> None:
    file = pyarrow.parquet.ParquetFile(io.BytesIO(whole(write_parquet([], options(0)))))
    required = {field.name for field in file.schema_arrow if not field.nullable}
    assert required == {"rank", "id", "target", "given_label", "strategy", "reason", "attributes"}
