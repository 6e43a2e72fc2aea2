"""Label Studio tasks, one prediction each.

The given label stands in `data`, never in `annotations`: an imported annotation marks the task as labelled and can hide
it. Scores are in [0, 1] because Label Studio refuses others (a loss of 2.3, say), and it shows the lowest first: sort
the Data Manager by prediction score, ascending, after selecting the project's model version `focal-<run>`. Everything
in `data` can be sorted and filtered by as well, the raw loss among it.

Source: label-studio tasks/serializers.py, tasks/validation.py; label-studio-sdk LabelInterface.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from xml.etree import ElementTree

from service.errors import InvalidRequestError
from service.exports.json_stream import dump, listed
from service.exports.rows import TOOL_NAMES, ExportOptions, ExportRow, beside, probability, shown_data, tool_fields

LAST_SCORE = 1.0  # of what no row is known of: behind every row


def write_label_studio(rows: Iterable[ExportRow], options: ExportOptions) -> Iterator[bytes]:
    """A JSON array of tasks, to be imported as a file."""
    return listed(b"[", (dump(task(row, options)) for row in rows), b"\n]\n")


def task(row: ExportRow, options: ExportOptions) -> dict[str, Any]:
    """One task; an attribute with the name of one of `TOOL_NAMES` is kept under `attribute_<name>`."""
    data = beside(row.attributes, TOOL_NAMES.values()) | tool_fields(row)
    data[options.shown_key] = shown_data(row, options)
    meta = {"run": options.run, "queue": options.queue, "epoch": options.epoch, "config_id": options.config_id}
    suggestion = choices_region(row, options.from_name, options.to_name, row.suggested_label)
    return {"data": data, "meta": meta, "predictions": [prediction(row, options, suggestion)]}


def prediction(row: ExportRow, options: ExportOptions, result: list[dict[str, Any]]) -> dict[str, Any]:
    """The model's word on a row, with the score that puts it in its place."""
    return {"model_version": options.model_version, "score": review_score(row.rank, options.total), "result": result}


def review_score(rank: int, total: int) -> float:
    """(rank - 1/2) / total: strictly increasing in rank and inside (0, 1), whatever the scores are.

    Args:
        rank: 1 to `total`.
        total: Number of ranks, below 2**52.

    Raises:
        ValueError: A rank that is not one of `total`.
    """
    if not 1 <= rank <= total:
        raise ValueError(f"rank {rank} is not in 1..{total}")
    return (rank - 0.5) / total


def choices_region(row: ExportRow, from_name: str, to_name: str, choice: str | None) -> list[dict[str, Any]]:
    """One region with the choice and its probability; none without a choice."""
    if choice is None:
        return []
    region = {"id": f"p{row.rank}", "from_name": from_name, "to_name": to_name, "type": "choices"}
    p = probability(row)
    return [region | {"value": {"choices": [choice]}} | ({} if p is None else {"score": p})]


def labelling_config(class_names: Sequence[str], options: ExportOptions) -> str:
    """The labelling configuration that fits the tasks: the data, its given label and the classes to choose from.

    Raises:
        InvalidRequestError: A name that XML cannot hold.
    """
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, options.object_tag, name=options.to_name, value=f"${options.shown_key}")
    ElementTree.SubElement(view, "Header", value="Given label: $given_label")
    control = {"name": options.from_name, "toName": options.to_name, "choice": "single", "showInline": "true"}
    choices = ElementTree.SubElement(view, "Choices", control)
    for name in class_names:
        ElementTree.SubElement(choices, "Choice", value=name)
    ElementTree.indent(view)
    config = ElementTree.tostring(view, encoding="unicode")
    try:
        ElementTree.fromstring(config)
    except ElementTree.ParseError as error:
        raise InvalidRequestError(f"a name among these cannot stand in a labelling configuration: {error}") from error
    return config
