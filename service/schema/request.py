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
from service.schema.structure import DEFAULT_REGIONS, MAX_REGIONS, Divisor, Layout, Within

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
    "num_valid",
    "label_quality",
    "max_loss",
)
# Lists of regions, not numbers.
REGIONS = "regions"
# Scores of each element that a batch may hold in place of its logits; the first is required.
STATISTICS = ("log_odds", "prediction", "entropy", "logit_margin", "normalized_margin", "el2n")
# Beside them, the number of elements that an element stands for: those of the same class with nearly the same log-odds.
ELEMENT_COUNT = "element_count"
STATISTIC_PARTS = (*STATISTICS, ELEMENT_COUNT)
# Outputs that follow from the log-odds and one more statistic; the last one also from the number of classes.
FROM_STATISTIC = {"normalized_margin": "logit_margin", "grad_norm": "el2n", "confidence_weighted_entropy": "entropy"}
# Of each element; the others in OUTPUTS are numbers of an example.
ELEMENT_OUTPUTS = tuple(name for name in OUTPUTS if name not in ("num_valid", "label_quality", "max_loss"))
DEFAULT_OUTPUTS = ("loss", "contribution")
MAX_OUTPUTS = 64
# Class numbers of runs are int32.
MAX_NUM_CLASSES = 2**31 - 1
MAX_TOP_K = 1_000_000


OnInvalid = Literal["error", "exclude"]


class RequestOptions(BaseModel):
    """The members of a loss request other than its tensors; the same in every format.

    Args:
        config: The configuration; None if `config_id` names one that the service holds.
        config_id: Id of a held configuration.
        outputs: Outputs of each example; see OUTPUTS, and `regions`.
        top_k: Number of hardest examples.
        on_invalid: Refuse a request with an invalid element, or exclude its example.
        layout: How the elements belong to examples; see `Batch`.
        divisor: By what `mean` divides the sum of element losses; None: see `divisor_of`.
        within: How the loss of an example is made of those of its valid elements.
        elements: Outputs of each element; see ELEMENT_OUTPUTS.
        top_regions: Largest number of regions of each example; None: 10 if `outputs` has `regions`.
        num_classes: Number of classes in softmax mode, which logits tell and statistics do not; None: unknown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    config: LossConfig | None = None
    config_id: str | None = None
    outputs: Annotated[tuple[str, ...], Field(fail_fast=True, max_length=MAX_OUTPUTS), BeforeValidator(as_tuple)] = (
        DEFAULT_OUTPUTS
    )
    top_k: Annotated[int, Field(ge=0, le=MAX_TOP_K)] = 0
    on_invalid: OnInvalid = "error"
    layout: Layout = "rows"
    divisor: Divisor | None = None
    within: Within = "mean"
    elements: Annotated[tuple[str, ...], Field(fail_fast=True, max_length=MAX_OUTPUTS), BeforeValidator(as_tuple)] = ()
    top_regions: Annotated[int, Field(ge=0, le=MAX_REGIONS)] | None = None
    num_classes: Annotated[int, Field(ge=2, le=MAX_NUM_CLASSES)] | None = None

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
            if name not in OUTPUTS and name != REGIONS:
                raise unknown_fault(UnknownOutputError, "output", name, (*OUTPUTS, REGIONS), "outputs", position)
        for position, name in enumerate(self.elements):
            if name not in ELEMENT_OUTPUTS:
                raise unknown_fault(UnknownOutputError, "element output", name, ELEMENT_OUTPUTS, "elements", position)

    @property
    def with_regions(self) -> bool:
        """True if the reply has regions."""
        return REGIONS in self.outputs or self.top_regions is not None

    @property
    def num_regions(self) -> int:
        """Largest number of regions of each example in the reply: `top_regions`, or 10 if only `outputs` asks."""
        if self.top_regions is None:
            return DEFAULT_REGIONS if REGIONS in self.outputs else 0
        return self.top_regions


DEFAULT_OPTIONS = RequestOptions()

Ids = Sequence[str | int]
Column = np.ndarray[Any, np.dtype[Any]]
# The logits of a batch with statistics.
NO_LOGITS: Column = np.empty(0)


@dataclass(frozen=True, eq=False)
class Batch:
    """Logits and targets as received, not yet checked against a configuration.

    Args:
        logits: float16, bfloat16 (of ml_dtypes), float32 or float64. Layout `rows`: softmax (N, C), sigmoid (N,),
            (N, 1) or (N, L). `dense`: (N, C, d1, ...), sigmoid (N, L, d1, ...), (N, H, W) or (N, d1). `ragged`: (T, C),
            sigmoid (T,) or (T, L).
        targets: The shape of the logits without the classes; in sigmoid mode, and for soft labels, with them. Numbers,
            booleans, or objects (texts, numbers, booleans, None), as received; `service.formats.targets` converts them
            to numbers.
        ids: One string or integer per example, or None.
        attributes: Lists with one value per example, by name, for the batches of runs; None without attributes.
        offsets: (N + 1,) int64 as received, the first element of each example; of the layout `ragged` only.
        statistics: Scores in place of the logits, which are (0,) then: `log_odds` and others of STATISTICS, each of the
            shape of the targets; None with logits.
    """

    logits: Column
    targets: Column
    ids: Ids | None = None
    attributes: Mapping[str, Sequence[Any]] | None = None
    offsets: Column | None = None
    statistics: Mapping[str, Column] | None = None

    @property
    def num_examples(self) -> int:
        if self.offsets is not None:
            return max(0, int(self.offsets.size) - 1)
        values = self.logits if self.statistics is None else self.targets
        return int(values.shape[0]) if values.ndim else 0


@dataclass(frozen=True, eq=False)
class LossRequest:
    """A decoded `POST /loss`."""

    options: RequestOptions
    batches: tuple[Batch, ...]
