"""Arrow streams: golden bytes, and hostile streams."""

from __future__ import annotations

import json
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.codecs.arrow.codec import ArrowCodec
from service.codecs.arrow.reader import ArrowStream
from service.codecs.base import DecodeOptions
from service.errors import BodyTooLargeError, DecodeError, LossServiceError
from tests.codecs.outcomes import error_of, outcome
from tests.codecs.samples import result
from tests.lanes import mostly_slow
from tests.strategies import at_most

GOLDEN = Path(__file__).parent.parent / "golden"
# Both were written with pyarrow 26.0.1 and looked at; they change only when the format does.
REQUEST, REPLY = GOLDEN / "request.arrows", GOLDEN / "reply.arrows"
END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


def request_bytes() -> bytes:
    schema = pa.schema(
        [("logits", pa.list_(pa.float32(), 3)), ("targets", pa.int64()), ("id", pa.string())],
        metadata={"request": json.dumps({"config": {"gamma": 1.5}, "top_k": 1})},
    )
    values = pa.array(np.array([2.0, 0.1, -1.0, 0.3, 0.2, 0.9], np.float32))
    columns = [pa.FixedSizeListArray.from_arrays(values, 3), pa.array([0, 1]), pa.array(["a", "b"])]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))
    return bytes(sink.getvalue())


def test_golden_request() -> None:
    request = ArrowCodec().decode(bytearray(REQUEST.read_bytes()))
    (batch,) = request.batches
    assert batch.logits.tolist() == np.array([[2.0, 0.1, -1.0], [0.3, 0.2, 0.9]], np.float32).tolist()
    assert (batch.targets.tolist(), batch.ids) == ([0, 1], ["a", "b"])
    assert request.options.config is not None
    assert (request.options.config.gamma, request.options.top_k) == (1.5, 1)


def test_golden_reply() -> None:
    assert ArrowCodec().encode(result()) == REPLY.read_bytes()
    assert REPLY.read_bytes().endswith(END_OF_STREAM)


def test_reply_has_the_result() -> None:
    reader = pa.ipc.open_stream(ArrowCodec().encode(result()))
    (first, metadata), *_ = iter(reader.iter_batches_with_custom_metadata())
    assert first["id"].to_pylist() == ["a", "b", "7"]
    assert first["loss"].to_pylist() == [0.5, 0.0, None]
    assert first["prediction"].to_pylist() == [1, None, None]
    assert {key.decode(): value.decode() for key, value in metadata.items()} == {
        "loss": "0.5",
        "num_examples": "3",
        "num_ignored": "1",
        "num_excluded": "1",
        "num_elements": "1",
    }


def test_truncated_stream_is_rejected_or_shorter() -> None:
    body = request_bytes()
    for cut in range(0, len(body), 7):
        got = outcome(ArrowCodec(), body[:cut])
        if isinstance(got, LossServiceError):
            assert got.status == 400
        else:
            # A stream may end without its mark: the format allows it.
            assert len(got.batches) in (0, 1)


@given(data=st.data())
@at_most(400, deadline=None)
def test_changed_bytes_are_rejected_or_another_request(data: st.DataObject) -> None:
    body = bytearray(request_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    got = outcome(ArrowCodec(), body)
    if isinstance(got, LossServiceError):
        assert got.status in (400, 413, 422)


@given(body=st.binary(max_size=200))
@at_most(200, deadline=None)
def test_random_bytes_are_rejected(body: bytes) -> None:
    assert error_of(ArrowCodec(), body).status == 400


@pytest.mark.parametrize("length", [2**31 - 1, 2**30, -1, -(2**31)])
def test_wrong_length_allocates_nothing(length: int) -> None:
    body = request_bytes()
    first = struct.unpack_from("<i", body, 4)[0]
    second = 8 + first + 4
    tracemalloc.start()
    try:
        for position in (4, second):
            lying = bytearray(body)
            struct.pack_into("<i", lying, position, length)
            assert isinstance(outcome(ArrowCodec(), lying), LossServiceError)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def compressed_stream(rows: int) -> bytes:
    logits = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(rows * 2, np.float32)), 2)
    batch = pa.record_batch({"logits": logits, "targets": pa.array(np.zeros(rows, np.int64))})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def test_declared_size_is_checked_before_buffers_are_inflated() -> None:
    content = compressed_stream(1_000_000)
    assert len(content) < 10_000
    before = pa.total_allocated_bytes()
    stream = ArrowStream(pa.BufferReader(content), 1_000_000)  # type: ignore[arg-type]
    with pytest.raises(BodyTooLargeError, match="inflates to 16000000 bytes"):
        next(iter(stream))
    assert pa.total_allocated_bytes() - before < 1_000_000
    (batch,) = ArrowStream(pa.BufferReader(content), 16_000_000)  # type: ignore[arg-type]
    assert batch.logits.shape == (1_000_000, 2)


@given(position=st.integers(0, 2000), value=st.integers(0, 255))
@at_most(200, deadline=None)
def test_changed_bytes_of_a_compressed_stream(position: int, value: int) -> None:
    body = bytearray(compressed_stream(100))
    body[position % len(body)] = value
    got = outcome(ArrowCodec(), body)
    if isinstance(got, LossServiceError):
        assert got.status in (400, 413, 422)


def stream_of(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


@pytest.mark.parametrize(
    "columns",
    [
        {"logits": pa.array([[1.0, 2.0]]), "targets": pa.array([0]), "id": pa.array([True])},
        {"logits": pa.array([[[1.0], [2.0]]]), "targets": pa.array([0])},
        {"logits": pa.array([{"a": 1.0}]), "targets": pa.array([0])},
        {"logits": pa.array([None], pa.null()), "targets": pa.array([0])},
        {"logits": pa.array([[1.0, 2.0]]), "targets": pa.array([{"a": 0}])},
        {"logits": pa.array([[]], pa.list_(pa.float32(), 0)), "targets": pa.array([0])},
    ],
)
def test_unsupported_types_are_rejected(columns: dict[str, Any]) -> None:
    assert error_of(ArrowCodec(), stream_of(pa.record_batch(columns))).status in (400, 422)


def test_invalid_utf8_is_rejected() -> None:
    batch = pa.record_batch({"logits": pa.array([[1.0, 2.0]]), "targets": pa.array([0]), "id": pa.array(["abcd"])})
    body = bytearray(stream_of(batch))
    position = body.index(b"abcd")
    body[position : position + 4] = b"\xff\xfe\xfd\xfc"
    assert isinstance(outcome(ArrowCodec(), body), DecodeError)


def test_metadata_that_is_not_json_is_rejected() -> None:
    for text in ("{", "[1]", '{"unknown": 1}'):
        batch = pa.record_batch({"logits": pa.array([[1.0, 2.0]]), "targets": pa.array([0])})
        error_of(ArrowCodec(), stream_of(batch.replace_schema_metadata({"request": text})))


def dictionary_stream(texts: list[list[str]], **options: Any) -> bytes:
    """A stream whose record batches have a dictionary of ids each."""
    schema = pa.schema(
        {"logits": pa.list_(pa.float64()), "y": pa.int64(), "id": pa.dictionary(pa.int32(), pa.string())}
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for ids in texts:
            columns = [pa.array([[1.0, 2.0]] * len(ids)), pa.array([0] * len(ids)), pa.array(ids).dictionary_encode()]
            writer.write_batch(pa.record_batch(columns, schema=schema))
    return bytes(sink.getvalue())


@pytest.mark.parametrize("deltas", mostly_slow([True, False], quick=1))
@pytest.mark.parametrize("compression", mostly_slow(["zstd", None], quick=1))
def test_dictionaries_that_are_replaced_or_grow(deltas: bool, compression: str | None) -> None:
    texts = [["a", "b"], ["a", "b"], ["a", "b", "c"], ["d", "e"]]
    body = dictionary_stream(texts, emit_dictionary_deltas=deltas, compression=compression)
    assert [batch.ids for batch in ArrowCodec().decode(bytearray(body)).batches] == texts
    for cut in range(8, len(body) - 8, 7):
        got = outcome(ArrowCodec(), body[:cut])
        assert isinstance(got, LossServiceError) or len(got.batches) <= len(texts)


@pytest.mark.parametrize("deltas", [True, False])
def test_dictionaries_count_while_they_are_held(deltas: bool) -> None:
    texts = [[f"{'x' * 100_000}{number}" for number in range(size)] for size in range(1, 8)]
    body = dictionary_stream(texts, emit_dictionary_deltas=deltas)
    with pytest.raises(BodyTooLargeError):
        ArrowCodec().decode(bytearray(body), DecodeOptions(max_bytes=599_000))
    assert len(ArrowCodec().decode(bytearray(body), DecodeOptions(max_bytes=2_000_000)).batches) == 7
    many = dictionary_stream([[f"{'x' * 100_000}{number}"] for number in range(20)])
    assert len(ArrowCodec().decode(bytearray(many), DecodeOptions(max_bytes=300_000)).batches) == 20


@given(position=st.integers(0, 5000), value=st.integers(0, 255))
@at_most(200, deadline=None)
def test_changed_bytes_of_a_stream_with_dictionaries(position: int, value: int) -> None:
    body = bytearray(dictionary_stream([["a", "b"], ["c"]]))
    body[position % len(body)] = value
    got = outcome(ArrowCodec(), body)
    if isinstance(got, LossServiceError):
        assert got.status in (400, 413, 422)
