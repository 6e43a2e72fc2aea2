"""Writers of the scored rows: Parquet, CSV, JSONL or Arrow, by the file extension."""

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
from service.formats.spreadsheets import guard_table
from service.visible import visible_json

STANDARD_OUTPUT = "-"
EXTENSIONS = (".parquet", ".csv", ".jsonl", ".ndjson", ".arrow", ".arrows")

Write = Callable[[pa.Table], None]


def check_output(output: str) -> None:
    """Raise UsageError if the extension of the output is unknown."""
    if output != STANDARD_OUTPUT and Path(output).suffix.lower() not in EXTENSIONS:
        raise UsageError(f"--output {output}: unknown extension: expected one of {', '.join(EXTENSIONS)}")


@contextmanager
def table_writer(output: str, schema: pa.Schema, folder: Path) -> Iterator[Write]:
    """Yield a function that appends a table to the output. The file replaces `output` after the block.

    Args:
        output: A file, or `-`.
        schema: Schema of every table.
        folder: Folder of the unfinished file: what a killed run leaves there is deleted with the parts.
    """
    if output == STANDARD_OUTPUT:
        yield _printed_lines
        sys.stdout.buffer.flush()
        return
    with replace_atomically(Path(output), folder) as temporary, temporary.open("wb") as file:
        with _format_writer(Path(output).suffix.lower(), file, schema) as write:
            yield write
        file.flush()


@contextmanager
def _format_writer(extension: str, file: BinaryIO, schema: pa.Schema) -> Iterator[Write]:
    match extension:
        case ".parquet":
            with pyarrow.parquet.ParquetWriter(file, schema) as writer:
                yield writer.write_table
        case ".csv":
            with pyarrow.csv.CSVWriter(file, _cells(schema.empty_table()).schema) as writer:
                yield lambda table: writer.write_table(guard_table(_cells(table)))
        case ".arrow" | ".arrows":
            new_writer = pa.ipc.new_file if extension == ".arrow" else pa.ipc.new_stream
            with new_writer(file, schema) as writer:
                yield writer.write_table
        case _:
            yield _json_lines(file)


def _cells(table: pa.Table) -> pa.Table:
    """The table with lists as JSON texts."""
    for number, field in enumerate(table.schema):
        if pa.types.is_nested(field.type):
            texts = [orjson.dumps(value).decode() for value in table.column(number).to_pylist()]
            table = table.set_column(number, field.name, pa.array(texts, pa.string()))
    return table


def _printed_lines(table: pa.Table) -> None:
    # Standard output may be a terminal.
    lines = (visible_json(orjson.dumps(row).decode()) + "\n" for row in table.to_pylist())
    sys.stdout.buffer.writelines(line.encode() for line in lines)


def _json_lines(file: BinaryIO) -> Write:
    def write(table: pa.Table) -> None:
        file.writelines(orjson.dumps(row) + b"\n" for row in table.to_pylist())

    return write
