"""Reading files: ids that look like dates, errors late in a file, missing values, wide rows; the store of parts."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from service.cli.errors import DataError
from service.cli.score import chunks as chunks_module
from service.cli.score import readers
from service.cli.score.chunks import Chunk, Reading
from service.cli.score.columns import ColumnNames
from service.cli.score.inputs import read_chunks
from service.cli.score.readers import read_parquet
from service.cli.score.sources import Source, find_sources
from service.cli.score.store import MANIFEST, PartStore
from service.schema.config import LossConfig
from tests.cli.score.test_run import FailingScorer, score, write_input

MANY = 60_000  # more than one block of every reader


def chunks(path: Path, rows: int = 10_000, **reading: Any) -> list[Chunk]:
    (source,) = find_sources([str(path)], None)
    return list(read_chunks(source, Reading(ColumnNames(), rows, **reading)))


def write_csv(path: Path, header: str, rows: list[str]) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.mark.parametrize("late", ["x7", "2024-01-01", "", "nan"])
def test_ids_of_a_csv_file_are_text(tmp_path: Path, late: str) -> None:
    rows = [f"{row},1,2,0" for row in range(MANY)]
    parts = chunks(write_csv(tmp_path / "in.csv", "id,logit_0,logit_1,y", [*rows, f"{late},1,2,0"]))
    ids = [identity for chunk in parts for identity in chunk.ids or ()]
    assert ids == [*map(str, range(MANY)), late]


def test_whole_numbers_of_a_csv_file_before_fractions(tmp_path: Path) -> None:
    parts = chunks(write_csv(tmp_path / "in.csv", "logit_0,logit_1,y", [*["1,2,0"] * MANY, "1.5,-inf,0"]))
    assert parts[-1].logits[-1].tolist() == [1.5, -np.inf]
    assert {chunk.targets.dtype for chunk in parts} == {np.dtype(np.int64)}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("oops,2,0", "row 60000, column 'logit_0': .*'oops'"),
        ("1,2", "row 60000: Expected 3 columns, got 2"),
        ("1,,0", "row 60000, column 'logit_1': no value"),
        ("1,2,", "row 60000, column 'y': no value"),
    ],
)
def test_an_error_late_in_a_csv_file_names_its_row(tmp_path: Path, line: str, says: str) -> None:
    path = write_csv(tmp_path / "in.csv", "logit_0,logit_1,y", [*["1,2,0"] * MANY, line])
    with pytest.raises(DataError, match=rf"in\.csv, {says}"):
        chunks(path)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ('{"id": "z", "logits": [1, 2], "y": 0}', "column 'id': 'z' is not an integer"),
        ('{"id": 1, "logits": [1, "2"], "y": 0}', r"column 'logits': \[1, \"2\"\] is not a list of numbers"),
        ('{"id": 1, "logits": [1, true], "y": 0}', r"column 'logits': \[1, true\] is not a list of numbers"),
        ('{"id": 1, "logits": 1, "y": 0}', "column 'logits': 1 is not a list of numbers"),
        ('{"id": 1, "logits": [1, 2, 3], "y": 0}', "column 'logits': 3 values, row [0-9]+ has 2"),
        ('{"id": 5, "logits": [1, 2], "y": "owl"}', "column 'y': 'owl' is not a number"),
        ('{"id": 1, "logits": [1, 2]}', "column 'y': no value"),
        ('{"id": 1', "not JSON"),
        ("[1, 2]", "not a JSON object"),
    ],
)
def test_an_error_late_in_a_jsonl_file_names_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: str, says: str
) -> None:
    monkeypatch.setattr(readers, "BLOCK_ROWS", 500)
    path = tmp_path / "in.jsonl"
    path.write_text('{"id": 5, "logits": [1, 2.5], "y": 0}\n\n' * 1800 + row + "\n")
    with pytest.raises(DataError, match=rf"in\.jsonl, row 1800(, |: ){says}"):
        chunks(path)


@given(st.lists(st.text(max_size=12), min_size=1, max_size=5) | st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_ids_of_a_jsonl_file_are_unchanged(tmp_path_factory: pytest.TempPathFactory, ids: list[Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "ids.jsonl"
    path.write_text("".join(json.dumps({"id": identity, "logits": [1, 2], "y": 0}) + "\n" for identity in ids))
    assert [identity for chunk in chunks(path) for identity in chunk.ids or ()] == ids


def test_ids_that_look_like_dates_stay_text(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"id": "2024-01-01", "logits": [1, 2], "y": 0}\n')
    score(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert json.loads((tmp_path / "out.jsonl").read_text())["id"] == "2024-01-01"


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_rows_with_missing_values_are_excluded(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"in.{ending}"
    rows = [([1.0, 2.0], 0), ([None, 2.0], 0), ([3.0, 1.0], None), ([3.0, 1.0], 1)]
    match ending:
        case "csv":
            spelled = [",".join("" if value is None else str(value) for value in (*logits, y)) for logits, y in rows]
            write_csv(path, "logit_0,logit_1,y", spelled)
        case "jsonl":
            path.write_text("".join(json.dumps({"logits": logits, "y": y}) + "\n" for logits, y in rows))
        case _:
            table = pa.table({"logits": [logits for logits, _ in rows], "y": [y for _, y in rows]})
            pyarrow.parquet.write_table(table, path)
    summary = score(path, tmp_path / "out.parquet", on_invalid="exclude", top_k=9)
    scored = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert (summary.num_examples, summary.num_excluded) == (4, 2)
    assert [loss is None for loss in scored["loss"].to_pylist()] == [False, True, True, False]
    assert scored["target"].to_pylist() == [0, 0, None, 1]
    assert sorted(str(hard.id) for hard in summary.hardest) == ["0", "3"]
    assert summary.of_class.keys() == {0, 1}


def test_a_missing_list_is_a_missing_value(tmp_path: Path) -> None:
    kind = pa.list_(pa.float32(), 2)
    for column in ([[1.0, 2.0], None], pa.array([[1.0, 2.0], None], kind)):
        pyarrow.parquet.write_table(pa.table({"logits": column, "y": [0, 0]}), tmp_path / "in.parquet")
        (chunk,) = chunks(tmp_path / "in.parquet", keep_missing=True)
        assert np.isnan(chunk.logits).tolist() == [[False, False], [True, True]]
        with pytest.raises(DataError, match="row 1, column 'logits': no value"):
            chunks(tmp_path / "in.parquet")


def test_whole_soft_targets_before_fractions(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "in.csv", "logits,y", [*["0.5,1"] * 10, "0.5,0.25"])
    score(path, tmp_path / "out.parquet", config=LossConfig(mode="sigmoid"))
    assert pyarrow.parquet.read_table(tmp_path / "out.parquet")["target"].to_pylist() == [1.0] * 10 + [0.25]


def test_ignored_rows_count_in_no_class(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "in.csv", "logit_0,logit_1,y", ["1,2,0", "1,2,-100"])
    summary = score(path, tmp_path / "out.parquet")
    assert summary.num_ignored == 1
    assert summary.of_class.keys() == {0}


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv", "npz"])
def test_wide_rows_make_small_chunks(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks_module, "CHUNK_BYTES", 4 * 4 * 8)
    path = write_input(tmp_path, ending)
    doubles = ending in ("jsonl", "csv")
    parts = chunks(path)
    assert {len(chunk.logits) for chunk in parts[:-1]} == {4 if doubles else 8}
    assert [chunk.first_row for chunk in parts] == list(range(0, 25, 4 if doubles else 8))


class CountingFile(io.FileIO):
    """Counts the bytes that are read."""

    total = 0

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(-1 if size is None else size) or b""
        self.total += len(content)
        return content


def test_a_parquet_file_is_read_by_columns_and_blocks(tmp_path: Path) -> None:
    path, logits = tmp_path / "in.parquet", np.random.default_rng(0).standard_normal(2_000_000)
    table = pa.table({"logits": pa.FixedSizeListArray.from_arrays(pa.array(logits), 20), "y": np.zeros(100_000, int)})
    pyarrow.parquet.write_table(table, path, row_group_size=2_000)
    with CountingFile(path) as file:
        _, batches = read_parquet(file, ColumnNames(), Source("in", "parquet"))  # type: ignore[arg-type]
        rows = len(next(batches))
        assert file.total < path.stat().st_size / 2
        assert rows + sum(map(len, batches)) == 100_000


def test_bfloat16_tensors_are_read_exactly(tmp_path: Path) -> None:
    logits = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    save_file({"targets": torch.zeros(20, dtype=torch.int64), "logits": logits}, tmp_path / "in.safetensors")
    (chunk,) = chunks(tmp_path / "in.safetensors")
    assert chunk.logits.dtype == np.float32
    assert chunk.logits.tolist() == logits.tolist()


def test_an_error_names_a_truncated_archive(tmp_path: Path) -> None:
    path = write_input(tmp_path, "npz")
    for content in (path.read_bytes()[:-30], b""):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"input\.npz"):
            chunks(path)


def test_parts_without_a_manifest_are_deleted(tmp_path: Path) -> None:
    # A run that is killed while it removes its parts may leave them so.
    path, output = write_input(tmp_path, "parquet"), tmp_path / "out.parquet"
    with pytest.raises(Exception, match="no memory"):
        score(path, output, FailingScorer(2))
    (tmp_path / "out.parquet.parts" / MANIFEST).unlink()
    again = FailingScorer(99)
    score(path, output, again, config=LossConfig(gamma=0.0))
    assert again.rows == [0, 7, 14, 21]


def test_unfinished_files_of_a_killed_run_are_deleted(tmp_path: Path) -> None:
    path, output = write_input(tmp_path, "parquet"), tmp_path / "out.parquet"
    with pytest.raises(Exception, match="no memory"):
        score(path, output, FailingScorer(2))
    (tmp_path / "out.parquet.parts" / ".out.parquet.999.tmp").write_text("torn")
    score(path, output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["input.parquet", "out.parquet"]


def test_a_store_belongs_to_one_fingerprint(tmp_path: Path) -> None:
    PartStore(tmp_path / "out", ["a"], restart=False).write(0, pa.table({"x": [1]}))
    assert PartStore(tmp_path / "out", ["a"], restart=False).has(0)
    assert not PartStore(tmp_path / "out", ["b"], restart=True).has(0)


def test_a_changed_file_has_another_fingerprint(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "in.csv", "logit_0,logit_1,y", ["1,2,0"])
    before = Source(str(path), "csv").fingerprint
    write_csv(path, "logit_0,logit_1,y", ["1,2,0", "1,2,1"])
    assert Source(str(path), "csv").fingerprint != before
