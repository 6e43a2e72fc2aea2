"""A decoded loss request: options and batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from service.errors import InvalidRequestError, UnknownOutputError
from service.schema.config import LossConfig, as_tuple
from service.schema.faults import fault, request_fault, unknown_fault

OUTPUTS = (
    "loss",
    "contribution",
    "cross_entropy",
    "p_t",
    "log_odds",
    "prediction",
    "logit_margin",
    "normalized_margin",
    "entropy",
    "confidence_weighted_entropy",
    "el2n",
    "grad_norm",
)
DEFAULT_OUTPUTS = ("loss", "contribution")
MAX_OUTPUTS = 64
MAX_TOP_K = 1_000_000


OnInvalid = Literal["error", "exclude"]


class RequestOptions(BaseModel):
    """The members of a loss request other than its tensors; the same in every format."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    config: LossConfig | None = None
    config_id: str | None = None
    outputs: Annotated[tuple[str, ...], Field(fail_fast=True, max_length=MAX_OUTPUTS), BeforeValidator(as_tuple)] = (
        DEFAULT_OUTPUTS
    )
    top_k: Annotated[int, Field(ge=0, le=MAX_TOP_K)] = 0
    on_invalid: OnInvalid = "error"

    @classmethod
    def parse(cls, value: object) -> RequestOptions:
        """Parse a decoded JSON object.

        Raises:
            InvalidRequestError: Unknown fields or wrong types; names all of them.
            InvalidConfigError: All of these are in `config`.
            UnknownOutputError: An unknown name in `outputs`; lists the known names.
        """
        # Most requests have no options: they share one object.
        if value == {}:
            return DEFAULT_OPTIONS
        try:
            options = cls.model_validate(value)
        except ValidationError as err:
            raise request_fault(err) from err
        options.check()
        return options

    def check(self) -> None:
        """Raise for errors that the types of the fields do not exclude."""
        if self.config is not None and self.config_id is not None:
            msg = "config is given as well"
            raise fault(InvalidRequestError, msg, "config_id", detail="give config or config_id, not both")
        for position, name in enumerate(self.outputs):
            if name not in OUTPUTS:
                raise unknown_fault(UnknownOutputError, "output", name, OUTPUTS, "outputs", position)


DEFAULT_OPTIONS = RequestOptions()

Ids = Sequence[str | int]
Column = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False)
class Batch:
    """Logits and targets as received, not yet checked against a configuration.

    Args:
        logits: float16, bfloat16 (of ml_dtypes), float32 or float64; softmax (N, C), sigmoid (N,), (N, 1) or (N, L).
        targets: (N,), or (N, L) in sigmoid mode: numbers, booleans, or objects (texts, numbers, booleans, None), as
            received; `service.formats.targets` converts them to numbers.
        ids: One string or integer per example, or None.
        attributes: Lists with one value per example, by name, for the batches of runs; None without attributes.
    """

    logits: Column
    targets: Column
    ids: Ids | None = None
    attributes: Mapping[str, Sequence[Any]] | None = None

    @property
    def num_examples(self) -> int:
        return int(self.logits.shape[0]) if self.logits.ndim else 0


@dataclass(frozen=True, eq=False)
class LossRequest:
    """A decoded `POST /loss`."""

    options: RequestOptions
    batches: tuple[Batch, ...]
