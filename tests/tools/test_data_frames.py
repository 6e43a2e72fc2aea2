"""pandas, polars, DuckDB and datasets read every exported file whole, with the arguments of the documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.client import RunClient
from tests.tools.conftest import CLASS_NAMES, LABELS, PREDICTED, ROWS

FORMATS = ("csv", "jsonl", "parquet")
MISSING: dict[str, Any] = {"keep_default_na": False, "na_values": [""]}


@pytest.fixture
def files(run: RunClient, tmp_path: Path) -> dict[str, str]:
    paths = {name: str(tmp_path / f"run.{name}") for name in FORMATS}
    for name, path in paths.items():
        run.export(path, format=name)
    return paths


def check(read: list[dict[str, Any]], rows: list[Any]) -> None:
    """Compare the rows of a file with those of the service."""
    assert [row["id"] for row in read] == [row["id"] for row in rows]
    assert [row["loss"] for row in read] == [row["loss"] for row in rows]
    numbers = [int(row["id"]) for row in rows]
    assert [row["given_label"] for row in read] == [CLASS_NAMES[LABELS[number]] for number in numbers]
    wrong = [number for number in numbers if LABELS[number] != PREDICTED[number]]
    suggested = [row["suggested_label"] for row in read if row["suggested_label"] in CLASS_NAMES]
    assert suggested == [CLASS_NAMES[PREDICTED[number]] for number in wrong]


@pytest.mark.parametrize("name", FORMATS)
def test_pandas(files: dict[str, str], rows: list[Any], name: str) -> None:
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    if name == "parquet":
        frame = pd.read_parquet(files[name])
    elif name == "csv":
        frame = pd.read_csv(files[name], dtype={"id": str, "suggested": "Int64"}, **MISSING)
        assert str(frame["suggested"].dtype) == "Int64"
    else:
        frame = pd.read_json(files[name], lines=True, dtype={"id": str}, precise_float=True)
    check(frame.to_dict("records"), rows)


@pytest.mark.parametrize("name", FORMATS)
def test_polars(files: dict[str, str], rows: list[Any], name: str) -> None:
    pl = pytest.importorskip("polars", reason="polars is not installed")
    if name == "csv":
        frame = pl.read_csv(files[name], schema_overrides={"id": pl.String})
    else:
        frame = pl.read_parquet(files[name]) if name == "parquet" else pl.read_ndjson(files[name])
    check(frame.to_dicts(), rows)


@pytest.mark.parametrize("name", FORMATS)
def test_duckdb(files: dict[str, str], rows: list[Any], name: str) -> None:
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    table = duckdb.sql(f"from '{files[name]}'").to_arrow_table()
    check(table.to_pylist(), rows)
    texts = duckdb.sql(f"select attributes->>'text' from '{files[name]}'").fetchall()
    assert len({text for (text,) in texts}) == len({row["attributes"]["text"] for row in rows})


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_datasets(files: dict[str, str], rows: list[Any], name: str, streaming: bool, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    options = {"converters": {"id": str}} | MISSING if name == "csv" else {}
    kind = "json" if name == "jsonl" else name
    read = datasets.load_dataset(
        kind, data_files=files[name], split="train", streaming=streaming, cache_dir=str(tmp_path), **options
    )
    check(list(read), rows)


@pytest.mark.parametrize("package", ["pandas", "polars", "duckdb", "datasets"])
def test_a_data_frame_is_sent_back(run: RunClient, package: str) -> None:
    module = pytest.importorskip(package, reason=f"{package} is not installed")
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"logits": [[2.0, 0.1, 0.0], [0.3, 0.9, 0.0]], "label": ["NA", "cat"], "id": ["a", "b"]})
    frame = {
        "pandas": table.to_pandas,
        "polars": lambda: module.from_arrow(table),
        "duckdb": lambda: module.from_arrow(table),
        "datasets": lambda: next(module.Dataset(table).with_format("arrow").iter(10)),
    }[package]()
    run.push(1, "frame", frame)
    assert {row["id"]: row["target"] for row in run.all_examples(epoch=1)} == {"a": 0, "b": 2}
    assert len(list(run.all_examples(epoch=0))) == ROWS
