"""Writing the scored rows as Parquet, CSV, JSONL or Arrow, by the ending of the name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from service.cli.errors import UsageError
from service.client.files import replace_atomically

STANDARD_OUTPUT = "-"
ENDINGS = (".parquet", ".csv", ".jsonl", ".ndjson", ".arrow", ".arrows")

Write = Callable[[pa.Table], None]


def check_output(output: str) -> None:
    """Raise UsageError where the ending is not known."""
    if output != STANDARD_OUTPUT and Path(output).suffix.lower() not in ENDINGS:
        raise UsageError(f"--output {output}: the ending is one of {', '.join(ENDINGS)}")


@contextmanager
def table_writer(output: str, schema: pa.Schema, folder: Path) -> Iterator[Write]:
    """A function that appends a table; the file is in its place, in full, when the block ends well.

    Args:
        output: A file, or `-`.
        schema: Of every table.
        folder: Where the file grows, so that what a killed run leaves goes with the parts.
    """
    if output == STANDARD_OUTPUT:
        yield _json_lines(sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    with replace_atomically(Path(output), folder) as temporary, temporary.open("wb") as file:
        with _format_writer(Path(output).suffix.lower(), file, schema) as write:
            yield write
        file.flush()


@contextmanager
def _format_writer(ending: str, file: BinaryIO, schema: pa.Schema) -> Iterator[Write]:
    match ending:
        case ".parquet":
            with pyarrow.parquet.ParquetWriter(file, schema) as writer:
                yield writer.write_table
        case ".csv":
            with pyarrow.csv.CSVWriter(file, schema) as writer:
                yield writer.write_table
        case ".arrow" | ".arrows":
            opened = pa.ipc.new_file if ending == ".arrow" else pa.ipc.new_stream
            with opened(file, schema) as writer:
                yield writer.write_table
        case _:
            yield _json_lines(file)


def _json_lines(file: BinaryIO) -> Write:
    def write(table: pa.Table) -> None:
        file.writelines(orjson.dumps(row) + b"\n" for row in table.to_pylist())

    return write
