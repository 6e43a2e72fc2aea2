"""Dense and ragged batches in the columns of Arrow files, Arrow streams and Parquet."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from service.codecs.arrow.codec import ArrowCodec
from service.codecs.base import Reader
from service.codecs.json import JsonCodec
from service.schema.request import Batch, Column
from tests.codecs.file_bodies import ARROW, CSV, PARQUET, arrow_file, arrow_stream, parquet_file
from tests.codecs.outcomes import error_of

STREAM = ArrowCodec()
FORMATS: list[Any] = [
    pytest.param(ARROW, arrow_file, id="arrow file"),
    pytest.param(STREAM, arrow_stream, id="arrow stream"),
    pytest.param(PARQUET, parquet_file, id="parquet"),
]
Write = Callable[[pa.Table], bytes]


def body(write: Write, layout: str, logits: Any, targets: Any, **options: Any) -> bytes:
    table = pa.table({"logits": logits, "targets": targets})
    return write(table.replace_schema_metadata({"request": json.dumps({"layout": layout, **options})}))


def decoded(reader: Reader, write: Write, layout: str, logits: Any, targets: Any, **options: Any) -> Batch:
    (batch,) = reader.decode(bytearray(body(write, layout, logits, targets, **options))).batches
    return batch


def fixed(values: np.ndarray[Any, Any]) -> pa.Array:
    """An array as lists of fixed size in each other."""
    array = pa.array(values.ravel())
    for size in reversed(values.shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array


def tensors(values: np.ndarray[Any, Any]) -> pa.Array:
    return pa.FixedShapeTensorArray.from_numpy_ndarray(values)


def lists(values: np.ndarray[Any, Any]) -> pa.Array:
    return pa.array(values.tolist())


MASKS = np.arange(2 * 3 * 2 * 4, dtype=np.float32).reshape(2, 3, 2, 4)
LABELS = np.arange(2 * 2 * 4).reshape(2, 2, 4)


@pytest.mark.parametrize("make", [fixed, tensors, lists])
@pytest.mark.parametrize(("reader", "write"), FORMATS)
def test_dense(reader: Reader, write: Write, make: Callable[[np.ndarray[Any, Any]], pa.Array]) -> None:
    batch = decoded(reader, write, "dense", make(MASKS), make(LABELS))
    assert np.array_equal(batch.logits, MASKS)
    assert np.array_equal(batch.targets, LABELS)
    assert batch.targets.dtype == np.int64
    assert batch.offsets is None


@pytest.mark.parametrize("kind", [pa.list_, pa.large_list])
@pytest.mark.parametrize(("reader", "write"), FORMATS)
def test_ragged(reader: Reader, write: Write, kind: Callable[..., pa.DataType]) -> None:
    logits = [[[0.0, 1.0], [2.0, 3.0]], [], [[4.0, 5.0]]]
    for inner in (pa.list_(pa.float32()), pa.list_(pa.float32(), 2)):
        batch = decoded(reader, write, "ragged", pa.array(logits, kind(inner)), pa.array([[0, 1], [], [2]]))
        assert batch.offsets is not None
        assert batch.offsets.tolist() == [0, 2, 2, 3]
        assert batch.offsets.dtype == np.int64
        assert np.array_equal(batch.logits, [[0, 1], [2, 3], [4, 5]])
        assert batch.logits.dtype == np.float32
        assert batch.targets.tolist() == [0, 1, 2]


@pytest.mark.parametrize(("reader", "write"), FORMATS)
def test_ragged_labels(reader: Reader, write: Write) -> None:
    binary = decoded(reader, write, "ragged", [[0.5, 1.0], [2.0]], [[0, 1], [1]])
    assert (binary.logits.tolist(), binary.targets.tolist()) == ([0.5, 1.0, 2.0], [0, 1, 1])
    many = decoded(reader, write, "ragged", [[[0.5, 1.0]], []], [[[0, 1]], []])
    assert (many.logits.tolist(), many.targets.tolist()) == ([[0.5, 1.0]], [[0, 1]])
    texts = decoded(reader, write, "ragged", [[[0.5, 1.0]], [[2.0, 3.0]]], [["cat"], [None]])
    assert texts.targets.tolist() == ["cat", None]


@pytest.mark.parametrize(("reader", "write"), FORMATS)
def test_examples_without_elements(reader: Reader, write: Write) -> None:
    kind = pa.list_(pa.list_(pa.float32()))
    # A stream without rows has no batch.
    for rows in ([[], []],) if reader is STREAM else ([], [[], []]):
        batch = decoded(reader, write, "ragged", pa.array(rows, kind), pa.array(rows, pa.list_(pa.int64())))
        assert batch.offsets is not None
        assert batch.offsets.tolist() == [0] * (len(rows) + 1)
        assert (batch.logits.shape, batch.targets.shape, batch.num_examples) == ((0,), (0,), len(rows))
    # pyarrow knows no type of such lists.
    assert decoded(reader, write, "ragged", [[], []], [[], []]).num_examples == 2


@pytest.mark.parametrize(("reader", "write"), FORMATS)
def test_missing_logits_are_nan_to_be_excluded(reader: Reader, write: Write) -> None:
    dense = decoded(reader, write, "dense", [[[1.0, None]]], [[0, 0]], on_invalid="exclude")
    assert np.array_equal(dense.logits, [[[1, np.nan]]], equal_nan=True)
    ragged = decoded(reader, write, "ragged", [[[1.0, None]]], [[0]], on_invalid="exclude")
    assert np.array_equal(ragged.logits, [[1, np.nan]], equal_nan=True)


def is_view(array: Column, content: bytearray) -> bool:
    return np.shares_memory(array, np.frombuffer(content, np.uint8))


def test_values_are_views_of_an_arrow_file() -> None:
    for make in (fixed, tensors, lists):
        content = bytearray(body(arrow_file, "dense", make(MASKS), make(LABELS)))
        (batch,) = ARROW.decode(content).batches
        assert is_view(batch.logits, content)
        assert is_view(batch.targets, content)
    content = bytearray(body(arrow_file, "ragged", [[[0.5, 1.0]], [[2.0, 3.0]]], [[0], [1]]))
    (batch,) = ARROW.decode(content).batches
    assert is_view(batch.logits, content)


def turned(values: np.ndarray[Any, Any]) -> pa.Array:
    kind = pa.fixed_shape_tensor(pa.float32(), values.shape[1:], permutation=[2, 0, 1])
    return pa.ExtensionArray.from_storage(kind, fixed(values.reshape(len(values), -1)))


RAGGED, FLOATS = pa.list_(pa.list_(pa.float32())), pa.list_(pa.float32())
BAD: list[tuple[str, Any, Any, str, str, list[Any]]] = [
    ("dense", [[[1.0, 2], [3]]], [[0]], "invalid_shape", "row 0, element 1, column 'logits': 1 v", ["logits", 0, 1]),
    ("dense", [[[1.0, 2]], [[3]]], [[0], [0]], "invalid_shape", "row 1, element 0, column", ["logits", 1, 0]),
    ("dense", [[[1.0]], [[2.0], [3]]], [[0], [0]], "invalid_shape", "row 1, column 'logits': 2 v", ["logits", 1]),
    ("dense", [[[1.0, 2], None]], [[0, 0]], "invalid_logit", "row 0, element 1, column 'logits': no", ["logits", 0, 1]),
    ("dense", [[[1.0, None]]], [[0, 0]], "invalid_logit", "row 0, element [0, 1], column", ["logits", 0, 0, 1]),
    ("dense", [None, [[1.0]]], [[0], [0]], "invalid_logit", "row 0, column 'logits': no value", ["logits", 0]),
    ("dense", [[["x"]]], [[0]], "invalid_logit", "string is not a number", ["logits", 0]),
    ("dense", turned(MASKS), lists(LABELS), "invalid_logit", "permutation [2, 0, 1]", ["logits"]),
    ("ragged", [1.0], [[0]], "invalid_logit", "a row is a list of elements", ["logits", 0]),
    ("ragged", [[1.0]], [0], "invalid_target", "a row is a list of elements", ["targets", 0]),
    ("ragged", [[1.0], None], [[0], []], "invalid_logit", "row 1, column 'logits': no value", ["logits", 1]),
    ("ragged", [[], [[1.0, 2], [3]]], [[], [0, 0]], "invalid_shape", "row 1, element 1, column", ["logits", 1, 1]),
    ("ragged", [[], [[1.0, None]]], [[], [0]], "invalid_logit", "row 1, element 0, column 1 of", ["logits", 1, 0, 1]),
    ("ragged", [[[1.0, 2]]], [[0, 1]], "invalid_shape", "row 0: 2 targets for 1 elements", ["targets", 0]),
    ("ragged", [[1.0]], [[{"a": 1}]], "invalid_request", "neither numbers, texts nor lists", ["targets"]),
]


@pytest.mark.parametrize(("layout", "logits", "targets", "code", "detail", "loc"), BAD)
@pytest.mark.parametrize(("reader", "write"), FORMATS)
def test_bad_lists_are_named(
    reader: Reader, write: Write, layout: str, logits: Any, targets: Any, code: str, detail: str, loc: list[Any]
) -> None:
    error = error_of(reader, body(write, layout, logits, targets))
    assert error.code == code
    assert detail in error.detail
    assert error.errors[0]["loc"] == ["batches", 0, *loc]


@pytest.mark.parametrize(("reader", "write"), FORMATS)
def test_columns_of_classes_hold_rows_only(reader: Reader, write: Write) -> None:
    table = pa.table({"logit_0": [0.5], "logit_1": [0.5], "targets": [[0]]})
    content = write(table.replace_schema_metadata({"request": '{"layout": "dense"}'}))
    assert "the layout dense needs a column logits" in error_of(reader, content).detail


def test_a_tensor_of_several_dimensions_is_no_row() -> None:
    for write, reader in ((arrow_file, ARROW), (parquet_file, PARQUET)):
        error = error_of(reader, body(write, "rows", tensors(MASKS), [0, 1]))
        assert "one dimension, got shape [3, 2, 4]" in error.detail


@pytest.mark.parametrize(("reader", "write"), FORMATS)
def test_lists_in_each_other_without_a_layout(reader: Reader, write: Write) -> None:
    detail = "lists in each other have the layout dense or ragged"
    assert detail in error_of(reader, body(write, "rows", [[[1.0, 2.0]]], [0])).detail
    assert detail in error_of(JsonCodec(), b'{"logits": [[[1.0, 2.0]]], "targets": [0]}').detail


def test_csv_holds_rows_only() -> None:
    error = error_of(CSV, b'logits,label\n"[[0.5, 1.0], [0.5, 1.0]]","[0, 1]"\n')
    assert "a cell holds one list, and CSV no layout but rows" in error.detail
