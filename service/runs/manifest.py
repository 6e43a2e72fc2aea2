"""The manifest of a run: its description and creation time, which never change."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError, model_validator

from service.schema.config import LossConfig
from service.schema.faults import request_fault

MAX_CLASSES = 1_000_000


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class RunDescription(BaseModel):
    """The body of `PUT /runs/{run}`.

    Args:
        config: Configuration of the loss, without label smoothing: a run computes all losses of an example from its
            log-odds.
        class_names: A name for each class, all different.
        display: Any JSON object for the page or other tools, returned unchanged.
        store_logits: True to store the logits in float32: label errors, calibration and class probabilities need them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    config: LossConfig = LossConfig()
    class_names: Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(max_length=MAX_CLASSES)] | None = None
    display: dict[str, JsonValue] = {}
    store_logits: bool = True

    @model_validator(mode="after")
    def _fits(self) -> RunDescription:
        if self.config.label_smoothing:
            raise ValueError(
                "a run cannot have label_smoothing: its losses are computed from the log-odds of the label alone"
            )
        if self.config.mode == "sigmoid" and isinstance(self.config.alpha, tuple) and len(self.config.alpha) > 1:
            raise ValueError("a run stores one label per example, but alpha has several weights")
        names = self.class_names
        if names is not None:
            if len(set(names)) != len(names):
                repeated = next(name for name in names if names.count(name) > 1)
                raise ValueError(f"class name {repeated[:100]!r} occurs twice")
            num_classes = self.num_classes_of_config
            if len(names) < 2 or (num_classes is not None and num_classes != len(names)):
                raise ValueError(f"{len(names)} class names for {num_classes or 'at least 2'} classes")
        return self

    @property
    def num_classes_of_config(self) -> int | None:
        """Number of classes of the configuration; None if it fits any number."""
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
            InvalidRequestError: A field is unknown or has the wrong type; the error names each.
            InvalidConfigError: The same for the members of `config`.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as err:
            raise request_fault(err) from err

    @property
    def meaning(self) -> dict[str, object]:
        """The content of the description; equal if the configurations have the same `config_id`."""
        return {
            "config_id": self.config.config_id,
            "class_names": self.class_names,
            "display": self.display,
            "store_logits": self.store_logits,
        }


class Manifest(BaseModel):
    """The content of `run.json`.

    Args:
        uid: Unique id of this creation; a run that is deleted and created again has another one.
        created_at: Time of creation, UTC.
        description: The description in the request.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    uid: str
    created_at: datetime
    description: RunDescription

    @classmethod
    def read(cls, content: bytes) -> Manifest:
        """Parse the bytes of `run.json`."""
        fields = orjson.loads(content)
        return cls(
            uid=fields["uid"],
            created_at=fields["created_at"],
            description=RunDescription.parse(fields["description"]),
        )

    @property
    def content(self) -> bytes:
        """The bytes of `run.json`."""
        return orjson.dumps(self.model_dump(mode="json"), option=orjson.OPT_INDENT_2)
