"""The formats of an export, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from service.errors import InvalidRequestError
from service.exports.argilla import write_argilla
from service.exports.fiftyone import write_fiftyone
from service.exports.label_studio import write_label_studio
from service.exports.rows import ExportOptions, ExportRow
from service.exports.tables import write_csv, write_jsonl, write_parquet

Write = Callable[[Iterable[ExportRow], ExportOptions], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """How rows are written.

    Args:
        write: From rows, in any number, to the bytes of a whole file; holds a bounded number of rows at a time.
        media_type: Of the file.
        ending: Of its name, after the name of the run or queue.
    """

    write: Write
    media_type: str
    ending: str


FORMATS: Mapping[str, ExportFormat] = {
    "label-studio": ExportFormat(write_label_studio, "application/json", ".label-studio.json"),
    "argilla": ExportFormat(write_argilla, "application/x-ndjson", ".argilla.jsonl"),
    "fiftyone": ExportFormat(write_fiftyone, "application/json", ".labels.json"),
    "csv": ExportFormat(write_csv, "text/csv; charset=utf-8; header=present", ".csv"),
    "jsonl": ExportFormat(write_jsonl, "application/x-ndjson", ".jsonl"),
    "parquet": ExportFormat(write_parquet, "application/vnd.apache.parquet", ".parquet"),
}


def find_format(name: str) -> ExportFormat:
    """The format of this name.

    Raises:
        InvalidRequestError: There is none; names the known.
    """
    if name not in FORMATS:
        msg = f"format {name!r} is none of {', '.join(FORMATS)}"
        raise InvalidRequestError(msg, errors=[{"loc": ["format"], "msg": msg}])
    return FORMATS[name]
