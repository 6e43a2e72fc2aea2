"""Who looks at the first rows of an export: the tool's own code where it can be had, else a check of what it documents.

Every check gets what the writer wrote, read back: one object for each row, in their order.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from typing import Any

import orjson
import pyarrow as pa

from service.exports.argilla import suggestion_mapping
from service.exports.fiftyone import OWN_NAMES
from service.exports.label_studio import labelling_config
from service.exports.rows import ExportOptions, ExportRow
from service.exports.tables import COLUMNS

DOCUMENTED = "documented format"
NAME_LENGTH = 200  # argilla-server api/schemas/v1: names of fields and questions, values of options, agents


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that was not accepted.

    Args:
        row: Its rank.
        id: Of the example.
        reason: Why, in the validator's words.
    """

    row: int
    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Validation:
    """What a validator says of some rows.

    Args:
        name: The package that looked at them, or `DOCUMENTED`.
        version: Of the package, None for a check of our own.
        accepted: How many rows it has nothing against.
        refused: The others.
    """

    name: str
    version: str | None
    accepted: int
    refused: tuple[Refusal, ...]


def validate(
    format_name: str,
    written: Sequence[dict[str, Any]],
    rows: Sequence[ExportRow],
    options: ExportOptions,
    labels: Sequence[str],
) -> Validation | None:
    """What there is to say of rows in a format; None where nobody is there to say it.

    Args:
        format_name: One of `FORMATS`.
        written: The rows as the file has them.
        rows: What they were made of.
        options: Of the export.
        labels: The names of the classes, in their order.
    """
    match format_name:
        case "label-studio":
            return _label_studio(written, rows, options, labels)
        case "argilla":
            return _validation(DOCUMENTED, None, rows, _argilla_faults(written, options, labels))
        case "fiftyone":
            return _validation(DOCUMENTED, None, rows, _fiftyone_faults(written, labels, options))
        case "jsonl":
            return _validation("orjson", orjson.__version__, rows, _column_faults(written, rows))
        case _:
            return _validation("pyarrow", pa.__version__, rows, _column_faults(written, rows))


def _validation(
    name: str, version_text: str | None, rows: Sequence[ExportRow], faults: Iterator[list[str]]
) -> Validation:
    refused = tuple(
        Refusal(row.rank, row.id, "; ".join(found)) for row, found in zip(rows, faults, strict=True) if found
    )
    return Validation(name, version_text, len(rows) - len(refused), refused)


def _label_studio(
    tasks: Sequence[dict[str, Any]], rows: Sequence[ExportRow], options: ExportOptions, labels: Sequence[str]
) -> Validation | None:
    try:
        from label_studio_sdk.label_interface import LabelInterface
    except ImportError:
        return None
    faults: Iterator[list[str]]
    try:
        interface = LabelInterface(labelling_config(labels, options))
        interface.validate()
    except Exception as error:  # the SDK has no common class for them
        faults = iter([[f"the labelling configuration: {error}"]] * len(tasks))
    else:
        faults = (_task_faults(interface, task, options) for task in tasks)
    return _validation("label_studio_sdk", version("label-studio-sdk"), rows, faults)


def _task_faults(interface: Any, task: dict[str, Any], options: ExportOptions) -> list[str]:
    # `validate_task` of SDK 2.0 fails on a task with predictions, whose check it calls without them.
    shown = [] if interface.validate_task({"data": task["data"]}) else [f"data.{options.shown_key} cannot be shown"]
    checked = (interface.validate_prediction(one, return_errors=True) for one in task["predictions"])
    return [*shown, *chain.from_iterable(checked)]


def _argilla_faults(
    records: Sequence[dict[str, Any]], options: ExportOptions, labels: Sequence[str]
) -> Iterator[list[str]]:
    """Source: argilla-server api/schemas/v1/{fields,questions,records,suggestions}.py."""
    ids = Counter(one["id"] for one in records)
    settings = [
        f"{what} has 1 to {NAME_LENGTH} characters, not {len(name)}"
        for what, name in (("the question's name", options.from_name), ("the field's name", options.to_name))
        if not 0 < len(name) <= NAME_LENGTH
    ]
    if options.from_name == options.to_name:
        settings.append(f"question and field are both called {options.from_name!r}")
    if len(set(labels)) < len(labels):
        settings.append("two classes have the same name")
    value, score, agent = suggestion_mapping(options)
    for one in records:
        faults = list(settings)
        if not one["id"] or ids[one["id"]] > 1:
            faults.append("the id is empty" if not one["id"] else "another row has the same id")
        if not isinstance(one[options.to_name], str):
            faults.append(f"{options.to_name} is no text")
        if value in one:
            faults += _suggestion_faults(one[value], one[score], labels)
            if not 0 < len(one[agent]) <= NAME_LENGTH:
                faults.append(f"the agent's name has 1 to {NAME_LENGTH} characters")
        yield faults


def _suggestion_faults(label: Any, score: Any, labels: Sequence[str]) -> list[str]:
    faults = [] if label in labels else [f"the suggestion {label!r} is none of the labels"]
    if not 0 < len(label) <= NAME_LENGTH:
        faults.append(f"a label has 1 to {NAME_LENGTH} characters, not {len(label)}")
    return faults + _unit_faults("the suggestion's score", score)


def _fiftyone_faults(
    samples: Sequence[dict[str, Any]], labels: Sequence[str], options: ExportOptions
) -> Iterator[list[str]]:
    """Source: fiftyone/utils/data/importers.py, fiftyone/core/labels.py."""
    images = Counter(chain.from_iterable(samples))
    names = labels if options.class_names is None else range(len(labels))
    for one in samples:
        ((image, label),) = one.items()
        faults = ["there is no path of its image"] if not image else []
        if images[image] > 1:
            faults.append(f"another row has the same image, {image}")
        if label["label"] not in names:
            faults.append(f"the label {label['label']!r} is none of the classes")
        faults += _unit_faults("the confidence", label.get("confidence"))
        if taken := sorted(set(label["attributes"]) & set(OWN_NAMES)):
            faults.append(f"attributes have names of FiftyOne's own: {', '.join(taken)}")
        yield faults


def _unit_faults(what: str, value: Any) -> list[str]:
    if value is None or (isinstance(value, float | int) and math.isfinite(value) and 0 <= value <= 1):
        return []
    return [f"{what} is in [0, 1], not {value!r}"]


def _column_faults(written: Sequence[dict[str, Any]], rows: Sequence[ExportRow]) -> Iterator[list[str]]:
    if len(written) != len(rows):
        return iter([[f"{len(rows)} rows were written, {len(written)} were read back"]] * len(rows))
    return ([] if tuple(one) == COLUMNS else [f"its columns are {', '.join(one)}"] for one in written)
