"""The suggestions of a row as regions of a Label Studio prediction, by the task of the run.

| task | region |
|---|---|
| `classification` | the suggested class, none if the model agrees with the label |
| `multi_label` | all labels that the model predicts, as one choice |
| `tokens` | for each unit the characters with the suggested entity |
| `masks` | for each unit and predicted class the pixels as run lengths, or for each part of them a polygon |

Source: label-studio-sdk label_interface/control_tags.py, converter/brush.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from service.exports.brush import brush_rle
from service.exports.elements import RowElements, check_axes
from service.exports.label_sets import predicted_labels
from service.exports.outlines import outlines
from service.exports.rows import ExportOptions, ExportRow, known_probability, probability
from service.exports.spans import span_labels, suggested_spans
from service.schema.replies.exports import (
    ChoicesRegion,
    LabelledBrush,
    LabelledPolygon,
    MaskRegion,
    MaskTag,
    ResultRegion,
    SpanRegion,
)


@dataclass(frozen=True, slots=True)
class Control:
    """The control that a suggestion fills in.

    Args:
        tag: Choices, Labels, BrushLabels or PolygonLabels.
        from_name: Name of the control.
        to_name: Name of the object that it labels.
        labels: Text in a result (the alias of a label) by its name; None: all texts are allowed.
    """

    tag: str
    from_name: str
    to_name: str
    labels: Mapping[str, str] | None = None

    def text(self, label: str | None) -> str | None:
        """The text of a label in a result; None if the control does not have it."""
        if label is None:
            return None
        return label if self.labels is None else self.labels.get(label)


def control_tags(options: ExportOptions) -> tuple[str, ...]:
    """The tags of controls that suggestions of a run can fill in, the preferred one first."""
    if options.task == "masks":
        return tuple(sorted(get_args(MaskTag), key=lambda tag: tag != options.mask_tag))
    return ("Labels",) if options.task == "tokens" else ("Choices",)


def label_tag(tag: str) -> str:
    """The tag of a label in a control with this tag."""
    return "Choice" if tag == "Choices" else "Label"


def control_of(options: ExportOptions) -> Control:
    """The control of the labelling configuration of an export."""
    return Control(control_tags(options)[0], options.from_name, options.to_name)


def control_labels(class_names: Sequence[str], options: ExportOptions) -> Sequence[str]:
    """The labels of the control."""
    return span_labels(class_names) if options.task == "tokens" else class_names


def regions(row: ExportRow, control: Control, options: ExportOptions) -> list[ResultRegion]:
    """The regions of a row; none if the suggestion is hidden, or the model suggests nothing or no label of the control.

    Raises:
        InvalidRequestError: A mask does not have two axes, or the tokens do not fit; names the example.
    """
    if row.suggestion == "hidden":
        return []
    match options.task:
        case "classification":
            return list(_choices(row, control, [row.suggested_label], probability(row)))
        case "multi_label":
            return list(_choices(row, control, [label for label, _ in predicted_labels(row, options)], None))
        case "tokens":
            return list(_spans(row, control, options))
        case "masks":
            return list(_masks(row, control, options))


def _choices(
    row: ExportRow, control: Control, labels: Sequence[str | None], p: float | None
) -> Iterator[ChoicesRegion]:
    choices = [text for text in map(control.text, labels) if text is not None]
    if choices:
        region: ChoicesRegion = {
            "id": f"p{row.rank}",
            "from_name": control.from_name,
            "to_name": control.to_name,
            "type": "choices",
            "value": {"choices": choices},
        }
        if p is not None:
            region["score"] = p
        yield region


def _spans(row: ExportRow, control: Control, options: ExportOptions) -> Iterator[SpanRegion]:
    for number, span in enumerate(suggested_spans(row, options)):
        label = control.text(span.label)
        if label is None:
            continue
        region: SpanRegion = {
            "id": f"p{row.rank}-{number}",
            "from_name": control.from_name,
            "to_name": control.to_name,
            "type": "labels",
            "value": {"start": span.start, "end": span.end, "text": span.text, "labels": [label]},
        }
        if (p := known_probability(span.p)) is not None:
            region["score"] = p
        yield region


def _masks(row: ExportRow, control: Control, options: ExportOptions) -> Iterator[MaskRegion]:
    if row.elements is None:
        return
    check_axes(row.id, row.elements)
    height, width = row.elements.shape
    for number, (values, p) in enumerate(_mask_values(row.elements, control, options)):
        region: MaskRegion = {
            "id": f"p{row.rank}-{number}",
            "from_name": control.from_name,
            "to_name": control.to_name,
            "type": "polygonlabels" if control.tag == "PolygonLabels" else "brushlabels",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": values,
        }
        if p is not None:
            region["score"] = p
        yield region


def _mask_values(
    elements: RowElements, control: Control, options: ExportOptions
) -> Iterator[tuple[LabelledBrush | LabelledPolygon, float | None]]:
    """The values of the regions of an example, with their probabilities."""
    height, width = elements.shape
    for item in elements.units:
        for predicted in dict.fromkeys(item.predictions.tolist()):
            label = control.text(options.name_of(predicted))
            if label is None:
                continue
            p = known_probability(item.suggested_p) if predicted == item.suggested else None
            places = item.places[item.predictions == predicted]
            if control.tag == "BrushLabels":
                yield {"format": "rle", "rle": brush_rle(places, height * width), "brushlabels": [label]}, p
                continue
            for polygon in outlines(places, width):
                points = (polygon * 100 / (width, height)).tolist()
                yield {"points": points, "closed": True, "polygonlabels": [label]}, p
