"""The export formats, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from service.exports.argilla import write_argilla
from service.exports.fiftyone import write_fiftyone
from service.exports.label_studio import write_label_studio
from service.exports.rows import ExportOptions, ExportRow
from service.exports.tables import write_csv, write_jsonl, write_parquet
from service.schema.replies.exports import ExportFormatName

Write = Callable[[Iterable[ExportRow], ExportOptions], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """A file format for exported rows.

    Args:
        write: Converts any number of rows to the bytes of a file; holds a bounded number of rows in memory.
        media_type: Media type of the file.
        ending: End of the file name, after the name of the run or queue.
    """

    write: Write
    media_type: str
    ending: str


FORMATS: Mapping[ExportFormatName, ExportFormat] = {
    "label-studio": ExportFormat(write_label_studio, "application/json", ".label-studio.json"),
    "argilla": ExportFormat(write_argilla, "application/x-ndjson", ".argilla.jsonl"),
    "fiftyone": ExportFormat(write_fiftyone, "application/json", ".labels.json"),
    "csv": ExportFormat(write_csv, "text/csv; charset=utf-8; header=present", ".csv"),
    "jsonl": ExportFormat(write_jsonl, "application/x-ndjson", ".jsonl"),
    "parquet": ExportFormat(write_parquet, "application/vnd.apache.parquet", ".parquet"),
}
