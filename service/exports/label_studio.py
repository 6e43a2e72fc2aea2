"""Label Studio tasks with one prediction each.

The given label is in `data`, not in `annotations`, as an imported annotation marks the task as labelled and can hide
it. Scores are in [0, 1], as Label Studio rejects other scores such as a loss of 2.3. To see the first rows first,
select the model version `focal-<run>` in the project and sort the Data Manager by prediction score, ascending. All
members of `data`, such as the loss, can be sorted and filtered by too.

Source: label-studio tasks/serializers.py, tasks/validation.py; label-studio-sdk LabelInterface.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import get_args
from xml.etree import ElementTree

from service.errors import InvalidRequestError
from service.exports.json_stream import dump, join_items
from service.exports.label_studio_regions import control_labels, control_of, label_tag, regions
from service.exports.rows import ExportOptions, ExportRow, rename_reserved, tool_fields
from service.exports.spans import shown_text
from service.schema.replies.exports import LabelStudioTask, Prediction, ResultRegion
from service.schema.replies.fields import Verdict
from service.schema.structure import Task

# A control whose choice is the verdict itself.
VERDICT_CONTROL = "verdict"
LAST_SCORE = 1.0  # of a task without a row: after all rows
_HEADERS: Mapping[Task, str] = {
    "classification": "Given label: $given_label",
    "multi_label": "Given labels: $given_label",
    "tokens": "$reason",
    "masks": "$reason",
}


def write_label_studio(rows: Iterable[ExportRow], options: ExportOptions) -> Iterator[bytes]:
    """JSON array of tasks, to import as a file."""
    return join_items(b"[", (dump(task(row, options)) for row in rows), b"\n]\n")


def task(row: ExportRow, options: ExportOptions) -> LabelStudioTask:
    """The task of a row; an attribute with the name of another member is renamed to `attribute_<name>`."""
    fields = tool_fields(row, options)
    data = rename_reserved(row.attributes, fields) | fields
    data[options.shown_key] = shown_text(row, options)
    suggestion = regions(row, control_of(options), options)
    return {
        "data": data,
        "meta": {"run": options.run, "queue": options.queue, "epoch": options.epoch, "config_id": options.config_id},
        "predictions": [prediction(row, options, suggestion)],
    }


def prediction(row: ExportRow, options: ExportOptions, result: list[ResultRegion]) -> Prediction:
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


def labelling_config(class_names: Sequence[str], options: ExportOptions) -> str:
    """The labelling configuration for the tasks, as XML: the data, the given label and the labels to choose from.

    Of tokens and masks, whose regions say little about the given ones, also the verdicts to choose from.

    Raises:
        InvalidRequestError: XML cannot represent one of the names.
    """
    view, control = ElementTree.Element("View"), control_of(options)
    ElementTree.SubElement(view, options.object_tag, name=options.to_name, value=f"${options.shown_key}")
    ElementTree.SubElement(view, "Header", value=_HEADERS[options.task])
    attributes = {"name": options.from_name, "toName": options.to_name}
    if control.tag == "Choices":
        choice = "multiple" if options.task == "multi_label" else "single"
        attributes |= {"choice": choice, "showInline": "true"}
    labels = ElementTree.SubElement(view, control.tag, attributes)
    for name in control_labels(class_names, options):
        ElementTree.SubElement(labels, label_tag(control.tag), value=name)
    if control.tag != "Choices":
        verdicts = {"name": VERDICT_CONTROL, "toName": options.to_name, "choice": "single", "showInline": "true"}
        choices = ElementTree.SubElement(view, "Choices", verdicts)
        for verdict in get_args(Verdict):
            ElementTree.SubElement(choices, "Choice", value=verdict)
    ElementTree.indent(view)
    try:
        config = ElementTree.tostring(view, encoding="unicode")
        ElementTree.fromstring(config)
    except (ElementTree.ParseError, ValueError) as error:
        raise InvalidRequestError(f"a labelling configuration cannot hold one of these names: {error}") from error
    return config
