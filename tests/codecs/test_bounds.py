"""Small bodies that declare much: refused before their columns are read. Many names take time by their number."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from service.codecs import json_split
from service.codecs.arrow.codec import ArrowCodec
from service.codecs.base import MAX_BATCHES, DecodeOptions, Reader
from service.codecs.json import JsonCodec
from service.codecs.safetensors import SafetensorsCodec
from service.codecs.tables.csv import MAX_COLUMNS
from service.errors import (
    BodyTooLargeError,
    DecodeError,
    LossServiceError,
    ShapeError,
    TooManyAttributesError,
    TooManyBatchesError,
    TooManyColumnsError,
    TooManyExamplesError,
)
from service.formats.attributes import MAX_ATTRIBUTES
from service.formats.csv_dialect import MAX_HEADER_BYTES
from service.formats.safetensors import write_safetensors
from tests.codecs.file_bodies import ARROW, CSV, PARQUET, arrow_file, arrow_stream, csv_file, parquet_file
from tests.codecs.outcomes import Stopwatch
from tests.lanes import mostly_slow

STREAM = ArrowCodec()
ROWS = 10**9
TABLES: list[tuple[Reader, Callable[[pa.Table], bytes]]] = [
    (ARROW, arrow_file),
    (STREAM, arrow_stream),
    (PARQUET, parquet_file),
    (CSV, csv_file),
]


@pytest.fixture(scope="module", autouse=True)
def _scanner() -> None:
    """Compile the scanner of JSON before its time is measured, as the service does at its start."""
    json_split.warm_up()


def refused(kind: type[LossServiceError], reader: Reader, body: bytes, **limits: Any) -> str:
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    with Stopwatch() as watch, pytest.raises(kind) as caught:
        reader.decode(bytearray(body), DecodeOptions(with_attributes=True, **limits))
    assert watch.seconds < 1
    assert pool.bytes_allocated() - before < 2**20
    return caught.value.detail


def lists_of_nothing(rows: int) -> pa.Table:
    lists = pa.Array.from_buffers(pa.list_(pa.float32(), 0), rows, [None], children=[pa.array([], pa.float32())])
    return pa.table([lists, pa.nulls(rows)], ["logits", "label"])


def one_run(rows: int) -> pa.Table:
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([rows], pa.int32()), pa.array([1.0]))
    return pa.table({"logits": runs, "label": pa.nulls(rows)})


@pytest.mark.parametrize(("reader", "write"), TABLES[:2])
def test_rows_without_bytes(reader: Reader, write: Callable[[pa.Table], bytes]) -> None:
    assert "lists of length 0" in refused(ShapeError, reader, write(lists_of_nothing(1000)), max_rows=1000)
    for table in (lists_of_nothing(ROWS), one_run(ROWS)):
        body = write(table)
        assert len(body) < 1000
        for limits in ({"max_rows": 10_000_000}, {"max_bytes": 2**28}):
            refused(LossServiceError, reader, body, **limits)


def one_list(values: pa.Array) -> pa.Array:
    """A single row with all the values."""
    return pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)


def runs(count: int) -> pa.Array:
    return pa.RunEndEncodedArray.from_arrays(pa.array([count], pa.int32()), pa.array([1]))


def equal_texts(count: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array(["x" * 300_000]))


@pytest.mark.parametrize("layout", ["rows", "dense", "ragged"])
@pytest.mark.parametrize(
    "values", [pa.nulls(ROWS), runs(ROWS), equal_texts(1000), one_list(pa.nulls(ROWS))], ids=lambda array: array.type
)
@pytest.mark.parametrize(("reader", "write"), TABLES[:2])
def test_values_without_bytes_in_lists(
    reader: Reader, write: Callable[[pa.Table], bytes], values: pa.Array, layout: str
) -> None:
    metadata = {"request": json.dumps({"layout": layout})}
    for logits, targets in (([[1.0, 2.0]], one_list(values)), (one_list(values), [[0]])):
        body = write(pa.table({"logits": logits, "targets": targets}).replace_schema_metadata(metadata))
        assert len(body) < 400_000
        refused(LossServiceError, reader, body, max_bytes=2**28)


def test_a_text_in_lists_of_a_parquet_file_counts_for_each_use() -> None:
    body = parquet_file(pa.table({"logits": [[1.0, 2.0]], "targets": one_list(equal_texts(1000))}), store_schema=False)
    assert len(body) < 100_000
    refused(BodyTooLargeError, PARQUET, body, max_bytes=2**27)


def test_lists_of_one_list_in_a_parquet_file() -> None:
    count = 1_000_000
    lists = pa.ListArray.from_arrays(pa.array(np.zeros(count + 1, np.int32)), pa.array([], pa.float32()))
    for _ in range(5):
        lists = pa.ListArray.from_arrays(pa.array(np.arange(count + 1, dtype=np.int32)), lists)
    table = pa.table({"logits": one_list(lists), "targets": [[0]]}).replace_schema_metadata(
        {"request": '{"layout": "dense"}'}
    )
    body = parquet_file(table, compression="zstd")
    assert len(body) < 3000
    # Each value is in six lists, and each list takes four bytes.
    refused(BodyTooLargeError, PARQUET, body, max_bytes=23_000_000)


@pytest.mark.parametrize(
    ("values", "layout"),
    [
        (pa.array([[[1.0]]], pa.list_(pa.list_view(pa.float32()))), "ragged"),
        (pa.array([[[1.0]]], pa.list_view(pa.list_(pa.float32()))), "dense"),
        (pa.array([[{"a": 1.0}]]), "ragged"),
    ],
    ids=lambda value: str(getattr(value, "type", value)),
)
@pytest.mark.parametrize(("reader", "write"), TABLES[:2])
def test_types_in_lists_whose_size_is_unknown(
    reader: Reader, write: Callable[[pa.Table], bytes], values: pa.Array, layout: str
) -> None:
    table = pa.table({"logits": values, "targets": [[0]]}).replace_schema_metadata(
        {"request": json.dumps({"layout": layout})}
    )
    assert "neither numbers, texts nor lists" in refused(LossServiceError, reader, write(table))


@pytest.mark.parametrize(("reader", "write"), TABLES[:3])
def test_labels_that_become_python_objects_are_bounded(reader: Reader, write: Callable[[pa.Table], bytes]) -> None:
    table = pa.table({"logits": [[1.0, 2.0, 3.0]], "targets": [["0", "1", None]]})
    assert reader.decode(bytearray(write(table)), DecodeOptions(max_rows=3)).batches[0].targets.shape == (1, 3)
    assert "3 rows, the limit is 2" in refused(TooManyExamplesError, reader, write(table), max_rows=2)


@pytest.mark.parametrize(("reader", "write"), TABLES)
def test_rows_are_counted_before_they_are_read(reader: Reader, write: Callable[[pa.Table], bytes]) -> None:
    table = pa.table({"logits": [[1.0, 2.0]] * 11, "label": [0] * 11})
    assert len(reader.decode(bytearray(write(table)), DecodeOptions(max_rows=11)).batches[0].targets) == 11
    assert "11 rows, the limit is 10" in refused(TooManyExamplesError, reader, write(table), max_rows=10)


def test_more_batches_than_a_request_may_have() -> None:
    batch = {"logits": [[1, 2]], "targets": [0]}
    refused(TooManyBatchesError, JsonCodec(), json.dumps({"batches": [batch] * (MAX_BATCHES + 1)}).encode())
    metadata = {"request": json.dumps({"batches": [{}] * (MAX_BATCHES + 1)})}
    refused(TooManyBatchesError, SafetensorsCodec(), write_safetensors({}, metadata))


@pytest.mark.parametrize("line_end", mostly_slow([b"\n", b""], quick=1))
def test_a_longer_first_line_than_a_csv_file_may_have(line_end: bytes) -> None:
    refused(DecodeError, CSV, b"," * (MAX_HEADER_BYTES + 1) + line_end)
    refused(TooManyColumnsError, CSV, b"logits,label" + b"," * (MAX_HEADER_BYTES - 13) + b"\n")


@pytest.mark.parametrize("more", [0, 1])
def test_more_columns_than_a_csv_file_may_have(more: int) -> None:
    classes = MAX_COLUMNS - 1 + more
    names = ",".join(f"logit_{number}" for number in range(classes))
    body = f"label,{names}\n0{',0' * classes}\n".encode()
    if more:
        refused(TooManyColumnsError, CSV, body)
    else:
        assert CSV.decode(body).batches[0].logits.shape == (1, classes)


@pytest.mark.slow
def test_more_record_batches_than_a_request_may_have() -> None:
    batch = pa.record_batch({"logits": [[1.0, 2.0]], "targets": [0]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        for _ in range(MAX_BATCHES + 1):
            writer.write_batch(batch)
    with pytest.raises(TooManyBatchesError):
        STREAM.decode(bytearray(sink.getvalue()))


@pytest.mark.parametrize(("reader", "write"), mostly_slow(TABLES, quick=2))
def test_more_attributes_than_an_example_may_have(reader: Reader, write: Callable[[pa.Table], bytes]) -> None:
    columns = {"logits": [[1.0, 2.0]], "label": [0]}
    many = pa.table(columns | {f"x{number}": ["a"] for number in range(MAX_ATTRIBUTES + 1)})
    refused(TooManyAttributesError, reader, write(many))
    assert reader.decode(bytearray(write(many))).batches[0].attributes is None
    (batch,) = reader.decode(bytearray(write(many.drop_columns(["x0"]))), DecodeOptions(with_attributes=True)).batches
    assert len(batch.attributes or ()) == MAX_ATTRIBUTES


def test_more_attributes_in_json() -> None:
    attributes = {f"x{number}": ["a"] for number in range(MAX_ATTRIBUTES + 1)}
    body = json.dumps({"logits": [[1, 2]], "targets": [0], "attributes": attributes}).encode()
    refused(TooManyAttributesError, JsonCodec(), body)


@pytest.mark.slow
@pytest.mark.parametrize(("reader", "write"), TABLES)
@pytest.mark.parametrize("prefix", ["logit_", "other"])
def test_time_grows_with_the_number_of_columns(reader: Reader, write: Callable[[pa.Table], bytes], prefix: str) -> None:
    def seconds(count: int) -> float:
        names = {f"{prefix}{number}": [1.5] for number in range(count)}
        logits = {} if prefix == "logit_" else {"logits": [[1.0, 2.0]]}
        body = bytearray(write(pa.table(names | logits | {"label": [0]})))
        times = []
        for _ in range(3):
            with Stopwatch() as watch:
                reader.decode(body, DecodeOptions(max_bytes=2**28))
            times.append(watch.seconds)
        return min(times)

    # Eight times as many columns take 8 times as long, and with quadratic work 64 times.
    assert seconds(4000) < 24 * max(seconds(500), 0.002)


def test_page_header_of_megabytes_is_rejected() -> None:
    table = pa.table({"logits": [[1.0, 2.0]], "label": [0]})
    body = parquet_file(table, use_dictionary=False, compression="none")
    # The first header begins with a field of integers; boolean fields before it take a byte each.
    assert body[4] == 0x15
    lying = bytearray(body[:4] + b"\x11" * 4_194_304 + body[4:])
    with (
        Stopwatch() as watch,
        pytest.raises(DecodeError, match="the header of a page is cut off, or larger than 65536"),
    ):
        PARQUET.decode(lying, DecodeOptions(max_bytes=2**28))
    assert watch.seconds < 0.2


def test_the_work_for_the_columns_of_a_parquet_file_is_linear() -> None:
    def calls(columns: int) -> int:
        table = pa.table(
            {**{f"logit_{number}": np.zeros(3, np.float32) for number in range(columns)}, "target": [0] * 3}
        )
        body = parquet_file(table)
        count = 0

        def profile(frame: object, event: str, argument: object) -> None:
            nonlocal count
            count += 1

        sys.setprofile(profile)
        try:
            request = PARQUET.decode(memoryview(body))
        finally:
            sys.setprofile(None)
        assert request.batches[0].logits.shape == (3, columns)
        return count

    calls(10)
    few, many = calls(100), calls(400)
    assert many < 4.4 * few
