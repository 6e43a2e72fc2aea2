"""The first rows of an export as they will stand in the file, and what is to be said of them before anyone loads it."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from service.exports.argilla import suggestion_mapping
from service.exports.formats import FORMATS
from service.exports.rows import ExportOptions, ExportRow
from service.exports.tables import COLUMNS
from service.exports.validators import validate

Notes = Callable[[ExportOptions], list[str]]

FLAT = ("csv", "jsonl", "parquet")


def preview(
    format_name: str, rows: Sequence[ExportRow], options: ExportOptions, labels: Sequence[str]
) -> dict[str, Any]:
    """What the writer of a format writes for these rows, read back, with the word of a validator and notes.

    Args:
        format_name: One of `FORMATS`.
        rows: The first of the export.
        options: Of the export.
        labels: The names of the classes, in their order.

    Returns:
        `rows` (objects), `columns` (of a flat format), `validator` (null where there is none) and `notes` (sentences).

    Raises:
        InvalidRequestError: A name among the options or labels that the format cannot hold.
    """
    written = read_back(format_name, rows, options)
    checked = validate(format_name, written, rows, options, labels)
    notes = [*_missing(format_name, rows, options), *_NOTES[format_name](options)]
    if checked is None:
        notes.insert(0, NOT_INSTALLED)
    return {
        "rows": written,
        **({"columns": list(COLUMNS)} if format_name in FLAT else {}),
        "validator": None if checked is None else asdict(checked),
        "notes": notes,
    }


def read_back(format_name: str, rows: Sequence[ExportRow], options: ExportOptions) -> list[dict[str, Any]]:
    """One object for each row, of the bytes that the format's writer made of them; cells of CSV are texts."""
    if format_name == "fiftyone":
        # One by one: in a file of all, two rows of the same image are one to a reader.
        return [_decoded(format_name, [row], options)["labels"] for row in rows]
    found: list[dict[str, Any]] = _decoded(format_name, rows, options)
    return found


def _decoded(format_name: str, rows: Sequence[ExportRow], options: ExportOptions) -> Any:
    content = b"".join(FORMATS[format_name].write(rows, options))
    match format_name:
        case "argilla" | "jsonl":
            return [orjson.loads(line) for line in content.splitlines()]
        case "csv":
            return _csv(content)
        case "parquet":
            return pq.read_table(io.BytesIO(content)).to_pylist()
        case _:
            return orjson.loads(content)


def _csv(content: bytes) -> list[dict[str, Any]]:
    table = pyarrow.csv.read_csv(
        io.BytesIO(content),
        # One block, as a row must not be longer than one.
        read_options=pyarrow.csv.ReadOptions(block_size=len(content) + 1),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.string())),
    )
    found: list[dict[str, Any]] = table.to_pylist()
    return found


NOT_INSTALLED = (
    "Label Studio's own validator is not installed where the service runs, so nobody has looked at these rows: "
    "pip install 'focal-loss-service[label-studio]' there, and start the service again."
)
OUR_CHECK = "These rows were checked against the format as {} documents it; its own importer has not seen them."


def _missing(format_name: str, rows: Sequence[ExportRow], options: ExportOptions) -> list[str]:
    """How many rows have nothing to show, and what they have instead."""
    if format_name in FLAT:
        return []
    if format_name == "fiftyone":
        wanted, instead = options.image_key, "stands for the path of the image"
        without = [row for row in rows if not isinstance(row.attributes.get(wanted), str) or not row.attributes[wanted]]
    else:
        wanted, instead = options.shown_key, "is shown instead"
        without = [row for row in rows if row.attributes.get(wanted) is None]
    if not without:
        return []
    names = sorted({name for row in without for name in row.attributes} - {wanted})
    known = f"They have {', '.join(names)}." if names else "They were pushed without others."
    return [f"{len(without)} of these {len(rows)} rows have no attribute {wanted!r}: the id {instead}. {known}"]


def _label_studio_notes(options: ExportOptions) -> list[str]:
    return [
        f"To see the first rows first, choose {options.model_version} as the project's model version and order the "
        "Data Manager by prediction score, ascending; data.rank gives the same order.",
    ]


def _argilla_notes(options: ExportOptions) -> list[str]:
    mapping = ", ".join(f'"{name}": "{name}"' for name in suggestion_mapping(options))
    return [
        OUR_CHECK.format("Argilla"),
        f"Load it with dataset.records.log(records, mapping={{{mapping}}}): without the mapping suggestions get lost.",
        'To sort by rank, put rg.IntegerMetadataProperty("rank") into the settings of the data set before loading, '
        "and sort by it, ascending.",
    ]


def _fiftyone_notes(options: ExportOptions) -> list[str]:
    return [
        OUR_CHECK.format("FiftyOne"),
        'Load it with dataset.merge_dir(data_path="images/", labels_path="<this file>", label_field="focal", '
        "dataset_type=fo.types.FiftyOneImageClassificationDataset): the ground truth stays as it is.",
        'To see the first rows first: dataset.sort_by("focal.rank").',
    ]


def _order(*more: str) -> Notes:
    return lambda options: ["The rows stand in the order of review; the column rank keeps it.", *more]


_NOTES: Mapping[str, Notes] = {
    "label-studio": _label_studio_notes,
    "argilla": _argilla_notes,
    "fiftyone": _fiftyone_notes,
    "csv": _order("A text that a spreadsheet would take for a formula begins with ' in the file."),
    "jsonl": _order(),
    "parquet": _order("The attributes are one column of JSON texts."),
}
