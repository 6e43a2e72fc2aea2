"""Validates exported rows with the target tool's own validator, or against its documented format.

Each validator gets the rows as parsed from the exported file, one object for each row in their order.
"""

from __future__ import annotations

import base64
import io
import math
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import chain
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from service.exports.argilla import suggestion_mapping
from service.exports.fiftyone import OWN_NAMES
from service.exports.label_studio import labelling_config
from service.exports.rows import ExportOptions, ExportRow
from service.exports.spans import span_labels
from service.exports.tables import columns_of
from service.schema.json_values import JsonObject
from service.schema.replies.exports import ExportFormatName, RejectedRow, Validation

DOCUMENTED = "documented format"
MAX_LABELS_CHECKED = 1_000
MAX_NAME_LENGTH = 200  # argilla-server api/schemas/v1: names of fields and questions, values of options, agents

# A parsed object of a file that the service wrote, with the members of its format.
_Parsed = Mapping[str, Any]


def validate(
    format_name: ExportFormatName,
    written: Sequence[JsonObject],
    rows: Sequence[ExportRow],
    options: ExportOptions,
    labels: Sequence[str],
) -> Validation | None:
    """Validate rows of a format; None if the validator of the tool is not installed.

    Args:
        format_name: Name of a format in `FORMATS`.
        written: The rows as parsed from the file.
        rows: The rows that were written.
        options: Options of the export.
        labels: Names of the classes, in their order.
    """
    match format_name:
        case "label-studio":
            return _label_studio(written, rows, options, labels)
        case "argilla":
            return _validation(DOCUMENTED, None, rows, _argilla_faults(written, options, labels))
        case "fiftyone":
            return _validation(DOCUMENTED, None, rows, _fiftyone_faults(written, labels, options))
        case "jsonl":
            return _validation("orjson", orjson.__version__, rows, _column_faults(written, rows, options))
        case _:
            return _validation("pyarrow", pa.__version__, rows, _column_faults(written, rows, options))


def _validation(
    name: str, version_text: str | None, rows: Sequence[ExportRow], faults_of_rows: Iterator[list[str]]
) -> Validation:
    rejected: list[RejectedRow] = [
        {"row": row.rank, "id": row.id, "reason": "; ".join(faults)}
        for row, faults in zip(rows, faults_of_rows, strict=True)
        if faults
    ]
    return {"name": name, "version": version_text, "accepted": len(rows) - len(rejected), "refused": rejected}


def _label_studio(
    tasks: Sequence[_Parsed], rows: Sequence[ExportRow], options: ExportOptions, labels: Sequence[str]
) -> Validation | None:
    try:
        from label_studio_sdk.label_interface import LabelInterface
    except ImportError:
        return None
    faults: Iterator[list[str]]
    try:
        interface = LabelInterface(labelling_config(_checked_labels(labels, tasks), options))
        interface.validate()
    except Exception as error:  # the SDK's errors have no common class
        faults = iter([[f"the labelling configuration: {error}"]] * len(tasks))
    else:
        faults = (_task_faults(interface, task, options) for task in tasks)
    return _validation("label_studio_sdk", version("label-studio-sdk"), rows, faults)


def _checked_labels(labels: Sequence[str], tasks: Sequence[_Parsed]) -> list[str]:
    """The first labels and those of the tasks: the SDK takes seconds for the configuration of 100 000 classes."""
    results = chain.from_iterable(prediction["result"] for task in tasks for prediction in task["predictions"])
    used = set(chain.from_iterable(region["value"][region["type"]] for region in results))
    # Of the classes B- and I- of an entity, the entity is used.
    return [
        label
        for number, label in enumerate(labels)
        if number < MAX_LABELS_CHECKED or label in used or label[2:] in used
    ]


def _task_faults(interface: Any, task: _Parsed, options: ExportOptions) -> list[str]:
    # `validate_task` of SDK 2.0 fails on predictions, as it calls their check without an argument.
    data = [] if interface.validate_task({"data": task["data"]}) else [f"data.{options.shown_key} cannot be shown"]
    predictions = (interface.validate_prediction(item, return_errors=True) for item in task["predictions"])
    return [*data, *chain.from_iterable(predictions)]


def _argilla_faults(records: Sequence[_Parsed], options: ExportOptions, labels: Sequence[str]) -> Iterator[list[str]]:
    """Faults of each record. Source: argilla-server api/schemas/v1/{fields,questions,records,suggestions}.py."""
    ids = Counter(record["id"] for record in records)
    settings = [
        f"{what} has 1 to {MAX_NAME_LENGTH} characters, not {len(name)}"
        for what, name in (("the question's name", options.from_name), ("the field's name", options.to_name))
        if not 0 < len(name) <= MAX_NAME_LENGTH
    ]
    if options.from_name == options.to_name:
        settings.append(f"question and field are both called {options.from_name!r}")
    if len(set(labels)) < len(labels):
        settings.append("two classes have the same name")
    value, score, agent = suggestion_mapping(options)
    for record in records:
        faults = list(settings)
        if not record["id"] or ids[record["id"]] > 1:
            faults.append("the id is empty" if not record["id"] else "another row has the same id")
        if not isinstance(record[options.to_name], str):
            faults.append(f"{options.to_name} is not a text")
        if value in record:
            faults += _suggestion_faults(record[value], record[score], labels, record[options.to_name])
            if not 0 < len(record[agent]) <= MAX_NAME_LENGTH:
                faults.append(f"the agent's name has 1 to {MAX_NAME_LENGTH} characters")
        yield faults


def _suggestion_faults(value: Any, score: object, labels: Sequence[str], text: object) -> list[str]:
    """Faults of a suggestion: a label, a list of labels, or a list of spans of a text with a list of scores."""
    values = value if isinstance(value, list) else [value]
    scores = score if isinstance(score, list) else [score]
    spans = [item for item in values if isinstance(item, dict)]
    faults = [
        f"the span {item['start']} to {item['end']} is not in the text"
        for item in spans
        if not 0 <= item["start"] < item["end"] <= len(str(text))
    ]
    allowed = frozenset(span_labels(labels) if spans else labels)
    for label in (item["label"] if isinstance(item, dict) else item for item in values):
        if label not in allowed:
            faults.append(f"the suggestion {label!r} is not a label")
        if not 0 < len(label) <= MAX_NAME_LENGTH:
            faults.append(f"a label has 1 to {MAX_NAME_LENGTH} characters, not {len(label)}")
    return faults + [fault for item in scores for fault in _unit_faults("the suggestion's score", item)]


def _fiftyone_faults(samples: Sequence[_Parsed], labels: Sequence[str], options: ExportOptions) -> Iterator[list[str]]:
    """Faults of each sample. Source: fiftyone/utils/data/importers.py, fiftyone/core/labels.py."""
    images = Counter(chain.from_iterable(samples))
    for sample in samples:
        ((image, label),) = sample.items()
        faults = ["the path of its image is empty"] if not image else []
        if image.split("/")[0] == "..":
            faults.append(f"the path of its image, {image}, is outside of the data folder")
        if images[image] > 1:
            faults.append(f"another row has the same image, {image}")
        faults += _mask_faults(label, labels) if "mask" in label else _class_faults(label, labels, options)
        if reserved := sorted(set(label["attributes"]) & set(OWN_NAMES)):
            faults.append(f"attributes have reserved names of FiftyOne: {', '.join(reserved)}")
        yield faults


def _class_faults(label: _Parsed, labels: Sequence[str], options: ExportOptions) -> list[str]:
    """Faults of one classification, whose label is an index if the classes have names, or of several ones."""
    items: Sequence[_Parsed] = label.get("classifications", [label])
    of_names = "label" not in label or options.class_names is None
    classes = frozenset(labels) if of_names else range(len(labels))
    faults = []
    for item in items:
        if item["label"] not in classes:
            faults.append(f"the label {item['label']!r} is not a class")
        faults += _unit_faults("the confidence", item.get("confidence"))
    return faults


def _mask_faults(label: _Parsed, labels: Sequence[str]) -> list[str]:
    if label["mask"] is None:
        return []
    mask = np.load(io.BytesIO(zlib.decompress(base64.b64decode(label["mask"]))))
    faults = [] if mask.ndim == 2 else [f"the mask has {mask.ndim} axes"]
    unknown = np.unique(mask[(mask >= len(labels)) & (mask < np.iinfo(mask.dtype).max)])
    return [*faults, *(f"the class {number} does not exist" for number in unknown)]


def _unit_faults(what: str, value: object) -> list[str]:
    if value is None or (isinstance(value, float | int) and math.isfinite(value) and 0 <= value <= 1):
        return []
    return [f"{what} is in [0, 1], not {value!r}"]


def _column_faults(
    written: Sequence[_Parsed], rows: Sequence[ExportRow], options: ExportOptions
) -> Iterator[list[str]]:
    if len(written) != len(rows):
        return iter([[f"{len(rows)} rows were written, but {len(written)} were read back"]] * len(rows))
    columns = columns_of(options.task)
    return ([] if tuple(row) == columns else [f"its columns are {', '.join(row)}"] for row in written)
