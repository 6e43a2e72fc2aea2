"""Hostile Parquet, Arrow and CSV files."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.codecs.base import DecodeOptions, Reader
from service.errors import BodyTooLargeError, DecodeError, LossServiceError
from tests.codecs.file_bodies import ARROW, CSV, PARQUET, arrow_file, body_of, parquet_file
from tests.codecs.outcomes import error_of, outcome
from tests.strategies import at_most

MIB = 1024 * 1024
SMALL = pa.table(
    {
        "logits": pa.array([[2.0, 0.5, -1.0], [0.25, 0.5, 4.0]], pa.list_(pa.float32())),
        "label": [0, 2],
        "id": ["a", "b"],
        "kind": pa.array(["u", "v"]).dictionary_encode(),
    }
)
READERS = pytest.mark.parametrize("reader", [ARROW, PARQUET, CSV], ids=lambda reader: reader.media_type)


def too_large(reader: Reader, body: bytes, max_bytes: int = MIB) -> str:
    """The error for a body that declares too large a size; checks that the reader does not allocate it."""
    pool = pa.default_memory_pool()
    before, floor = pool.max_memory(), pool.bytes_allocated()
    with pytest.raises(BodyTooLargeError) as caught:
        reader.decode(bytearray(body), DecodeOptions(with_attributes=True, max_bytes=max_bytes))
    assert pool.max_memory() <= max(before, floor + 20 * MIB)
    return caught.value.detail


@READERS
def test_truncated_file_is_rejected_or_shorter(reader: Reader) -> None:
    body = body_of(reader, SMALL)
    for cut in range(0, len(body) - 2, 3):
        got = outcome(reader, body[:cut])
        if isinstance(got, LossServiceError):
            assert got.status in (400, 422)
        else:
            assert reader is CSV


@READERS
@given(data=st.data())
@at_most(400, deadline=None)
def test_changed_bytes_are_rejected_or_another_request(reader: Reader, data: st.DataObject) -> None:
    body = bytearray(body_of(reader, SMALL))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    got = outcome(reader, body, with_attributes=True)
    if isinstance(got, LossServiceError):
        assert got.status in (400, 413, 422)


@READERS
@given(body=st.binary(max_size=200))
@at_most(200, deadline=None)
def test_random_bytes_are_rejected(reader: Reader, body: bytes) -> None:
    # Any bytes may be the first line of a CSV, which then lacks its columns.
    assert error_of(reader, body).status in ((400, 422) if reader is CSV else (400,))


@given(text=st.text(st.sampled_from('01,."\n\r;-nae'), max_size=60))
@at_most(300, deadline=None)
def test_random_lines_below_a_header(text: str) -> None:
    got = outcome(CSV, f"logit_0,logit_1,label\n{text}".encode())
    if isinstance(got, LossServiceError):
        assert got.status in (400, 422)


@pytest.mark.parametrize("compression", ["zstd", "gzip", "snappy"])
def test_declared_size_of_pages_is_checked_before_they_are_inflated(compression: str) -> None:
    rows = pa.table(
        {"logits": pa.FixedSizeListArray.from_arrays(np.zeros(4 * MIB), 4), "label": np.zeros(MIB, np.int64)}
    )
    body = parquet_file(rows, compression=compression, use_dictionary=False)
    assert len(body) < 4 * MIB
    assert "take 42" in too_large(PARQUET, body, 8 * MIB)


def test_size_of_a_dictionary_column_counts_every_value() -> None:
    rows = pa.table(
        {"logits": pa.FixedSizeListArray.from_arrays(np.zeros(4 * MIB), 4), "label": np.zeros(MIB, np.int64)}
    )
    body = parquet_file(rows)
    assert len(body) < 50_000
    too_large(PARQUET, body)


@pytest.mark.parametrize("reader", [ARROW, PARQUET], ids=lambda reader: reader.media_type)
def test_size_of_a_repeated_text_counts_every_row(reader: Reader) -> None:
    count = 20_000
    texts = pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), pa.array(["x" * 500_000]))
    rows = pa.table({"logit_0": np.zeros(count), "logit_1": np.zeros(count), "label": np.zeros(count), "text": texts})
    if reader is PARQUET:
        # As a plain string it stands in the page's own dictionary.
        sink = io.BytesIO()
        with pq.ParquetWriter(sink, rows.schema, store_schema=False) as writer:
            writer.write_table(rows)
        body = sink.getvalue()
        assert pq.ParquetFile(pa.BufferReader(body)).schema_arrow.field("text").type == pa.string()
    else:
        body = arrow_file(rows)
    assert len(body) < 2 * MIB
    assert "take 100010" in too_large(reader, body, 4 * MIB)


def test_size_of_views_of_one_text_counts_every_view() -> None:
    count = 20_000
    (_, views, data) = pa.array(["y" * 500_000], pa.string_view()).buffers()
    text = pa.Array.from_buffers(pa.string_view(), count, [None, pa.py_buffer(views.to_pybytes() * count), data])
    rows = pa.table({"logit_0": np.zeros(count), "logit_1": np.zeros(count), "label": np.zeros(count), "text": text})
    body = arrow_file(rows)
    assert len(body) < 2 * MIB
    assert "1000" in too_large(ARROW, body, 4 * MIB)
    # As a dictionary's values, too.
    kinds = pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), text.slice(0, 1))
    too_large(ARROW, arrow_file(rows.set_column(3, "text", kinds)), 4 * MIB)


def test_declared_size_is_checked_before_buffers_are_inflated() -> None:
    rows = pa.table(
        {"logits": pa.FixedSizeListArray.from_arrays(np.zeros(4 * MIB), 4), "label": np.zeros(MIB, np.int64)}
    )
    body = arrow_file(rows, compression="zstd")
    assert len(body) < 50_000
    too_large(ARROW, body)
    kinds = pa.DictionaryArray.from_arrays(np.zeros(1, np.int32), pa.array(["x" * 40 * MIB]))
    small = pa.table({"logits": [[0.0, 1.0]], "label": [0], "kind": kinds})
    too_large(ARROW, arrow_file(small, compression="lz4"))


def test_size_of_empty_csv_cells_is_their_size_in_memory() -> None:
    names = ",".join(["logit_0", "logit_1", "label", *(f"a{number}" for number in range(1000))])
    body = "\n".join([names, *["0,0,0" + "," * 1000] * 1000]).encode()
    assert len(body) < 1.1 * MIB
    too_large(CSV, body, 2 * MIB)


def patched(body: bytes, change: Any) -> list[bytearray]:
    """Copies of the file, each with one changed byte in the first page header of the column `label`."""
    chunk = pq.ParquetFile(pa.BufferReader(body)).metadata.row_group(0).column(0)
    copies = []
    for position in range(chunk.data_page_offset, chunk.data_page_offset + 40):
        copy = bytearray(body)
        copy[position] = change(copy[position])
        copies.append(copy)
    return copies


def test_changed_page_headers_are_rejected_or_harmless() -> None:
    numbers = pa.table({"label": np.zeros(100, np.int64), "logit_0": np.zeros(100), "logit_1": np.zeros(100)})
    body = parquet_file(numbers, use_dictionary=False, compression="none", write_statistics=False)
    rejected = 0
    for change in (lambda byte: byte | 128, lambda byte: byte ^ 255, lambda byte: byte ^ 1, lambda byte: byte ^ 32):
        for lying in patched(body, change):
            got = outcome(PARQUET, lying)
            rejected += isinstance(got, LossServiceError)
            assert isinstance(got, LossServiceError) or len(got.batches[0].targets) == 100
    assert rejected > 10


def test_encoding_that_declares_no_size_is_rejected() -> None:
    body = parquet_file(SMALL, use_dictionary=False, column_encoding={"id": "DELTA_BYTE_ARRAY"})
    assert "DELTA_BYTE_ARRAY" in error_of(PARQUET, body).detail


def test_encrypted_or_other_file_is_rejected() -> None:
    for body in (b"PAR1", b"PARE" * 5, b"ARROW1\0\0ARROW1", b"PK\x03\x04" * 100, b"\x89HDF\r\n\x1a\n" * 20):
        assert isinstance(error_of(PARQUET, body), DecodeError)
        assert isinstance(error_of(ARROW, body), DecodeError)


def test_block_of_a_footer_that_is_no_message() -> None:
    body = arrow_file(SMALL)
    footer = int.from_bytes(body[-10:-6], "little")
    start = len(body) - 10 - footer
    # The end-of-stream mark before the footer, where the footer has the position of a record batch or dictionary.
    mark = start - 8
    assert body[mark:start] == b"\xff\xff\xff\xff\0\0\0\0"
    for place in range(start, len(body) - 18, 8):
        lying = bytearray(body)
        lying[place : place + 8] = mark.to_bytes(8, "little")
        got = outcome(ARROW, lying)
        assert not isinstance(got, LossServiceError) or got.status in (400, 413, 422)
