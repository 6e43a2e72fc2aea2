"""The manifest of a run: its description and creation time, which never change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from itertools import chain
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError, model_validator

from service.errors import InvalidRequestError
from service.runs.damage import FORMAT, STRUCTURED_FORMAT, check_format
from service.schema.config import MAX_CLASSES, LossConfig
from service.schema.faults import fault, request_fault
from service.schema.structure import Task, Within, WithinName

MAX_CLASS_NAMES_BYTES = 4 * 1024 * 1024
MAX_DISPLAY_BYTES = 64 * 1024
MAX_DISPLAY_DEPTH = 32


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class RunDescription(BaseModel):
    """The body of `PUT /runs/{run}`.

    Args:
        config: Configuration of the loss, without label smoothing: a run computes all losses of an example from its
            log-odds.
        task: Kind of the labels: one class of each example (`classification`), several labels of each
            (`multi_label`), or one class of each token or pixel (`tokens`, `masks`).
        within: How the loss of an example is made of those of its elements, for all tasks but `classification`.
        class_names: A name for each class, all different; of the task `multi_label` for each label.
        display: Any JSON object for the page or other tools, returned unchanged.
        store_logits: True to store the logits in float32: label errors, calibration and class probabilities need them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    config: LossConfig = LossConfig()
    task: Task = "classification"
    within: Within = "mean"
    class_names: Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(max_length=MAX_CLASSES)] | None = None
    display: dict[str, JsonValue] = {}
    store_logits: bool = True

    @model_validator(mode="after")
    def _fits(self) -> RunDescription:
        config = self.config
        not_kept = {"label_smoothing": config.label_smoothing > 0}
        if not self.is_structured:
            not_kept["gamma_negative"] = config.gamma_negative not in (None, config.gamma)
            not_kept["clip"] = config.clip > 0
            if self.within != "mean":
                raise ValueError("within is for examples with many elements, not for the task classification")
        for name, is_set in not_kept.items():
            if is_set:
                raise ValueError(
                    f"a run cannot have {name}: its losses are computed from alpha, gamma and the log-odds of the label"
                )
        if self.task == "multi_label":
            if config.mode != "sigmoid":
                raise ValueError("the task multi_label needs a config with the mode sigmoid")
        elif config.mode == "sigmoid" and isinstance(config.alpha, tuple) and len(config.alpha) > 1:
            raise ValueError("alpha has several weights, which are those of several labels: task multi_label")
        self._check_names()
        return self

    def _check_names(self) -> None:
        names = self.class_names
        if names is None:
            return
        if len(set(names)) != len(names):
            repeated, _ = Counter(names).most_common(1)[0]
            raise ValueError(f"class name {repeated[:100]!r} occurs twice")
        num_classes, least = self.num_classes_of_config, 1 if self.task == "multi_label" else 2
        if len(names) < least or (num_classes is not None and num_classes != len(names)):
            raise ValueError(f"{len(names)} class names for {num_classes or f'at least {least}'} classes")

    @property
    def is_structured(self) -> bool:
        """True if an example has many elements."""
        return self.task != "classification"

    @property
    def num_classes_of_config(self) -> int | None:
        """Number of classes, of the task `multi_label` of labels, of the configuration; None if it fits any number."""
        if self.task == "multi_label":
            weights = self.config.weights or ()
            return len(weights) if len(weights) > 1 else None
        if self.config.mode == "sigmoid":
            return 2
        return None if self.config.weights is None else len(self.config.weights)

    @property
    def num_classes(self) -> int | None:
        """Number of classes of the run; None if its first batch decides."""
        return self.num_classes_of_config or (None if self.class_names is None else len(self.class_names))

    @classmethod
    def parse(cls, value: object) -> RunDescription:
        """Validate a decoded JSON object.

        Raises:
            InvalidRequestError: A field is unknown, has the wrong type, or is too large; the error names each.
            InvalidConfigError: The same for the members of `config`.
        """
        try:
            description = cls.model_validate(value)
        except ValidationError as err:
            raise request_fault(err) from err
        _check_size(description)
        return description

    @classmethod
    def read(cls, members: Mapping[str, Any]) -> RunDescription:
        """Convert the members of a stored description; those of later versions are left out, and sizes not checked."""
        known = {name: value for name, value in members.items() if name in cls.model_fields}
        if isinstance(config := known.get("config"), dict):
            known["config"] = {name: value for name, value in config.items() if name in LossConfig.model_fields}
        return cls.model_validate(known)

    @property
    def within_json(self) -> WithinName | dict[Literal["top_share"], float]:
        """`within` as JSON."""
        return self.within if isinstance(self.within, str) else {"top_share": self.within.top_share}

    @property
    def meaning(self) -> dict[str, object]:
        """The content of the description; equal if the configurations have the same `config_id`."""
        return {
            "config_id": self.config.config_id,
            "class_names": self.class_names,
            "display": self.display,
            "store_logits": self.store_logits,
            "task": self.task,
            "within": self.within_json,
        }


class Manifest(BaseModel):
    """The content of `run.json`.

    Args:
        uid: Unique id of this creation; a run that is deleted and created again has another one.
        created_at: Time of creation, UTC.
        description: The description in the request.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    uid: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    created_at: datetime
    description: RunDescription

    @classmethod
    def read(cls, path: str, content: bytes) -> Manifest:
        """Parse the bytes of `run.json`; any error means that they are damaged.

        Args:
            path: Path of the file in the data directory, for the error.
            content: The bytes.

        Raises:
            RunDamagedError: A later version wrote the file in a newer format.
        """
        members = orjson.loads(content)
        check_format(path, members.get("format", FORMAT), STRUCTURED_FORMAT)
        description = RunDescription.read(members["description"])
        # Version 0.1.0 stored objects too deep to be written again.
        orjson.dumps(description.display)
        return cls(uid=members["uid"], created_at=members["created_at"], description=description)

    @property
    def content(self) -> bytes:
        """The bytes of `run.json`."""
        number = STRUCTURED_FORMAT if self.description.is_structured else FORMAT
        return orjson.dumps({"format": number, **self.model_dump(mode="json")}, option=orjson.OPT_INDENT_2)


def _check_size(description: RunDescription) -> None:
    num_bytes = sum(len(name.encode()) for name in description.class_names or ())
    if num_bytes > MAX_CLASS_NAMES_BYTES:
        msg = f"the class names have {num_bytes} bytes; at most {MAX_CLASS_NAMES_BYTES} are allowed"
        raise fault(InvalidRequestError, msg, "class_names")
    if _is_deeper(description.display, MAX_DISPLAY_DEPTH):
        raise fault(InvalidRequestError, f"display is nested deeper than {MAX_DISPLAY_DEPTH} levels", "display")
    num_bytes = len(orjson.dumps(description.display))
    if num_bytes > MAX_DISPLAY_BYTES:
        msg = f"display has {num_bytes} bytes as JSON; at most {MAX_DISPLAY_BYTES} are allowed"
        raise fault(InvalidRequestError, msg, "display")


def _is_deeper(value: JsonValue, levels: int) -> bool:
    """True if lists and objects are nested in more than `levels` levels."""
    layer: list[JsonValue] = [value]
    for _ in range(levels):
        members = (item.values() if isinstance(item, dict) else item for item in layer if isinstance(item, list | dict))
        layer = list(chain.from_iterable(members))
    return any(isinstance(item, list | dict) for item in layer)
