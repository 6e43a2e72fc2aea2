"""Properties of every format: names, no rows, many rows in little memory, numbers that JSON lacks."""

from __future__ import annotations

import io
import subprocess
import sys
import tracemalloc
from typing import Any

import orjson
import pyarrow.parquet
import pytest

from service.exports.formats import FORMATS
from service.exports.json_stream import BLOCK_BYTES
from service.exports.tables import ROW_GROUP_ROWS
from tests.exports.examples import INFINITE, ROWS, Supply, options, whole

MANY = 200_000
EVERY = pytest.mark.parametrize("name", FORMATS)


def count(name: str, content: bytes) -> int:
    match name:
        case "label-studio":
            return len(orjson.loads(content))
        case "fiftyone":
            return len(orjson.loads(content)["labels"])
        case "parquet":
            return int(pyarrow.parquet.ParquetFile(io.BytesIO(content)).metadata.num_rows)
        case "csv":
            return content.count(b"\r\n") - 1
        case _:
            return content.count(b"\n")


@EVERY
def test_no_rows_are_a_whole_file(name: str) -> None:
    assert count(name, whole(FORMATS[name].write([], options(0)))) == 0


@EVERY
def test_the_first_bytes_come_before_the_last_row(name: str) -> None:
    supply = Supply(MANY)
    assert next(FORMATS[name].write(supply, options(MANY)))
    assert 0 < supply.created < MANY / 10


@EVERY
@pytest.mark.slow
def test_all_rows_are_written_in_many_parts(name: str) -> None:
    total = ROW_GROUP_ROWS + 100
    parts = list(FORMATS[name].write(Supply(total), options(total)))
    assert len(parts) > 2
    assert count(name, whole(parts)) == total


@EVERY
@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(name: str) -> None:
    def peak(total: int) -> int:
        tracemalloc.start()
        for _ in FORMATS[name].write(Supply(total), options(total)):
            pass
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    few = ROW_GROUP_ROWS if name == "parquet" else 1_000
    peak(10)  # imports and caches
    assert peak(4 * few) < peak(few) * 1.1 + BLOCK_BYTES


@EVERY
def test_the_same_rows_give_the_same_bytes(name: str) -> None:
    write = FORMATS[name].write
    assert whole(write(ROWS, options())) == whole(write(iter(ROWS), options()))


@pytest.mark.parametrize("name", ["label-studio", "argilla", "fiftyone", "jsonl"])
def test_a_number_that_is_not_finite_is_null_in_json(name: str) -> None:
    content = whole(FORMATS[name].write([INFINITE], options()))
    assert not {b"NaN", b"nan", b"Infinity", b"inf"} & set(content.replace(b",", b":").split(b":"))
    values = list(_leaves(orjson.loads(content)))
    assert values.count(None) >= 3


def _leaves(value: Any) -> Any:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _leaves(inner)
    else:
        yield value


@EVERY
def test_a_format_has_a_media_type_and_an_ending_of_its_own(name: str) -> None:
    export_format = FORMATS[name]
    assert export_format.media_type.count("/") == 1
    assert [other for other in FORMATS if FORMATS[other].ending == export_format.ending] == [name]


@pytest.mark.slow
def test_exports_need_neither_torch_nor_fastapi() -> None:
    code = "import sys, service.exports.formats, service.exports.label_studio_backend; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "orjson" in modules
    assert not {"torch", "fastapi"} & set(modules)
