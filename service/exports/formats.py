"""The export formats, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

from service.errors import InvalidRequestError
from service.exports.argilla import write_argilla
from service.exports.fiftyone import write_fiftyone
from service.exports.label_studio import write_label_studio
from service.exports.rows import ExportOptions, ExportRow
from service.exports.tables import write_csv, write_jsonl, write_parquet
from service.schema.faults import fault
from service.schema.replies.exports import ExportFormatName
from service.schema.structure import Task

# Tasks of Argilla, which has no question for masks, and of FiftyOne, whose labels are of images.
WITHOUT_MASKS: tuple[Task, ...] = ("classification", "multi_label", "tokens")
WITHOUT_TEXTS: tuple[Task, ...] = ("classification", "multi_label", "masks")
Write = Callable[[Iterable[ExportRow], ExportOptions], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """A file format for exported rows.

    Args:
        write: Converts any number of rows to the bytes of a file; holds a bounded number of rows in memory.
        media_type: Media type of the file.
        ending: End of the file name, after the name of the run or queue.
        tasks: Tasks of runs that the format can hold.
        is_tool: True for a labelling tool, which gets each example once.
    """

    write: Write
    media_type: str
    ending: str
    tasks: tuple[Task, ...] = get_args(Task)
    is_tool: bool = False


# Labels among which a person chooses those of an example. Checks of an example with all of them take 0.2 s.
MAX_CHOICES = 1000
FORMATS: Mapping[ExportFormatName, ExportFormat] = {
    "label-studio": ExportFormat(write_label_studio, "application/json", ".label-studio.json", is_tool=True),
    "argilla": ExportFormat(write_argilla, "application/x-ndjson", ".argilla.jsonl", WITHOUT_MASKS, is_tool=True),
    "fiftyone": ExportFormat(write_fiftyone, "application/json", ".labels.json", WITHOUT_TEXTS, is_tool=True),
    "csv": ExportFormat(write_csv, "text/csv; charset=utf-8; header=present", ".csv"),
    "jsonl": ExportFormat(write_jsonl, "application/x-ndjson", ".jsonl"),
    "parquet": ExportFormat(write_parquet, "application/vnd.apache.parquet", ".parquet"),
}


def format_for(name: ExportFormatName, task: Task, num_classes: int | None) -> ExportFormat:
    """The format of a name, for a run with a task and a number of classes or labels.

    Raises:
        InvalidRequestError: The format has no labels of this task, or the run has more labels than a tool shows.
    """
    if task not in FORMATS[name].tasks:
        others = ", ".join(other for other in FORMATS if task in FORMATS[other].tasks)
        msg = f"{name} has no labels of the task {task}; there are {others}"
        raise fault(InvalidRequestError, msg, "query", "format")
    if FORMATS[name].is_tool and task == "multi_label" and (num_classes or 0) > MAX_CHOICES:
        msg = f"the run has {num_classes} labels, and a labelling tool shows at most {MAX_CHOICES}: export a table"
        raise fault(InvalidRequestError, msg, "query", "format")
    return FORMATS[name]
