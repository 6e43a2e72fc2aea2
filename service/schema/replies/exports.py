"""Replies of the export preview and of a run as a Label Studio ML backend, and the objects in export files."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from service.schema.json_values import JsonObject
from service.schema.replies.fields import Count, Share

ExportFormatName = Literal["label-studio", "argilla", "fiftyone", "csv", "jsonl", "parquet"]


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


class SelectedChoices(TypedDict):
    """Choices that a Label Studio region selects."""

    choices: list[str]


class ChoicesRegion(TypedDict):
    """A Label Studio region with the suggested choice."""

    id: str
    from_name: Annotated[str, Field(description="Name of the control")]
    to_name: Annotated[str, Field(description="Name of the object that the control labels")]
    type: Literal["choices"]
    value: SelectedChoices
    score: NotRequired[Annotated[Share, Field(description="Probability of the choice")]]


class Prediction(TypedDict):
    """A Label Studio prediction."""

    model_version: str
    score: Annotated[Share, Field(description="Position in the order of review, ascending")]
    result: Annotated[list[ChoicesRegion], Field(description="One region; empty without a suggestion")]


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


class PredictReply(TypedDict):
    """The reply of `/predict`."""

    results: Annotated[list[Prediction], Field(description="One prediction for each task, in the order of the request")]
    model_version: str


class SetupReply(TypedDict):
    """The reply of `/setup`."""

    model_version: str


class HealthReply(TypedDict):
    """The reply of `/health` and `/`."""

    status: Literal["UP"]
    model_class: str


class WebhookReply(TypedDict):
    """The reply of `/webhook`."""

    result: NotRequired[Annotated[dict[str, str], Field(description="Empty; absent for an unknown event")]]
    status: str
