"""What a Label Studio ML backend answers: a run's stored rows as predictions, without a model.

`POST /predict` {tasks, label_config}, `POST /setup`, `GET /health` and `/`, `POST /webhook` {action}.
Source: label-studio-ml-backend label_studio_ml/api.py, label-studio ml/api_connector.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from service.errors import InvalidRequestError
from service.exports.label_studio import LAST_SCORE, choices_region, prediction
from service.exports.rows import ExportOptions, ExportRow

Lookup = Callable[[Sequence[str]], Mapping[str, ExportRow]]

DATA_KEYS = ("external_id", "id")
TRAINING_ACTIONS = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATION_DELETED", "START_TRAINING")
# A document type is the one place where entities come from, and a labelling configuration has neither.
DECLARATION = re.compile(r"<!(?!--|\[CDATA\[)")


@dataclass(frozen=True, slots=True)
class Control:
    """Where a suggestion goes.

    Args:
        from_name: The control.
        to_name: The object that it labels.
        choices: From what a class may be called to what a result says (a choice's alias); None: anything goes.
    """

    from_name: str
    to_name: str
    choices: Mapping[str, str] | None = None


def predict_reply(
    tasks: Sequence[Any], lookup: Lookup, options: ExportOptions, label_config: str | None = None
) -> dict[str, Any]:
    """The body of `/predict`; see `predictions`."""
    results = predictions(tasks, lookup, options, label_config)
    return {"results": results, "model_version": options.model_version}


def predictions(
    tasks: Sequence[Any], lookup: Lookup, options: ExportOptions, label_config: str | None = None
) -> list[dict[str, Any]]:
    """One prediction for each task, in their order.

    A task finds its row by `data.external_id`, then by `data.id`. One that finds none gets an empty result and the
    score 1, behind all others; one whose suggestion is no choice of the configuration keeps its score, and its result
    is empty.

    Args:
        tasks: As Label Studio sends them.
        lookup: From ids to their rows, called once; ids that it does not know are left out.
        options: Of the run; `from_name` and `to_name` hold where there is no `label_config`.
        label_config: The project's XML; its first Choices control is the one to fill.

    Raises:
        InvalidRequestError: `label_config` is not XML, or declares a document type.
    """
    control = read_control(label_config, options)
    ids = [_ids(task) for task in tasks]
    rows = lookup(list(dict.fromkeys(identity for found in ids for identity in found)))
    return [
        _prediction(next((rows[identity] for identity in found if identity in rows), None), control, options)
        for found in ids
    ]


def read_control(label_config: str | None, options: ExportOptions) -> Control | None:
    """The first Choices control, None of a configuration that has none; that of the options without configuration."""
    if label_config is None or not label_config.strip():
        return Control(options.from_name, options.to_name)
    if DECLARATION.search(label_config):
        raise InvalidRequestError("label_config: a document type or an entity is declared; neither is read")
    try:
        view = ElementTree.fromstring(label_config)
    except ElementTree.ParseError as error:
        raise InvalidRequestError(f"label_config: not XML: {error}") from error
    for element in view.iter("Choices"):
        to_names = element.get("toName", "").split(",")
        if (name := element.get("name")) and to_names[0].strip():
            return Control(name, to_names[0].strip(), _choices(element))
    return None


def _choices(element: ElementTree.Element) -> dict[str, str] | None:
    if element.get("value", "").startswith("$"):  # the task's data lists the choices
        return None
    choices: dict[str, str] = {}
    for choice in element.iter("Choice"):
        value = choice.get("value", "")
        alias = choice.get("alias") or value
        choices |= {value: alias, alias: alias}
    return choices


def _ids(task: Any) -> list[str]:
    data = task.get("data") if isinstance(task, dict) else None
    found = [data.get(key) for key in DATA_KEYS] if isinstance(data, dict) else []
    return [str(value) for value in found if isinstance(value, str | int) and not isinstance(value, bool)]


def _prediction(row: ExportRow | None, control: Control | None, options: ExportOptions) -> dict[str, Any]:
    if row is None:
        return {"model_version": options.model_version, "score": LAST_SCORE, "result": []}
    if control is None or row.suggested_label is None:
        return prediction(row, options, [])
    label = row.suggested_label
    choice = label if control.choices is None else control.choices.get(label)
    return prediction(row, options, choices_region(row, control.from_name, control.to_name, choice))


def setup_reply(options: ExportOptions) -> dict[str, str]:
    """The body of `/setup`."""
    return {"model_version": options.model_version}


def health_reply() -> dict[str, str]:
    """The body of `/health` and `/`."""
    return {"status": "UP", "model_class": "FocalLoss"}


def webhook_reply(action: Any) -> tuple[int, dict[str, Any]]:
    """Status and body of `/webhook`: nothing is trained, so that every known action is done at once."""
    if action in TRAINING_ACTIONS:
        return 201, {"result": {}, "status": "ok"}
    return 200, {"status": "Unknown event"}
