"""Replies of the export preview and of a run as a Label Studio ML backend, and the objects in export files."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from service.schema.json_values import JsonObject
from service.schema.replies.fields import Count, Share

ExportFormatName = Literal["label-studio", "argilla", "fiftyone", "csv", "jsonl", "parquet"]
MaskTag = Literal["BrushLabels", "PolygonLabels"]


class RejectedRow(TypedDict):
    """An exported row that a validator rejects."""

    row: Annotated[int, Field(ge=1, description="Rank of the row")]
    id: str
    reason: Annotated[str, Field(description="Message of the validator")]


class Validation(TypedDict):
    """The result of validating exported rows."""

    name: Annotated[str, Field(description='Package of the validator; "documented format" for the service itself')]
    version: Annotated[str | None, Field(description="Version of the package")]
    accepted: Count
    refused: list[RejectedRow]


class PreviewRows(TypedDict):
    """The first rows of an export as the file contains them, and the result of their validation."""

    rows: Annotated[list[JsonObject], Field(description="Cells of CSV are texts")]
    columns: NotRequired[Annotated[list[str], Field(description="Present for csv, jsonl and parquet")]]
    validator: Annotated[Validation | None, Field(description="null if the validator of the tool is not installed")]
    notes: Annotated[list[str], Field(description="Sentences for the user who loads the file")]


class ExportPreview(PreviewRows):
    """A preview of an export."""

    format: ExportFormatName
    file_name: str
    media_type: str
    num_rows: Annotated[Count, Field(description="Rows of the whole export")]


class RegionNames(TypedDict):
    """The members that name a Label Studio region, its control and its object."""

    id: str
    from_name: Annotated[str, Field(description="Name of the control")]
    to_name: Annotated[str, Field(description="Name of the object that the control labels")]


class SelectedChoices(TypedDict):
    """Choices that a Label Studio region selects."""

    choices: list[str]


class ChoicesRegion(RegionNames):
    """A Label Studio region with the suggested choice."""

    type: Literal["choices"]
    value: SelectedChoices
    score: NotRequired[Annotated[Share, Field(description="Probability of the choice")]]


class LabelledSpan(TypedDict):
    """Characters of a text, with their label."""

    start: Count
    end: Annotated[Count, Field(description="The character after the last one")]
    text: str
    labels: list[str]


class SpanRegion(RegionNames):
    """A Label Studio region of a text with the suggested label."""

    type: Literal["labels"]
    value: LabelledSpan
    score: NotRequired[Annotated[Share, Field(description="Probability of the label")]]


class LabelledBrush(TypedDict):
    """Pixels of an image, with their label."""

    format: Literal["rle"]
    rle: Annotated[list[int], Field(description="Bytes of Label Studio's run-length encoding")]
    brushlabels: list[str]


class LabelledPolygon(TypedDict):
    """A polygon in an image, with its label."""

    points: Annotated[list[list[float]], Field(description="Pairs [x, y] in percent of the width and height")]
    closed: Literal[True]
    polygonlabels: list[str]


class MaskRegion(RegionNames):
    """A Label Studio region of an image with the suggested label."""

    type: Literal["brushlabels", "polygonlabels"]
    original_width: Count
    original_height: Count
    image_rotation: Literal[0]
    value: LabelledBrush | LabelledPolygon
    score: NotRequired[Annotated[Share, Field(description="Probability of the label")]]


ResultRegion = ChoicesRegion | SpanRegion | MaskRegion


class Prediction(TypedDict):
    """A Label Studio prediction."""

    model_version: str
    score: Annotated[Share, Field(description="Position in the order of review, ascending")]
    result: Annotated[list[ResultRegion], Field(description="A region for each suggestion; empty without one")]


class ExportSource(TypedDict):
    """Origin of an exported row."""

    run: str
    queue: str | None
    epoch: int
    config_id: str


class LabelStudioTask(TypedDict):
    """A Label Studio task with one prediction."""

    data: JsonObject
    meta: ExportSource
    predictions: list[Prediction]


class Classification(TypedDict):
    """A FiftyOne classification."""

    label: str | int
    confidence: NotRequired[float]
    attributes: JsonObject


class ConfidentLabel(TypedDict):
    """One of several labels of an image."""

    label: str
    confidence: float | None


class Classifications(TypedDict):
    """Several labels of an image, for FiftyOne."""

    classifications: list[ConfidentLabel]
    attributes: JsonObject


class Segmentation(TypedDict):
    """The classes of the pixels of an image, for FiftyOne."""

    mask: Annotated[str | None, Field(description="Base64 of an array in NumPy's format, compressed by zlib")]
    attributes: JsonObject


class PredictReply(TypedDict):
    """The reply of `/predict`."""

    results: Annotated[list[Prediction], Field(description="One prediction for each task, in the order of the request")]
    model_version: str


class SetupReply(TypedDict):
    """The reply of `/setup`."""

    model_version: str


class VersionsReply(TypedDict):
    """The reply of `/versions`."""

    versions: Annotated[list[str], Field(description="The version of the predictions of the last epoch")]


class HealthReply(TypedDict):
    """The reply of `/health` and `/`."""

    status: Literal["UP"]
    model_class: str


class RefusedAnnotation(TypedDict):
    """An annotation that cannot become a review."""

    annotation: Annotated[str, Field(description="Its name in the tool")]
    code: Annotated[str, Field(description="Code of the error")]
    detail: str


class AnnotationsReply(TypedDict):
    """The reviews that follow from the annotations of a labelling tool."""

    status: Annotated[
        Literal["ok", "ignored"], Field(description="`ignored`: there are no annotations that the run could store")
    ]
    added: Annotated[Count, Field(description="Stored reviews; 0 if all annotations were known")]
    num_refused: Count
    refused: Annotated[list[RefusedAnnotation], Field(description="The first 100 annotations without reviews")]
    hint: NotRequired[Annotated[str, Field(description="Sentence for the user")]]
