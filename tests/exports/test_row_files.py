"""Rows of files of every media type, also after a spreadsheet has saved them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.codecs.base import DecodeOptions
from service.errors import BodyTooLargeError, LossServiceError, TooManyValuesError, UnsupportedMediaTypeError
from service.exports.review_files import file_reviews, row_reader
from service.exports.row_files import Row
from service.exports.tables import write_csv
from service.runs.manifest import RunDescription
from tests.exports.examples import PLAIN, options, whole
from tests.exports.read_rows import members_of

LIMITS = DecodeOptions(max_bytes=1_000_000, max_rows=1_000)
CSV, JSONL, PARQUET = "text/csv", "application/x-ndjson", "application/vnd.apache.parquet"
ROWS = [{"id": "a", "verdict": "ok"}, {"id": "b", "verdict": "ok"}]


def rows(media_type: str, content: bytes, limits: DecodeOptions = LIMITS) -> list[Row]:
    return list(row_reader(media_type)(memoryview(content), limits))


def reviews(media_type: str, content: bytes, names: Sequence[str] | None = None) -> list[dict[str, object]]:
    description = RunDescription.parse({} if names is None else {"class_names": names})
    found = file_reviews(row_reader(media_type)(memoryview(content), LIMITS), description, {})
    return [members_of(row) for row in found.reviews]


def parquet_file(columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def arrow_file(columns: Any) -> bytes:
    sink = io.BytesIO()
    table = pa.table(columns)
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


ENCODED = arrow_file(
    {
        "ids": pa.array(["ä", "b", "c"]).dictionary_encode(),
        "verdict": ["wrong", "", "ok"],
        "label": [1.0, None, None],
    }
)


def saved_by_a_spreadsheet(content: bytes, delimiter: str, encoding: str, line_end: str) -> bytes:
    """The file with another separator, encoding and line end, an empty column and empty rows at the end."""
    cells = list(csv.reader(io.StringIO(content.decode(), newline="")))
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end)
    writer.writerows([*([*row, ""] for row in cells), [""] * len(cells[0]), []])
    return text.getvalue().encode(encoding)


@pytest.mark.parametrize("line_end", ["\r\n", "\n"])
@pytest.mark.parametrize(
    ("delimiter", "encoding"),
    [(",", "utf-8"), (",", "utf-8-sig"), (";", "utf-8-sig"), ("\t", "utf-16"), ("\t", "utf-8"), ("|", "utf-8")],
)
def test_a_file_that_a_spreadsheet_saved_is_read_back(delimiter: str, encoding: str, line_end: str) -> None:
    exported = [
        replace(PLAIN, id='=1;"a",\t|', verdict="wrong", verdict_label="größe, 中", comment="-\n2 cats"),
        replace(PLAIN, rank=2, id="00017", verdict="ok"),
        replace(PLAIN, rank=3, id="c"),
    ]
    content = saved_by_a_spreadsheet(whole(write_csv(exported, options())), delimiter, encoding, line_end)
    assert reviews(CSV, content, ["cat", "größe, 中"]) == [
        {"id": '=1;"a",\t|', "verdict": "wrong", "label": 1, "comment": "-\n2 cats"},
        {"id": "00017", "verdict": "ok"},
    ]


@pytest.mark.parametrize(
    ("media_type", "content"),
    [
        (
            "text/csv; charset=iso-8859-1; delimiter=semicolon",
            "id;verdict;label\nä;wrong;1\nb;;\nc;ok;\n".encode("latin-1"),
        ),
        ("text/tab-separated-values", "id\tverdict\tlabel\nä\twrong\t1\nb\t\t\nc\tok\t\n".encode()),
        (PARQUET, parquet_file({"id": ["ä", "b", "c"], "verdict": ["wrong", None, "ok"], "label": [1, None, None]})),
        ("application/vnd.apache.arrow.file", ENCODED),
        (JSONL, '{"id": "ä", "verdict": "wrong", "label": 1}\n{"id": "b"}\n{"id": "c", "verdict": "ok"}'.encode()),
    ],
)
def test_a_table_is_read_by_its_media_type(media_type: str, content: bytes) -> None:
    expected = [{"id": "ä", "verdict": "wrong", "label": 1}, {"id": "c", "verdict": "ok"}]
    assert reviews(media_type, content) == expected
    assert len(rows(media_type, content)) == 3


@pytest.mark.parametrize(
    ("media_type", "content", "status", "says"),
    [
        (CSV, b"id,verdict\na,ok,x\n", 422, "row 0: 3 values, the header has 2 names"),
        (CSV, b"id,verdict,verdict\na,ok,ok\n", 422, "column 'verdict': two columns"),
        (CSV, b"id,label\na,1\n", 422, "column 'verdict': there is no such column; the columns are 'id', 'label'"),
        (CSV, b"name,verdict\na,ok\n", 422, "column 'id': there is no such column"),
        (CSV, b"", 422, "column 'id': there is no such column"),
        (CSV, b"id,verdict\n\xe4,ok\n", 400, "can't decode byte 0xe4"),
        (CSV, b'id,verdict\n"a"b,ok\n', 422, "row 0: ',' expected"),
        (CSV, b"id,verdict\na,\nb,great\n", 422, "row 1, column 'verdict': 'great' is not one of"),
        (JSONL, b'{"id": "a"}\n{"id"\n', 422, "row 1: not JSON"),
        (JSONL, b'[{"id": "a"}, 5]', 422, "row 1: not a JSON object"),
        (JSONL, b'[{"id": "a"}', 400, "not JSON"),
        (PARQUET, b"PAR1", 400, "parquet"),
        (PARQUET, parquet_file({"id": ["a"], "label": [1]}), 422, "column 'verdict': there is no such column"),
        (PARQUET, parquet_file({"id": [{"x": 1}], "verdict": ["ok"]}), 422, "column 'id'"),
        ("application/vnd.apache.arrow.file", b"ARROW1", 400, "arrow"),
    ],
)
def test_an_error_names_the_place_in_the_file(media_type: str, content: bytes, status: int, says: str) -> None:
    with pytest.raises(LossServiceError) as caught:
        reviews(media_type, content)
    assert (caught.value.status, says in str(caught.value)) == (status, True), str(caught.value)


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/json", "application/x-safetensors"])
def test_other_media_types_have_no_rows(media_type: str) -> None:
    with pytest.raises(UnsupportedMediaTypeError, match="known are application/json, application/x-ndjson, text/csv"):
        row_reader(media_type)


def test_json_may_be_a_list_a_queue_or_lines() -> None:
    lines = "\ufeff" + "\n\n".join(map(json.dumps, ROWS))
    queue = {"name": "q", "rows": ROWS}
    for document in (json.dumps(ROWS, indent=1), json.dumps(queue), json.dumps(queue, indent=1), lines):
        assert rows(JSONL, document.encode()) == ROWS
    assert rows(JSONL, json.dumps(ROWS[0]).encode()) == ROWS[:1]
    of_images = {"classes": ["cat"], "labels": {"a": ROWS[0], "b": ROWS[1]}}
    assert rows(JSONL, json.dumps(of_images).encode()) == ROWS
    with_rows = {"id": "a", "verdict": "ok", "rows": [1, 2]}
    assert rows(JSONL, json.dumps(with_rows).encode()) == [with_rows]
    assert rows(JSONL, b"") == rows(JSONL, b"[]") == []


def test_values_of_a_document_and_of_a_line_are_bounded() -> None:
    many = b"[" + b"0," * 2**20 + b"0]"
    for content in (many, b'{"id": "a"}\n{"x": ' + many + b"}", b'{"x": ' + many + b"}\n{}"):
        with pytest.raises(TooManyValuesError):
            rows(JSONL, content)


def test_a_value_that_a_file_has_once_counts_for_each_row() -> None:
    long = pa.array(["x" * 10_000] * 900).dictionary_encode()
    for media_type, write in ((PARQUET, parquet_file), ("application/vnd.apache.arrow.file", arrow_file)):
        content = write({"id": long, "verdict": ["ok"] * 900})
        assert len(content) < 50_000
        with pytest.raises(BodyTooLargeError):
            rows(media_type, content)
