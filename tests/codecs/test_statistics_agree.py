"""Statistics in place of logits: every format reads the same batch from them, and names the same faults."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.codecs.arrow.codec import ArrowCodec
from service.codecs.base import DecodeOptions, Reader
from service.codecs.json import JsonCodec
from service.codecs.open_inference import decode_request
from service.codecs.safetensors import SafetensorsCodec
from service.errors import InvalidRequestError, LossServiceError
from service.formats.safetensors import write_safetensors
from service.schema.request import STATISTICS, Batch, LossRequest
from tests.codecs.file_bodies import ARROW, CSV, PARQUET, arrow_file, arrow_stream, parquet_file
from tests.compute.structured import Structured, structured_batches
from tests.strategies import at_most

Array = np.ndarray[Any, np.dtype[Any]]
DTYPES = {"prediction": np.uint8}


def statistics_of(case: Structured, names: list[str]) -> dict[str, Array]:
    """Any numbers: the codecs do not check their values."""
    rng = np.random.default_rng(0)
    values = {"log_odds": rng.normal(size=case.batch.targets.shape).astype(np.float32)}
    for name in names:
        values[name] = rng.integers(0, 9, case.batch.targets.shape).astype(DTYPES.get(name, np.float32))
    return values


def nested(values: Array, offsets: Array | None) -> list[Any]:
    """The values as lists, one for each example."""
    if offsets is None:
        return values.tolist()
    return [part.tolist() for part in np.split(values, offsets[1:-1])] if len(offsets) > 1 else []


def read(reader: Reader, body: bytes, **options: Any) -> LossRequest:
    return reader.decode(bytearray(body), DecodeOptions(**options))


def inference(tensors: Mapping[str, Array]) -> LossRequest:
    datatypes = {"float32": "FP32", "uint8": "UINT8", "int64": "INT64"}
    contents = [values.tobytes() for values in tensors.values()]
    inputs = [
        {
            "name": name,
            "datatype": datatypes[values.dtype.name],
            "shape": values.shape,
            "parameters": {"binary_data_size": len(content)},
        }
        for (name, values), content in zip(tensors.items(), contents, strict=True)
    ]
    header = json.dumps({"inputs": inputs}).encode()
    return decode_request(bytearray(header + b"".join(contents)), len(header)).loss_request


def csv_text(tensors: Mapping[str, Array]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([[*tensors], *zip(*(values.tolist() for values in tensors.values()), strict=True)])
    return text.getvalue().encode()


def read_in_every_format(layout: str, tensors: dict[str, Array], offsets: Array | None) -> Iterator[tuple[str, Batch]]:
    options = json.dumps({"layout": layout})
    lists = {name: nested(values, offsets) for name, values in tensors.items()}
    yield "json", read(JsonCodec(), json.dumps({"layout": layout, **lists}).encode()).batches[0]
    binary = tensors if offsets is None else tensors | {"offsets": offsets}
    yield "safetensors", read(SafetensorsCodec(), write_safetensors(binary, {"request": options})).batches[0]
    if lists["targets"]:
        table = pa.table(lists).replace_schema_metadata({"request": options})
        yield "arrow stream", read(ArrowCodec(), arrow_stream(table)).batches[0]
        yield "arrow file", read(ARROW, arrow_file(table)).batches[0]
        yield "parquet", read(PARQUET, parquet_file(table)).batches[0]
    if layout == "rows":
        yield "open inference", inference(tensors).batches[0]
        if tensors["targets"].ndim == 1 and lists["targets"]:
            yield "csv", read(CSV, csv_text(tensors)).batches[0]


@at_most(60, deadline=None)
@given(case=structured_batches(), names=st.lists(st.sampled_from(STATISTICS[1:]), unique=True))
def test_same_batch_in_every_format(case: Structured, names: list[str]) -> None:
    statistics, offsets = statistics_of(case, names), case.batch.offsets
    tensors = {"targets": case.batch.targets.astype(np.int64), **statistics}
    for form, batch in read_in_every_format(case.layout, tensors, offsets):
        assert batch.logits.size == 0
        assert batch.num_examples == case.batch.num_examples
        assert batch.statistics is not None, form
        assert {*batch.statistics} == {*statistics}, form
        for name, values in statistics.items():
            got = batch.statistics[name]
            # An empty list does not tell the lengths of lists in it.
            assert got.shape == values.shape or not values.size, (form, name)
            assert np.array_equal(got.ravel().astype(np.float32), values.ravel()), (form, name)
        if offsets is not None:
            assert batch.offsets is not None
            assert batch.offsets.tolist() == offsets.tolist(), form
        np.testing.assert_array_equal(batch.targets.astype(float).ravel(), case.batch.targets.ravel())


@pytest.mark.parametrize(
    ("reader", "write"), [(ARROW, arrow_file), (ArrowCodec(), arrow_stream), (PARQUET, parquet_file)]
)
def test_a_table_with_logits_has_attributes_of_such_names(reader: Reader, write: Any) -> None:
    table = pa.table({"logits": [[1.0, 2.0]], "targets": [0], "log_odds": [0.5], "entropy": ["low"]})
    (batch,) = read(reader, write(table), with_attributes=True).batches
    assert batch.statistics is None
    assert batch.attributes == {"log_odds": [0.5], "entropy": ["low"]}
    numbered = pa.table({"logit_0": [1.0], "logit_1": [2.0], "targets": [0], "log_odds": [0.5]})
    assert read(reader, write(numbered)).batches[0].logits.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("layout", ["rows", "dense", "ragged"])
def test_large_json_bodies(layout: str) -> None:
    shape = (9000,) if layout == "rows" else (900, 10)
    rng = np.random.default_rng(0)
    values = {
        "targets": rng.integers(0, 3, shape),
        "prediction": rng.integers(0, 3, shape),
        "log_odds": rng.normal(size=shape).round(3),
        "entropy": rng.integers(0, 2, shape),
    }
    lists: dict[str, Any] = {name: array.tolist() for name, array in values.items()}
    body = json.dumps({"layout": layout, **lists}).encode()
    assert len(body) > 65_536
    batch = read(JsonCodec(), body).batches[0]
    lists["entropy"][0] = None if layout == "rows" else [None, *lists["entropy"][0][1:]]
    (with_null,) = read(JsonCodec(), json.dumps({"layout": layout, **lists}).encode()).batches
    assert batch.statistics is not None
    assert with_null.statistics is not None
    assert {array.dtype for array in batch.statistics.values()} == {np.dtype(np.float64)}
    for name, array in batch.statistics.items():
        assert np.array_equal(array.ravel(), values[name].ravel())
        assert np.isnan(with_null.statistics[name]).sum() == (name == "entropy")
    # Attributes may have such names.
    for column in ({"entropy": [1.5] * 9000}, {"log_odds": [1] * 9000}):
        plain = {"logits": [[1.25, 2.5]] * 9000, "targets": [0] * 9000, "attributes": column}
        assert read(JsonCodec(), json.dumps(plain).encode(), with_attributes=True).batches[0].attributes == column


def test_missing_statistics_are_nan() -> None:
    body = {"targets": [0, -100], "log_odds": [1.5, None], "prediction": [1, None]}
    table = pa.table({"targets": [0, -100], "log_odds": [1.5, None], "prediction": pa.array([1, None], pa.int32())})
    read_as = [
        read(JsonCodec(), json.dumps(body).encode()),
        read(ARROW, arrow_file(table)),
        read(CSV, b"targets,log_odds,prediction\n0,1.5,1\n-100,,\n"),
    ]
    for request in read_as:
        assert request.batches[0].statistics is not None
        np.testing.assert_array_equal(request.batches[0].statistics["log_odds"], [1.5, np.nan])
        np.testing.assert_array_equal(request.batches[0].statistics["prediction"], [1, np.nan])


ROWS = {"targets": [0, 1], "log_odds": [1.0, 2.0]}
FAULTS: list[tuple[dict[str, Any], str, list[Any]]] = [
    (ROWS | {"log_odds": [1.0, "x"]}, "invalid_logit", ["batches", 0, "log_odds", 1]),
    (ROWS | {"prediction": [[1], 2]}, "invalid_shape", ["batches", 0, "prediction", 1]),
    (ROWS | {"entropy": 1.0}, "invalid_request", ["batches", 0, "entropy"]),
    ({"log_odds": [1.0]}, "invalid_request", ["targets"]),
    ({"targets": [1]}, "invalid_request", ["logits"]),
    ({"layout": "ragged", "targets": [[0], [1]], "log_odds": [[1.0]]}, "invalid_shape", ["batches", 0, "targets"]),
    (
        {"layout": "ragged", "targets": [[0], [1]], "log_odds": [[1.0], [1.0, 2.0]]},
        "invalid_shape",
        ["batches", 0, "targets", 1],
    ),
    (
        {"layout": "dense", "targets": [[0, 1]], "log_odds": [[1.0, True]]},
        "invalid_logit",
        ["batches", 0, "log_odds", 0, 1],
    ),
]


@pytest.mark.parametrize(("body", "code", "loc"), FAULTS)
def test_faults_in_json(body: dict[str, Any], code: str, loc: list[Any]) -> None:
    with pytest.raises(LossServiceError) as caught:
        read(JsonCodec(), json.dumps(body).encode())
    assert (caught.value.code, caught.value.errors[0]["loc"]) == (code, loc)


def test_faults_in_binary_formats() -> None:
    with pytest.raises(InvalidRequestError, match="row 0: booleans are not numbers"):
        read(
            SafetensorsCodec(), write_safetensors({"targets": np.zeros(1, np.int64), "log_odds": np.array([True])}, {})
        )
    with pytest.raises(InvalidRequestError, match="targets missing"):
        read(SafetensorsCodec(), write_safetensors({"log_odds": np.ones(1, np.float32)}, {}))
    with pytest.raises(InvalidRequestError, match="row 1, column 'log_odds': 'x' is not a number"):
        read(CSV, b"targets,log_odds\n0,1.5\n1,x\n")
    with pytest.raises(InvalidRequestError, match="datatype 'BOOL'"):
        inputs = [{"name": "prediction", "datatype": "BOOL", "shape": [1], "data": [True]}]
        decode_request(bytearray(json.dumps({"inputs": inputs}).encode()), None)
