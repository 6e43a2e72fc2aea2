"""Parquet, Arrow and CSV files of various programs, with columns found by their names."""

from __future__ import annotations

import datetime
import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.codecs.base import DecodeOptions, Reader
from service.errors import (
    DecodeError,
    InvalidIdsError,
    InvalidLogitError,
    InvalidTargetError,
    LossServiceError,
    ShapeError,
)
from service.formats.targets import with_numeric_targets
from service.schema.request import Batch
from tests.codecs.file_bodies import ARROW, CSV, PARQUET, arrow_file, arrow_stream, body_of, parquet_file
from tests.codecs.outcomes import error_of

LOGITS = [[2.0, 0.5, -1.0], [0.25, 0.5, 4.0]]
TEXTS = ["a cat", 'two lines,\n"quoted"']


def table(**columns: Any) -> pa.Table:
    return pa.table({"logits": LOGITS, "label": [0, 2], "id": ["a", "b"]} | columns)


def read(reader: Reader, body: bytes, **options: Any) -> Batch:
    request = reader.decode(bytearray(body), DecodeOptions(**options))
    (batch,) = request.batches
    return with_numeric_targets(batch, 0, "softmax", exclude=request.options.on_invalid == "exclude")


@pytest.mark.parametrize("reader", [ARROW, PARQUET, CSV], ids=lambda reader: reader.media_type)
@pytest.mark.parametrize("target", ["targets", "target", "labels", "label", "y"])
def test_columns_are_found_by_their_names(reader: Reader, target: str) -> None:
    columns = {"logits": LOGITS, target: [0, 2], "ids": ["a", "b"], "text": TEXTS, "size": [7, 8]}
    body = body_of(reader, pa.table(columns))
    batch = read(reader, body, with_attributes=True)
    assert (batch.logits.tolist(), batch.logits.dtype) == (LOGITS, np.float64)
    assert (batch.targets.tolist(), batch.targets.dtype) == ([0, 2], np.int64)
    assert batch.ids == ["a", "b"]
    assert batch.attributes == {"text": TEXTS, "size": ["7", "8"] if reader is CSV else [7, 8]}
    assert read(reader, body).attributes is None


@pytest.mark.parametrize("write", [arrow_file, arrow_stream, parquet_file])
def test_types_of_many_programs(write: Any) -> None:
    logits = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(6, dtype=np.float16)), 3)
    days = pd.to_datetime(["2024-02-29T12:00:00.000000001", None])
    contents = pa.table(
        {
            "logits": logits,
            "label": pa.array([2, 0], pa.uint32()),
            "id": pa.array([7, 2**40]),
            "kind": pa.array(["x", "x"]).dictionary_encode(),
            "view": pa.array(["short", "longer than twelve bytes"], pa.string_view()),
            "large": pa.array(["ä", None], pa.large_string()),
            "when": pa.array(days, pa.timestamp("ns")),
            "good": [True, False],
        }
    )
    batch = read({parquet_file: PARQUET}.get(write, ARROW), write(contents), with_attributes=True)
    assert (batch.logits.dtype, batch.logits.tolist()) == (np.float16, [[0, 1, 2], [3, 4, 5]])
    assert (batch.targets.dtype, batch.targets.tolist()) == (np.int64, [2, 0])
    assert batch.ids == [7, 2**40]
    assert batch.attributes == {
        "kind": ["x", "x"],
        "view": ["short", "longer than twelve bytes"],
        "large": ["ä", None],
        "when": [datetime.datetime(2024, 2, 29, 12), None],
        "good": [True, False],
    }


@pytest.mark.parametrize("index", [True, False])
def test_files_of_pandas(index: bool) -> None:
    frame = pd.DataFrame(
        {"id": ["a", "b", "c"], "logit_0": [1.0, 2.0, 3.0], "logit_1": [0, 1, 2], "y": [0.0, 1.0, 1.0]}
    )
    frame["group"] = pd.Categorical(["u", "v", "u"])
    for reader, body in ((CSV, frame.to_csv(index=index).encode()), (PARQUET, frame.to_parquet(index=index))):
        batch = read(reader, body, with_attributes=True)
        assert batch.logits.tolist() == [[1, 0], [2, 1], [3, 2]]
        assert batch.targets.tolist() == [0, 1, 1]
        assert batch.attributes is not None
        assert batch.attributes["group"] == ["u", "v", "u"]
        assert "" not in batch.attributes


def test_numbered_logits_are_ordered_by_number() -> None:
    names = [f"logit_{number}" for number in range(12)]
    contents = pa.table({name: [float(name[6:])] for name in sorted(names)} | {"label": [3]})
    assert read(PARQUET, parquet_file(contents)).logits.tolist() == [[*map(float, range(12))]]


def test_single_column_of_numbers_is_one_logit_per_row() -> None:
    contents = pa.table({"logits": pa.array([0.5, -1.0], pa.float32()), "label": [1.0, 0.25]})
    (batch,) = PARQUET.decode(bytearray(parquet_file(contents))).batches
    assert (batch.logits.shape, batch.targets.tolist()) == ((2,), [1, 0.25])


@pytest.mark.parametrize("write", [arrow_file, parquet_file])
def test_options_are_in_the_metadata_of_the_schema(write: Any) -> None:
    reader = ARROW if write is arrow_file else PARQUET
    options = {"config": {"gamma": 1.5}, "outputs": ["p_t"], "top_k": 1, "on_invalid": "exclude"}
    contents = table(label=pa.array([0, None])).replace_schema_metadata({"request": json.dumps(options)})
    request = reader.decode(bytearray(write(contents)))
    assert request.options.config is not None
    assert (request.options.config.gamma, request.options.outputs, request.options.top_k) == (1.5, ("p_t",), 1)
    # A missing value is one that the loss leaves out.
    assert read(reader, write(contents)).targets.tolist() == [0, -(2**63)]
    for text in ("{", "[1]", '{"unknown": 1}'):
        error_of(reader, write(contents.replace_schema_metadata({"request": text})))


@pytest.mark.parametrize("reader", [ARROW, PARQUET], ids=lambda reader: reader.media_type)
def test_a_file_without_rows_is_an_empty_batch(reader: Reader) -> None:
    for body in (body_of(reader, table(text=TEXTS).slice(0, 0)), b"logit_0,logit_1,label,id,text\n"):
        batch = read(CSV if body.startswith(b"logit") else reader, body, with_attributes=True)
        assert (batch.logits.shape, batch.targets.shape, batch.ids, batch.attributes) == ((0,), (0,), [], {"text": []})


def test_csv_with_byte_order_mark_and_either_line_ending() -> None:
    body = "\ufefflogit_0,logit_1,label\r\n1,2,1\r\n-inf,nan,0\n".encode()
    batch = read(CSV, body)
    assert np.array_equal(batch.logits, [[1, 2], [-np.inf, np.nan]], equal_nan=True)
    assert batch.targets.tolist() == [1, 0]


CASES: list[tuple[dict[str, Any], type[Exception], str, list[Any]]] = [
    ({"logits": None}, Exception, "no column 'logits', and no logit_0.*the columns are 'label', 'id'", ["logits"]),
    ({"label": None}, Exception, "targets, target, labels, label, y; the columns are 'logits', 'id'", ["targets"]),
    ({"y": [0, 1]}, Exception, "both 'label' and 'y' are names of the targets", ["targets"]),
    (
        {"label": ["cat", "dog"]},
        InvalidTargetError,
        "row 0: 'cat' is not a number; a label is the number of its",
        [],
    ),
    ({"label": pa.array([0, None])}, InvalidTargetError, "row 1: no value", ["targets", 1]),
    ({"logits": [[1.0, 2.0, 3.0], None]}, InvalidLogitError, "row 1, column 'logits': no value", ["logits", 1]),
    ({"logits": [[1.0, 2.0, 3.0], [1.0]]}, ShapeError, "row 1, column 'logits': 1 values, row 0 has 3", ["logits", 1]),
    ({"logits": [["a"], ["b"]]}, InvalidLogitError, "column 'logits': string is not a number", ["logits"]),
    (
        {"label": pa.array([0, 2**64 - 1], pa.uint64())},
        InvalidTargetError,
        "row 1: .* got 18446744073709551615",
        ["targets", 1],
    ),
    ({"id": [0.5, 1.5]}, InvalidIdsError, "row 0, column 'id': an id is a string or an integer, got 0.5", ["ids", 0]),
    ({"id": ["a", None]}, InvalidIdsError, "row 1, column 'id': an id is a string or an integer, got null", ["ids", 1]),
    ({"vector": [[1], [2]]}, Exception, "column 'vector' is list<.*>; attributes are text, numbers", ["vector"]),
    ({"spans": [[[0, 1]], [[1, 2, 3]]]}, Exception, "attribute 'spans', row 1: this list is no string", [1]),
    ({"blob": [b"1", b"2"]}, Exception, "column 'blob' is binary", ["blob"]),
    ({"day": pa.array([2**30, 1], pa.date32())}, Exception, "column 'day' has a value of date32", []),
]


@pytest.mark.parametrize(("columns", "kind", "says", "loc"), CASES, ids=[case[2] for case in CASES])
@pytest.mark.parametrize("reader", [ARROW, PARQUET], ids=lambda reader: reader.media_type)
def test_error_names_row_and_column(
    reader: Reader, columns: dict[str, Any], kind: type[Exception], says: str, loc: list[Any]
) -> None:
    contents = {"logits": LOGITS, "label": [0, 2], "id": ["a", "b"]} | columns
    body = body_of(reader, pa.table({name: values for name, values in contents.items() if values is not None}))
    with pytest.raises(kind, match=says) as caught:
        read(reader, body, with_attributes=True)
    error: Any = caught.value
    assert error.status == 422
    assert error.errors[0]["loc"][2 : 2 + len(loc)] == loc


@pytest.mark.parametrize(
    ("lines", "says", "loc"),
    [
        (["1,2,0,a", "1,oops,0,b"], "batch 0, row 1, column 'logit_1': 'oops' is not a number", ["logits", 1, 1]),
        (
            ["1,2,cat,a"],
            "row 0: 'cat' is not a number; a label is the number of its class",
            ["targets", 0],
        ),
        (['1,2,0,"a\nb"', "1,,0,b"], "row 1, column 'logit_1': no value", ["logits", 1, 1]),
        (["1,2,0,a", "1,2"], "row 1: Expected 4 columns, got 2", [1]),
        (["1,2,0,a,9"], "row 0: Expected 4 columns, got 5", [0]),
        (["1,2,0,\udcff"], "row 0, column 'id': .*invalid UTF8.*declare its encoding", ["ids", 0]),
    ],
)
def test_error_in_csv_names_row_and_column(lines: list[str], says: str, loc: list[Any]) -> None:
    body = "\n".join(["logit_0,logit_1,label,id", *lines, ""]).encode(errors="surrogateescape")
    with pytest.raises(LossServiceError, match=says) as caught:
        read(CSV, body)
    assert caught.value.detail.startswith("batch 0")
    assert caught.value.errors[0]["loc"] == ["batches", 0, *loc]


def test_duplicate_column_is_rejected() -> None:
    assert "'label' appears twice" in error_of(CSV, b"logit_0,logit_1,label,label\n1,2,0,1\n").detail
    twice = pa.Table.from_arrays([pa.array(LOGITS), pa.array([0, 1]), pa.array([0, 1])], ["logits", "label", "label"])
    assert "'label' appears twice" in error_of(PARQUET, parquet_file(twice)).detail
    assert "'label' appears twice" in error_of(ARROW, arrow_file(twice)).detail


def test_column_name_may_have_dots() -> None:
    contents = table(**{"a.b": ["x", "y"], "a": [1, 2]})
    batch = read(PARQUET, parquet_file(contents), with_attributes=True)
    assert batch.attributes == {"a.b": ["x", "y"], "a": [1, 2]}


@pytest.mark.parametrize("cut", [4, 1])
def test_truncated_file_is_rejected(cut: int) -> None:
    assert isinstance(error_of(ARROW, arrow_file(table())[:-cut]), DecodeError)
    assert isinstance(error_of(PARQUET, parquet_file(table())[:-cut]), DecodeError)


def test_row_groups_and_record_batches_are_one_batch() -> None:
    rows = pa.table(
        {"logits": np.arange(2000.0).reshape(1000, 2).tolist(), "label": [0, 1] * 500, "kind": ["u", "v"] * 500}
    )
    body = parquet_file(rows, row_group_size=64, data_page_size=100, data_page_version="2.0", compression="zstd")
    assert pq.ParquetFile(pa.BufferReader(body)).num_row_groups == 16
    pieces = arrow_stream(
        pa.concat_tables([rows.slice(start, 100) for start in range(0, 1000, 100)]), compression="lz4"
    )
    for reader, content in ((PARQUET, body), (ARROW, pieces)):
        batch = read(reader, content, with_attributes=True)
        assert batch.logits.flatten().tolist() == [*range(2000)]
        assert batch.attributes == {"kind": ["u", "v"] * 500}
