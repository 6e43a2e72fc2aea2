"""Replies about exports: previews, and what a Label Studio ML backend sends."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from service.schema.json_values import JsonObject

ExportFormatName = Literal["label-studio", "argilla", "fiftyone", "csv", "jsonl", "parquet"]


class RejectedRow(TypedDict):
    """An exported row that a validator rejects; `row` is its rank, `reason` the validator's text."""

    row: int
    id: str
    reason: str


class Validation(TypedDict):
    """The result of validating exported rows.

    `name` and `version` are those of the validating package; `name` is `documented format` and `version` null for a
    check by the service itself.
    """

    name: str
    version: str | None
    accepted: int
    refused: list[RejectedRow]


class PreviewedRows(TypedDict):
    """The first rows of an export as the file contains them, with the result of their validation.

    `columns` is present for CSV, JSONL and Parquet. `validator` is null if the tool's validator is not installed.
    `notes` are sentences for whoever loads the file.
    """

    rows: list[JsonObject]
    columns: NotRequired[list[str]]
    validator: Validation | None
    notes: list[str]


class ExportPreview(PreviewedRows):
    """A preview of an export; `num_rows` is the number of rows of the whole file."""

    format: ExportFormatName
    file_name: str
    media_type: str
    num_rows: int


class Choice(TypedDict):
    """The choices of a Label Studio region."""

    choices: list[str]


class ChoicesRegion(TypedDict):
    """A Label Studio region with the suggested choice; `score` is its probability, absent if unknown."""

    id: str
    from_name: str
    to_name: str
    type: Literal["choices"]
    value: Choice
    score: NotRequired[float]


class Prediction(TypedDict):
    """A Label Studio prediction; `score` in [0, 1] orders the tasks, ascending."""

    model_version: str
    score: float
    result: list[ChoicesRegion]


class PredictReply(TypedDict):
    """The reply of `/predict`: one prediction for each task, in their order."""

    results: list[Prediction]
    model_version: str


class SetupReply(TypedDict):
    """The reply of `/setup`."""

    model_version: str


class HealthReply(TypedDict):
    """The reply of `/health` and `/`."""

    status: Literal["UP"]
    model_class: str


class WebhookReply(TypedDict):
    """The reply of `/webhook`; `result` is an empty object for a training event, absent for an unknown event."""

    result: NotRequired[dict[str, str]]
    status: str
