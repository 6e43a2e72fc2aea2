"""The export formats, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from service.errors import InvalidRequestError
from service.exports.argilla import write_argilla
from service.exports.fiftyone import write_fiftyone
from service.exports.label_studio import write_label_studio
from service.exports.rows import ExportOptions, ExportRow
from service.exports.tables import write_csv, write_jsonl, write_parquet
from service.schema.faults import fault
from service.schema.replies.exports import ExportFormatName

Write = Callable[[Iterable[ExportRow], ExportOptions], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """A file format for exported rows.

    Args:
        name: In `format` of the query.
        write: Converts any number of rows to the bytes of a file; holds a bounded number of rows in memory.
        media_type: Of the file.
        ending: Of the file name, after the name of the run or queue.
    """

    name: ExportFormatName
    write: Write
    media_type: str
    ending: str


_FORMATS = (
    ExportFormat("label-studio", write_label_studio, "application/json", ".label-studio.json"),
    ExportFormat("argilla", write_argilla, "application/x-ndjson", ".argilla.jsonl"),
    ExportFormat("fiftyone", write_fiftyone, "application/json", ".labels.json"),
    ExportFormat("csv", write_csv, "text/csv; charset=utf-8; header=present", ".csv"),
    ExportFormat("jsonl", write_jsonl, "application/x-ndjson", ".jsonl"),
    ExportFormat("parquet", write_parquet, "application/vnd.apache.parquet", ".parquet"),
)
FORMATS: Mapping[str, ExportFormat] = {known.name: known for known in _FORMATS}


def find_format(name: str) -> ExportFormat:
    """The format with this name.

    Raises:
        InvalidRequestError: Unknown format; lists the known formats.
    """
    if name not in FORMATS:
        raise fault(InvalidRequestError, f"format {name!r} is none of {', '.join(FORMATS)}", "format")
    return FORMATS[name]
