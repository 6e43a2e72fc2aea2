"""What is said of a run when it is made, and never changes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

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
        config: Of the loss; label smoothing is not for runs, whose losses all follow from one number.
        class_names: One for each class, different from each other.
        display: What a page or a tool wants to remember of the run, as it likes; kept and given back.
        store_logits: Keep the logits in float32: needed for label errors, temperature and probabilities of classes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    config: LossConfig = LossConfig()
    class_names: Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(max_length=MAX_CLASSES)] | None = None
    display: dict[str, JsonValue] = {}
    store_logits: bool = True

    @model_validator(mode="after")
    def _fits(self) -> RunDescription:
        if self.config.label_smoothing:
            raise ValueError("a run has no label_smoothing: its losses follow from the log-odds of the label alone")
        if self.config.mode == "sigmoid" and isinstance(self.config.alpha, tuple) and len(self.config.alpha) > 1:
            raise ValueError("a run keeps one label for each example, alpha has several")
        names = self.class_names
        if names is not None:
            if len(set(names)) != len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise ValueError(f"class name {twice[:100]!r} stands twice")
            wanted = self.num_classes_of_config
            if len(names) < 2 or (wanted is not None and wanted != len(names)):
                raise ValueError(f"{len(names)} class names for {wanted or 'at least 2'} classes")
        return self

    @property
    def num_classes_of_config(self) -> int | None:
        """How many classes the configuration has, None where it goes with any number."""
        if self.config.mode == "sigmoid":
            return 2
        return None if self.config.weights is None else len(self.config.weights)

    @property
    def num_classes(self) -> int | None:
        """How many classes a run of this description has, None where its first batch says it."""
        return self.num_classes_of_config or (None if self.class_names is None else len(self.class_names))

    @classmethod
    def parse(cls, value: object) -> RunDescription:
        """The description that a decoded JSON object says.

        Raises:
            InvalidRequestError: Unknown field or wrong type; names each.
            InvalidConfigError: The same for what is under `config`.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as err:
            raise request_fault(err) from err

    @property
    def meaning(self) -> dict[str, Any]:
        """What two descriptions of one content have in common."""
        return {
            "config_id": self.config.config_id,
            "class_names": self.class_names,
            "display": self.display,
            "store_logits": self.store_logits,
        }


class Manifest(BaseModel):
    """`run.json`: a run as it was made.

    Args:
        uid: Differs where a run of the same name was deleted and made again.
        created_at: When, UTC.
        description: As it was put.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    uid: str
    created_at: datetime
    description: RunDescription

    @classmethod
    def read(cls, content: bytes) -> Manifest:
        """A manifest as `content` of it was written."""
        fields = orjson.loads(content)
        return cls(
            uid=fields["uid"],
            created_at=fields["created_at"],
            description=RunDescription.parse(fields["description"]),
        )

    @property
    def content(self) -> bytes:
        return orjson.dumps(self.model_dump(mode="json"), option=orjson.OPT_INDENT_2)
