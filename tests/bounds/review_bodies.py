"""Worst bodies of `POST /runs/{run}/reviews`: lists and files."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from service.api.review_bodies import MAX_TABLE_ROWS
from service.mining.reviews import MAX_REVIEWS
from service.schema.replies.reviews import MAX_FILE_REVIEWS
from tests.bounds.worst_request import JSON, WorstRequest, json_request

PATH = "/runs/rows/reviews"
LINES, PARQUET = "application/x-ndjson", "application/vnd.apache.parquet"


def post_reviews(size: int) -> Iterator[WorstRequest]:
    """Requests of about a number of bytes."""
    count = min(MAX_REVIEWS, size // 60)
    for name, members in (("numbers", {"label": 1}), ("names", {"label": "c"}), ("comments", {"comment": "x" * 9_000})):
        rows = count if name != "comments" else size // 9_100
        reviews = [{"id": str(number), "verdict": "wrong", **members} for number in range(rows)]
        yield json_request("POST", name, PATH, reviews)
    yield json_request("POST", "unknown ids", PATH, [{"id": "x", "verdict": "ok"}] * count)
    for name, media_type, body in _files(size):
        yield WorstRequest("POST", name, PATH, body, {"Content-Type": media_type})


def _files(size: int) -> Iterator[tuple[str, str, bytes]]:
    """Name, media type and body of files."""
    # The run has an example for 60 bytes, and an example may have 500 reviewers.
    examples = size // 60
    filled = min(MAX_FILE_REVIEWS, size // 12)
    rows = [f"{number % examples},ok,{number // examples}" for number in range(filled)]
    yield "CSV of many reviewers", "text/csv", ("id,verdict,reviewer\n" + "\n".join(rows)).encode()
    yield "CSV without verdicts", "text/csv", b"id,verdict\n" + b",\n" * (size // 2)
    yield "CSV of one reviewer", "text/csv", b"id,verdict\n" + b"0,ok\n" * min(MAX_FILE_REVIEWS, size // 5)
    yield "CSV with too many reviews", "text/csv", b"id,verdict\n" + b"0,ok\n" * (size // 5)
    names = ",".join(f"c{number}" for number in range(size // 8))
    yield "CSV of many columns", "text/csv", f"id,verdict,{names}\n0,ok\n".encode()
    comments = (b"0,ok," + b"x" * 9_999 + b"\n") * (size // 10_005)
    yield "CSV of long comments", "text/csv", b"id,verdict,comment\n" + comments
    yield "an open quote", "text/csv", b'id,verdict\n0,"' + b"x\n" * (size // 2)
    lines = b"".join(b'{"id":%d,"verdict":"wrong","label":"c"}\n' % (number % examples) for number in range(size // 45))
    yield "JSON lines", LINES, lines
    yield "empty JSON lines", LINES, b"{}\n" * (size // 3)
    yield "JSON lines of lists", LINES, b'{"units":[' + b"[]," * (size // 3) + b"0]}\n{}"
    yield "a JSON list", LINES, b"[" + b"{}," * (size // 3) + b"{}]"
    task = b'{"id":1,"data":{"external_id":"%d"},"annotations":[{"id":%d,"unique_id":"u%d","result":[]}]}'
    tasks = [task % (number % examples, number, number) for number in range(size // 90)]
    yield "an export of Label Studio", JSON["Content-Type"], b"[" + b",".join(tasks) + b"]"
    yield "Parquet of one value", PARQUET, _parquet(["0"], MAX_TABLE_ROWS)
    yield "Parquet of too many rows", PARQUET, _parquet(["0"], 10 * MAX_TABLE_ROWS)
    yield "Parquet of a long value", PARQUET, _parquet(["x" * (size // 2)], 100_000)
    yield "Parquet of many reviews", PARQUET, _parquet([str(number) for number in range(examples)], MAX_FILE_REVIEWS)


def _parquet(ids: list[str], rows: int) -> bytes:
    """A file with so many rows, whose ids repeat."""
    indices = pa.array(np.arange(rows, dtype=np.int32) % len(ids))
    columns = {
        "id": pa.DictionaryArray.from_arrays(indices, ids),
        "verdict": pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), ["ok"]),
    }
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, compression="zstd")
    return file.getvalue()
