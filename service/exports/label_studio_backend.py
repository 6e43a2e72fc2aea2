"""Replies of a Label Studio ML backend, which predicts from the stored rows of a run, without a model.

`POST /predict` {tasks, label_config}, `POST /setup`, `GET /versions`, `GET /health` and `/`.
Source: label-studio-ml-backend label_studio_ml/api.py, label-studio ml/api_connector.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from service.errors import InvalidRequestError
from service.exports.label_studio import LAST_SCORE, VERDICT_CONTROL, prediction
from service.exports.label_studio_regions import Control, control_of, control_tags, label_tag, regions
from service.exports.rows import ExportOptions, ExportRow
from service.schema.faults import fault
from service.schema.replies.exports import HealthReply, Prediction, PredictReply, SetupReply, VersionsReply

Lookup = Callable[[Sequence[str]], Mapping[str, ExportRow]]

DATA_KEYS = ("external_id", "id")
# Entities come from a document type, and a labelling configuration needs neither.
DECLARATION = re.compile(r"<!(?!--|\[CDATA\[)")
MAX_TASKS = 10_000
# A configuration with the names of 20 000 classes is smaller.
MAX_CONFIG_CHARACTERS = 2_000_000
MAX_CONFIG_TAGS = 100_000


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """The body of `/predict`.

    Args:
        tasks: Tasks that need a prediction, at most MAX_TASKS.
        label_config: XML of the project, None if unknown.
    """

    tasks: Sequence[Mapping[str, object]]
    label_config: str | None

    @classmethod
    def parse(cls, value: object) -> PredictRequest:
        """Check a decoded body; Label Studio's further members are ignored.

        Raises:
            InvalidRequestError: A member has another type, or there are too many tasks; names the member.
        """
        tasks = value.get("tasks") if isinstance(value, dict) else None
        if not isinstance(value, dict) or not isinstance(tasks, list):
            detail = "the body is an object with a list of tasks"
            raise fault(InvalidRequestError, "missing, or not a list", "tasks", detail=detail)
        if len(tasks) > MAX_TASKS:
            raise fault(InvalidRequestError, f"{len(tasks)} tasks, the limit is {MAX_TASKS}", "tasks")
        for number, task in enumerate(tasks):
            if not isinstance(task, dict):
                raise fault(InvalidRequestError, f"task {number} is not an object", "tasks", number)
        config = value.get("label_config")
        if config is not None and not isinstance(config, str):
            raise fault(InvalidRequestError, "label_config is not a text", "label_config")
        return cls(tasks, config)


def predict_reply(request: PredictRequest, lookup: Lookup, options: ExportOptions) -> PredictReply:
    """The reply of `/predict`; see `predictions`."""
    results = predictions(request.tasks, lookup, options, request.label_config)
    return {"results": results, "model_version": options.model_version}


def predictions(
    tasks: Sequence[Mapping[str, object]], lookup: Lookup, options: ExportOptions, label_config: str | None = None
) -> list[Prediction]:
    """Predict each task, in their order.

    The row of a task is the row with the id `data.external_id`, else `data.id`. A task without a row gets an empty
    result and the score 1, after all others. A suggestion that is not a label of the configuration
    is left out, and so is one that the export has hidden.

    Args:
        tasks: Tasks of a request of Label Studio.
        lookup: Finds rows by id, called once; the result lacks unknown ids.
        options: Export options of the run; `from_name` and `to_name` apply without `label_config`.
        label_config: XML of the project; the suggestions fill in its first control that fits.

    Raises:
        InvalidRequestError: `label_config` is not XML, is too large, or declares a document type.
    """
    control = read_control(label_config, options)
    ids_of_tasks = [example_ids(task) for task in tasks]
    rows = lookup(list(dict.fromkeys(identity for ids in ids_of_tasks for identity in ids)))
    return [
        _prediction(
            next((rows[identity] for identity in ids if identity in rows), None),
            None if _hides_suggestion(task) else control,
            options,
        )
        for task, ids in zip(tasks, ids_of_tasks, strict=True)
    ]


def read_control(label_config: str | None, options: ExportOptions) -> Control | None:
    """First control of a configuration that fits the run's task (Choices, Labels, BrushLabels or PolygonLabels), None
    if it has none; without a configuration, that of the options."""
    if label_config is None or not label_config.strip():
        return control_of(options)
    num_tags = label_config.count("<")
    if len(label_config) > MAX_CONFIG_CHARACTERS or num_tags > MAX_CONFIG_TAGS:
        limits = f"{MAX_CONFIG_CHARACTERS}, {MAX_CONFIG_TAGS}"
        msg = f"{len(label_config)} characters, {num_tags} tags; the limits are {limits}"
        raise fault(InvalidRequestError, msg, "label_config", detail=f"label_config: {msg}")
    if DECLARATION.search(label_config):
        raise InvalidRequestError("label_config: declares a document type or an entity, which are not allowed")
    try:
        view = ElementTree.fromstring(label_config)
    except ElementTree.ParseError as error:
        raise InvalidRequestError(f"label_config: not XML: {error}") from error
    tags = control_tags(options)
    for element in view.iter():
        to_name = element.get("toName", "").split(",")[0].strip()
        if element.tag in tags and (name := element.get("name")) and to_name and name != VERDICT_CONTROL:
            return Control(element.tag, name, to_name, _labels(element))
    return None


def _labels(element: ElementTree.Element) -> dict[str, str] | None:
    if element.get("value", "").startswith("$"):  # the task's data lists the labels
        return None
    labels: dict[str, str] = {}
    for label in element.iter(label_tag(element.tag)):
        value = label.get("value", "")
        alias = label.get("alias") or value
        labels |= {value: alias, alias: alias}
    return labels


def example_ids(task: Mapping[str, object]) -> list[str]:
    """The ids that the data of a task may name its example by, the likelier one first; never Label Studio's own id."""
    data = task.get("data")
    values = [data.get(key) for key in DATA_KEYS] if isinstance(data, dict) else []
    return [str(value) for value in values if isinstance(value, str | int) and not isinstance(value, bool)]


def _hides_suggestion(task: Mapping[str, object]) -> bool:
    """True for a task that was exported without the suggestion of its row."""
    data = task.get("data")
    return isinstance(data, dict) and data.get("suggestion") == "hidden"


def _prediction(row: ExportRow | None, control: Control | None, options: ExportOptions) -> Prediction:
    if row is None:
        return {"model_version": options.model_version, "score": LAST_SCORE, "result": []}
    return prediction(row, options, [] if control is None else regions(row, control, options))


def setup_reply(options: ExportOptions) -> SetupReply:
    """The reply of `/setup`."""
    return {"model_version": options.model_version}


def versions_reply(options: ExportOptions) -> VersionsReply:
    """The reply of `/versions`."""
    return {"versions": [options.model_version]}


def health_reply() -> HealthReply:
    """The reply of `/health` and `/`."""
    return {"status": "UP", "model_class": "FocalLoss"}
