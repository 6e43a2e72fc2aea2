"""Preview of an export: its first rows as the file will contain them, validated, with notes for the user."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from service.exports.argilla import suggestion_mapping
from service.exports.formats import FORMATS
from service.exports.rows import ExportOptions, ExportRow
from service.exports.spans import sentence_of
from service.exports.tables import columns_of
from service.exports.token_texts import TOKENS
from service.exports.validators import validate
from service.schema.json_values import JsonObject
from service.schema.replies.exports import ExportFormatName, PreviewRows

Notes = Callable[[ExportOptions], list[str]]

FLAT = ("csv", "jsonl", "parquet")


def preview(
    format_name: ExportFormatName, rows: Sequence[ExportRow], options: ExportOptions, labels: Sequence[str]
) -> PreviewRows:
    """Write rows in a format, read them back and validate them.

    Args:
        format_name: Name of a format in `FORMATS`.
        rows: The first rows of the export.
        options: Options of the export.
        labels: Names of the classes, in their order.

    Raises:
        InvalidRequestError: The format cannot represent a name of the options or a label.
    """
    written = read_back(format_name, rows, options)
    validation = validate(format_name, written, rows, options, labels)
    notes = [*_missing(format_name, rows, options), *_NOTES[format_name](options)]
    if validation is None:
        notes.insert(0, NOT_INSTALLED)
    reply: PreviewRows = {"rows": written, "validator": validation, "notes": notes}
    if format_name in FLAT:
        reply["columns"] = list(columns_of(options.task))
    return reply


def read_back(format_name: ExportFormatName, rows: Sequence[ExportRow], options: ExportOptions) -> list[JsonObject]:
    """Write rows in a format and parse the file: an object for each row, with texts as the cells of CSV."""
    if format_name == "fiftyone":
        # One file for each row: in a common file, rows with the same image would share a key.
        files = [_file(format_name, [row], options) for row in rows]
        return [cast("JsonObject", orjson.loads(content)["labels"]) for content in files]
    content = _file(format_name, rows, options)
    match format_name:
        case "argilla" | "jsonl":
            parsed = [orjson.loads(line) for line in content.splitlines()]
        case "csv":
            parsed = _csv_rows(content, columns_of(options.task))
        case "parquet":
            parsed = pq.read_table(io.BytesIO(content)).to_pylist()
        case _:
            parsed = orjson.loads(content)
    return cast("list[JsonObject]", parsed)


def _file(format_name: ExportFormatName, rows: Sequence[ExportRow], options: ExportOptions) -> bytes:
    return b"".join(FORMATS[format_name].write(rows, options))


def _csv_rows(content: bytes, columns: Sequence[str]) -> list[JsonObject]:
    table = pyarrow.csv.read_csv(
        io.BytesIO(content),
        # One block, as a row must fit into a block.
        read_options=pyarrow.csv.ReadOptions(block_size=len(content) + 1),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string())),
    )
    return cast("list[JsonObject]", table.to_pylist())


NOT_INSTALLED = (
    "Label Studio's own validator is not installed where the service runs, so these rows are not validated: "
    "pip install 'focal-loss-service[label-studio]' there, and start the service again."
)
OUR_CHECK = "These rows were checked against the format as {} documents it, not by its own importer."


def _missing(format_name: ExportFormatName, rows: Sequence[ExportRow], options: ExportOptions) -> list[str]:
    """Note on the number of rows without the attribute that the tool shows, if there are any."""
    if format_name in FLAT:
        return []
    if format_name == "fiftyone":
        key, substitute = options.image_key, "stands for the path of the image"
        without = [row for row in rows if not isinstance(row.attributes.get(key), str) or not row.attributes[key]]
    elif options.task == "tokens":
        key, substitute = TOKENS, "is shown instead, without spans"
        without = [row for row in rows if sentence_of(row) is None]
    else:
        key, substitute = options.shown_key, "is shown instead"
        without = [row for row in rows if row.attributes.get(key) is None]
    if not without:
        return []
    names = sorted({name for row in without for name in row.attributes} - {key})
    others = f"They have {', '.join(names)}." if names else "They have no other attributes."
    return [f"{len(without)} of these {len(rows)} rows have no attribute {key!r}: the id {substitute}. {others}"]


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
        'For a webhook that brings responses back, add rg.TermsMetadataProperty("run") and '
        'rg.TermsMetadataProperty("queue").',
    ]


def _fiftyone_notes(options: ExportOptions) -> list[str]:
    if options.task != "classification":
        return [
            OUR_CHECK.format("FiftyOne"),
            "FiftyOne has no importer for this file: the documentation of the service has one of ten lines.",
            'To see the first rows first: dataset.sort_by("focal.rank").',
        ]
    return [
        OUR_CHECK.format("FiftyOne"),
        'Load it with dataset.merge_dir(data_path="images/", labels_path="<this file>", label_field="focal", '
        "dynamic=True, dataset_type=fo.types.FiftyOneImageClassificationDataset): the ground truth stays as it is. "
        "Where all paths are absolute, leave out data_path.",
        "An image that is not there ends FiftyOne's import with a KeyError that names it.",
        'To see the first rows first: dataset.sort_by("focal.rank").',
    ]


def _order(*more: str) -> Notes:
    return lambda options: ["The rows are in the order of review, which the column rank holds too.", *more]


_NOTES: Mapping[ExportFormatName, Notes] = {
    "label-studio": _label_studio_notes,
    "argilla": _argilla_notes,
    "fiftyone": _fiftyone_notes,
    "csv": _order("A text that a spreadsheet would take for a formula begins with ' in the file."),
    "jsonl": _order(),
    "parquet": _order("The attributes are one column of JSON texts."),
}
