from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.runs import parquet
from service.runs.data_files import DataFile, Footer
from service.runs.parquet import ROW_GROUP_LOGITS, parquet_writer, read_parquet, read_row, rows_at_once, write_parquet
from service.runs.schema import SCHEMA
from service.storage.local_files import LocalFiles
from tests.runs.plain_rows import rows_of

FOOTER = Footer(2000, {"b": "d"})


def rows_with(logits: np.ndarray) -> pa.Table:
    rows = rows_of(3, "b", [f"e{row}" for row in range(len(logits))])
    column = SCHEMA.get_field_index("logits")
    return rows.set_column(column, SCHEMA.field(column), pa.array(list(logits), pa.list_(pa.float32())))


def random_logits(kind: type) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2000, 8)).astype(kind).astype(np.float32)


def write(rows: pa.Table) -> io.BytesIO:
    file = io.BytesIO()
    write_parquet(file, rows, lambda: FOOTER)
    return file


@pytest.mark.parametrize("small", [False, True])
def test_both_encodings_keep_every_value(small: bool) -> None:
    rows, file = rows_with(random_logits(np.float32)), io.BytesIO()
    with parquet_writer(file, SCHEMA, small=small) as writer:
        writer.write_table(rows)
    assert pq.read_table(file).equals(rows)


def test_logits_of_half_precision_take_half_the_space() -> None:
    whole, half = (write(rows_with(random_logits(kind))) for kind in (np.float32, np.float16))
    sizes = [pq.read_metadata(file).row_group(0).column(11).total_compressed_size for file in (whole, half)]
    assert pq.read_metadata(half).row_group(0).column(11).path_in_schema == "logits.list.element"
    assert sizes[1] < 0.6 * sizes[0]


def test_the_footer_is_read_back() -> None:
    assert Footer.read("runs/r/f", write(rows_with(random_logits(np.float32)))) == FOOTER


@pytest.mark.parametrize("number", [0, 3])
def test_rows_without_logits(number: int) -> None:
    rows = rows_with(np.zeros((number, 2)))
    column = SCHEMA.get_field_index("logits")
    rows = rows.set_column(column, SCHEMA.field(column), pa.nulls(number, SCHEMA.field(column).type))
    assert pq.read_table(write(rows)).equals(rows)


def test_batches_of_wide_rows_are_bounded_by_their_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.runs.parquet.ROW_GROUP_LOGITS", 800)
    rows = rows_with(random_logits(np.float32))
    file = write(rows)
    assert pq.read_metadata(file).num_row_groups == 20
    batches = [*read_parquet("runs/r/a", file)]
    assert {len(batch) for batch in batches} == {100}
    assert pa.Table.from_batches(batches).equals(rows)
    small = [*read_parquet("runs/r/a", file, ["row"], 30)]
    assert max(map(len, small)) == 30
    assert sum(map(len, small)) == 2000


@pytest.mark.parametrize(
    ("rows", "classes", "at_once"), [(9, 0, 65_536), (9, 10, 65_536), (400, 50_257, 333), (1, 2**27, 1)]
)
def test_a_row_group_has_a_bounded_number_of_logits(rows: int, classes: int, at_once: int) -> None:
    assert rows_at_once(rows, rows * classes) == at_once
    assert at_once * classes <= ROW_GROUP_LOGITS or at_once == 1


@pytest.mark.parametrize("number", [0, 299, 300, 1999])
def test_one_row_is_read_from_its_row_group(number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", 300)
    rows = rows_with(random_logits(np.float32))
    (tmp_path / "f").write_bytes(write(rows).getvalue())
    files, data = LocalFiles(tmp_path), DataFile(3, "f", "f", FOOTER)
    assert pq.read_metadata(tmp_path / "f").num_row_groups == 7
    found = read_row(files, data, ["batch", "row", "logits"], ("b", number), values=400)
    assert found is not None
    assert found.to_pylist() == rows.select(["batch", "row", "logits"]).slice(number, 1).to_pylist()
    assert read_row(files, data, ["id"], ("b", 2000), values=400) is None
    assert read_row(files, data, ["id"], ("c", number), values=400) is None
