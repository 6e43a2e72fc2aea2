"""The file formats of a corrected data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, get_args

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from service.exports.corrected.table import CorrectedTable
from service.exports.json_stream import dump, join_items
from service.exports.rows import ExportOptions
from service.exports.tables import METADATA_KEY
from service.schema.json_values import JsonObject
from service.schema.replies.corrected import CorrectedFormat
from service.schema.structure import Task

Write = Callable[[BinaryIO, CorrectedTable, ExportOptions], None]


@dataclass(frozen=True, slots=True)
class CorrectedFile:
    """A file format of corrected data sets.

    Args:
        write: Writes the rows to a file; holds a bounded number of them in memory.
        media_type: Media type of the file.
        ending: End of the file name, after the name of the run.
        flat: True if its cells hold no lists.
        tasks: Tasks of runs that the format can hold.
    """

    write: Write
    media_type: str
    ending: str
    flat: bool = False
    tasks: tuple[Task, ...] = get_args(Task)


def write_csv(file: BinaryIO, table: CorrectedTable, options: ExportOptions) -> None:
    """UTF-8 without a byte order mark, all texts in quotes; null is empty without quotes.

    Texts of the data set are unchanged, also those that a spreadsheet evaluates as a formula: the file is for programs.
    """
    with pyarrow.csv.CSVWriter(file, table.schema) as writer:
        for batch in table.batches:
            writer.write_batch(batch)


def write_jsonl(file: BinaryIO, table: CorrectedTable, options: ExportOptions) -> None:
    """One object per line; NaN is null."""
    for row in _objects(table):
        file.write(dump(row) + b"\n")


def write_parquet(file: BinaryIO, table: CorrectedTable, options: ExportOptions) -> None:
    """A row group for each batch; the metadata of the schema names the run."""
    with pq.ParquetWriter(file, table.schema.with_metadata(_metadata(options)), compression="zstd") as writer:
        for batch in table.batches:
            writer.write_batch(batch)


def write_arrow(file: BinaryIO, table: CorrectedTable, options: ExportOptions) -> None:
    """An Arrow IPC file (Feather version 2); the metadata of the schema names the run."""
    with pa.ipc.new_file(file, table.schema.with_metadata(_metadata(options))) as writer:
        for batch in table.batches:
            writer.write_batch(batch)


def write_label_studio(file: BinaryIO, table: CorrectedTable, options: ExportOptions) -> None:
    """A JSON list of tasks; the label to use is the annotation, and a row without one has none."""
    for part in join_items(b"[", (dump(_task(row, options)) for row in _objects(table)), b"\n]\n"):
        file.write(part)


def _metadata(options: ExportOptions) -> dict[bytes, bytes]:
    names = options.class_names
    return {METADATA_KEY: dump({"run": options.run, "config_id": options.config_id, "class_names": names})}


def _objects(table: CorrectedTable) -> Iterator[JsonObject]:
    for batch in table.batches:
        columns = [column.to_pylist() for column in batch.columns]
        for values in zip(*columns, strict=True):
            row = dict(zip(batch.schema.names, values, strict=True))
            for name in table.json_columns:
                if row[name] is not None:
                    row[name] = orjson.Fragment(row[name])
            yield row


def _task(row: JsonObject, options: ExportOptions) -> JsonObject:
    identity, label = row.pop("id"), row.pop("label")
    data: JsonObject = {**row, "external_id": identity}
    if data.get(options.shown_key) is None:
        data[options.shown_key] = identity
    result: JsonObject = {
        "id": "label",
        "from_name": options.from_name,
        "to_name": options.to_name,
        "type": "choices",
        "value": {"choices": [str(label)]},
    }
    return {"data": data, "annotations": [] if label is None else [{"result": [result]}]}


FORMATS: Mapping[CorrectedFormat, CorrectedFile] = {
    "csv": CorrectedFile(write_csv, "text/csv; charset=utf-8; header=present", ".csv", flat=True),
    "jsonl": CorrectedFile(write_jsonl, "application/x-ndjson", ".jsonl"),
    "parquet": CorrectedFile(write_parquet, "application/vnd.apache.parquet", ".parquet"),
    "arrow": CorrectedFile(write_arrow, "application/vnd.apache.arrow.file", ".arrow"),
    "label-studio": CorrectedFile(
        write_label_studio, "application/json", ".label-studio.json", tasks=("classification",)
    ),
}
