"""Label Studio tasks with one prediction each.

The given label is in `data`, not in `annotations`, as an imported annotation marks the task as labelled and can hide
it. Scores are in [0, 1], as Label Studio rejects other scores such as a loss of 2.3. To see the first rows first,
select the model version `focal-<run>` in the project and sort the Data Manager by prediction score, ascending. All
members of `data`, such as the loss, can be sorted and filtered by too.

Source: label-studio tasks/serializers.py, tasks/validation.py; label-studio-sdk LabelInterface.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from xml.etree import ElementTree

from service.errors import InvalidRequestError
from service.exports.json_stream import dump, join_items
from service.exports.rows import (
    TOOL_NAMES,
    ExportOptions,
    ExportRow,
    probability,
    rename_reserved,
    shown_data,
    tool_fields,
)
from service.schema.replies.exports import ChoicesRegion, LabelStudioTask, Prediction

LAST_SCORE = 1.0  # of a task without a row: after all rows


def write_label_studio(rows: Iterable[ExportRow], options: ExportOptions) -> Iterator[bytes]:
    """JSON array of tasks, to import as a file."""
    return join_items(b"[", (dump(task(row, options)) for row in rows), b"\n]\n")


def task(row: ExportRow, options: ExportOptions) -> LabelStudioTask:
    """The task of a row; an attribute whose name is in `TOOL_NAMES` is renamed to `attribute_<name>`."""
    data = rename_reserved(row.attributes, TOOL_NAMES.values()) | tool_fields(row)
    data[options.shown_key] = shown_data(row, options)
    suggestion = choices_region(row, options.from_name, options.to_name, row.suggested_label)
    return {
        "data": data,
        "meta": {"run": options.run, "queue": options.queue, "epoch": options.epoch, "config_id": options.config_id},
        "predictions": [prediction(row, options, suggestion)],
    }


def prediction(row: ExportRow, options: ExportOptions, result: list[ChoicesRegion]) -> Prediction:
    """The prediction of a row, with the score that sorts it by rank."""
    return {"model_version": options.model_version, "score": review_score(row.rank, options.total), "result": result}


def review_score(rank: int, total: int) -> float:
    """(rank - 1/2) / total: in (0, 1) and strictly increasing in rank.

    Args:
        rank: 1 to `total`.
        total: Number of ranks, below 2**52.

    Raises:
        ValueError: The rank is not in [1, total].
    """
    if not 1 <= rank <= total:
        raise ValueError(f"rank {rank} is not in 1..{total}")
    return (rank - 0.5) / total


def choices_region(row: ExportRow, from_name: str, to_name: str, choice: str | None) -> list[ChoicesRegion]:
    """A region with the choice and its probability; no region without a choice."""
    if choice is None:
        return []
    region: ChoicesRegion = {
        "id": f"p{row.rank}",
        "from_name": from_name,
        "to_name": to_name,
        "type": "choices",
        "value": {"choices": [choice]},
    }
    p = probability(row)
    if p is not None:
        region["score"] = p
    return [region]


def labelling_config(class_names: Sequence[str], options: ExportOptions) -> str:
    """The labelling configuration for the tasks, as XML: the data, the given label and the classes to choose from.

    Raises:
        InvalidRequestError: XML cannot represent one of the names.
    """
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, options.object_tag, name=options.to_name, value=f"${options.shown_key}")
    ElementTree.SubElement(view, "Header", value="Given label: $given_label")
    control = {"name": options.from_name, "toName": options.to_name, "choice": "single", "showInline": "true"}
    choices = ElementTree.SubElement(view, "Choices", control)
    for name in class_names:
        ElementTree.SubElement(choices, "Choice", value=name)
    ElementTree.indent(view)
    try:
        config = ElementTree.tostring(view, encoding="unicode")
        ElementTree.fromstring(config)
    except (ElementTree.ParseError, ValueError) as error:
        raise InvalidRequestError(f"a labelling configuration cannot hold one of these names: {error}") from error
    return config
