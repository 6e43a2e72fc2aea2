"""What passes between the parts: configuration, batches, requests and results.

Imports neither torch nor fastapi, so that the client can use it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from service.errors import ErrorItem, InvalidConfigError, InvalidRequestError, UnknownOutputError

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

Mode = Literal["softmax", "sigmoid"]
Reduction = Literal["mean", "sum", "weighted_mean", "none"]
OnInvalid = Literal["error", "exclude"]


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _not_empty(values: tuple[float, ...]) -> tuple[float, ...]:
    # Not min_length: with fail_fast it counts the values before the first bad one.
    if not values:
        raise ValueError("a list has at least 1 weight, got []")
    return values


def _alpha_kind(value: object) -> str:
    if isinstance(value, dict | ClassCounts):
        return "class_counts"
    return "per_class" if isinstance(value, list | tuple) else "single"


class ClassCounts(BaseModel):
    """Class weights made from how many examples each class has."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    class_counts: Annotated[
        tuple[Annotated[int, Field(lt=2**63)], ...], Field(fail_fast=True), BeforeValidator(_as_tuple)
    ]
    scheme: Literal["inverse", "effective"] = "inverse"
    beta: Annotated[float, Field(ge=0, lt=1)] = 0.999

    @field_validator("class_counts")
    @classmethod
    def _each_class_has_examples(cls, counts: tuple[int, ...]) -> tuple[int, ...]:
        if len(counts) < 2:
            raise ValueError(f"at least 2 classes have counts, got {len(counts)}")
        for label, count in enumerate(counts):
            if count <= 0:
                raise ValueError(f"class {label} has count {count}: every class needs at least one example")
        return counts

    def weights(self) -> tuple[float, ...]:
        """One weight per class: `inverse` sum(n) / n_c, `effective` of Cui et al. 2019, equation 2.

        The effective weights are scaled to sum to the number of classes. They are computed in decimal, so that
        every machine gets the same bits and with them the same `config_id`.
        """
        if self.scheme == "inverse":
            total = sum(self.class_counts)
            return tuple(total / count for count in self.class_counts)
        with localcontext() as context:
            context.prec = 50
            beta = Decimal(repr(self.beta))
            raw = [(1 - beta) / (1 - beta**count) for count in self.class_counts]
            scale = len(raw) / sum(raw, Decimal(0))
            return tuple(float(weight * scale) for weight in raw)


SingleAlpha = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), Tag("single")]
AlphaPerClass = Annotated[
    tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...],
    # One bad weight is named; a million would make the error larger than the request.
    Field(fail_fast=True),
    BeforeValidator(_as_tuple),
    AfterValidator(_not_empty),
    Tag("per_class"),
]
Alpha = Annotated[SingleAlpha | AlphaPerClass | Annotated[ClassCounts, Tag("class_counts")], Discriminator(_alpha_kind)]


def _complement(alpha: float) -> float:
    # In decimal, so that 0.9 and 1 - 0.1 are one configuration: 1 - 0.9 in binary is 0.09999999999999998.
    return float(1 - Decimal(repr(alpha)))


class LossConfig(BaseModel):
    """The configuration of a focal loss: two spellings of one meaning share one `config_id`.

    Args:
        mode: `softmax` (one class per example) or `sigmoid` (independent labels).
        alpha: None (all weights 1), a number in [0, 1] (weight of the positive class, the other gets 1 - alpha),
            one weight >= 0 per class (sigmoid: one alpha in [0, 1] per label), or class counts (softmax).
        gamma: Focusing parameter >= 0; 0 is the weighted cross-entropy. Lin et al. 2017, equation 5.
        reduction: `mean` over the examples that count, `sum`, `weighted_mean` (by the sum of alpha_t), or `none`.
        ignore_index: Target that takes an example (sigmoid: a label) out of the loss, or None.
        positive_class: The class that a single alpha belongs to.
        label_smoothing: In [0, 1): share of the target that is spread over all classes; softmax only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    mode: Mode = "softmax"
    alpha: Alpha | None = None
    gamma: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 2.0
    reduction: Reduction = "mean"
    ignore_index: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = -100
    positive_class: Annotated[int, Field(ge=0, le=1)] = 1
    label_smoothing: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.0

    @model_validator(mode="after")
    def _fits_its_mode(self) -> LossConfig:
        if self.mode == "sigmoid":
            if self.label_smoothing:
                raise ValueError("label_smoothing is for softmax mode; in sigmoid mode send soft targets")
            if isinstance(self.alpha, ClassCounts):
                raise ValueError("class_counts are for softmax mode; in sigmoid mode give one alpha per label")
            if isinstance(self.alpha, tuple) and any(alpha > 1 for alpha in self.alpha):
                raise ValueError(f"in sigmoid mode each alpha lies in [0, 1], got {list(self.alpha)}")
        if isinstance(self.alpha, tuple) and self.mode == "softmax" and len(self.alpha) < 2:
            raise ValueError("softmax mode needs at least two classes, so a list alpha has at least two weights")
        return self

    @cached_property
    def weights(self) -> tuple[float, ...] | None:
        """What alpha resolves to: softmax one weight per class, sigmoid the weight of positives per label."""
        match self.alpha:
            case None:
                return None
            case ClassCounts():
                return self.alpha.weights()
            case tuple():
                return self.alpha
            case single:
                positive = single if self.positive_class == 1 else _complement(single)
                return (positive,) if self.mode == "sigmoid" else (_complement(positive), positive)

    @cached_property
    def config_id(self) -> str:
        """`fl_` and 16 hex digits: a function of the meaning, the same on every machine and in every 1.x."""
        meaning = {
            "mode": self.mode,
            "alpha": None if self.weights is None else [(weight + 0.0).hex() for weight in self.weights],
            "alpha_for_any_label": self.mode == "sigmoid" and isinstance(self.alpha, float | int),
            "gamma": (self.gamma + 0.0).hex(),
            "reduction": self.reduction,
            "ignore_index": self.ignore_index,
            "label_smoothing": (self.label_smoothing + 0.0).hex(),
        }
        text = json.dumps(meaning, sort_keys=True, separators=(",", ":"))
        return "fl_" + hashlib.sha256(text.encode()).hexdigest()[:16]

    @classmethod
    def parse(cls, value: object) -> LossConfig:
        """The configuration that a decoded JSON object says.

        Raises:
            InvalidConfigError: Unknown field, wrong type or value out of range; names each.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as err:
            items = error_items(err, ["config"])
            raise InvalidConfigError(summary(items), errors=items) from err


def error_items(err: ValidationError, prefix: Sequence[str | int]) -> list[ErrorItem]:
    """pydantic's errors as ours, without the names of union branches and without echoing large inputs."""
    branches = {"single", "per_class", "class_counts"}
    items: list[ErrorItem] = []
    for error in err.errors(include_url=False, include_context=False):
        loc = [*prefix]
        for position, part in enumerate(error["loc"]):
            if not (position > 0 and error["loc"][position - 1] == "alpha" and part in branches):
                loc.append(part)
        if error["type"] == "extra_forbidden":
            items.append({"loc": loc, "msg": f"unknown field {str(loc[-1])[:100]!r}"})
            continue
        msg = error["msg"].removeprefix("Value error, ")
        if isinstance(error["input"], int | float | str | None) and error["type"] not in ("value_error", "missing"):
            msg += (
                f", got {str(error['input'])[:100]!r}" if isinstance(error["input"], str) else f", got {error['input']}"
            )
        items.append({"loc": loc, "msg": msg})
    return items


def summary(items: Sequence[ErrorItem]) -> str:
    """One sentence for `detail`: the first fault, and how many there are."""
    first = f"{'.'.join(map(str, items[0]['loc']))}: {items[0]['msg']}"
    return first if len(items) == 1 else f"{first} (and {len(items) - 1} more)"


class RequestOptions(BaseModel):
    """Everything of a loss request but its tensors; the same fields in every format."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    config: LossConfig | None = None
    config_id: str | None = None
    outputs: Annotated[tuple[str, ...], Field(fail_fast=True), BeforeValidator(_as_tuple)] = DEFAULT_OUTPUTS
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    on_invalid: OnInvalid = "error"

    @classmethod
    def parse(cls, value: object) -> RequestOptions:
        """The options that a decoded JSON object says.

        Raises:
            InvalidRequestError: Unknown field or wrong type; names each.
            InvalidConfigError: The same for what is under `config`.
            UnknownOutputError: `outputs` names an unknown score; lists the known.
        """
        # Most requests say nothing: none is made anew for them, whatever their format.
        if value == {}:
            return DEFAULT_OPTIONS
        try:
            options = cls.model_validate(value)
        except ValidationError as err:
            items = error_items(err, [])
            of_config = all(item["loc"][:1] == ["config"] for item in items)
            kind = InvalidConfigError if of_config else InvalidRequestError
            raise kind(summary(items), errors=items) from err
        options.check()
        return options

    def check(self) -> None:
        """Raise what pydantic's types cannot say."""
        if self.config is not None and self.config_id is not None:
            raise InvalidRequestError(
                "give config or config_id, not both",
                errors=[{"loc": ["config_id"], "msg": "config is given as well"}],
            )
        for position, name in enumerate(self.outputs):
            if name not in OUTPUTS:
                msg = f"unknown output {name[:100]!r}; known are {', '.join(OUTPUTS)}"
                raise UnknownOutputError(msg, errors=[{"loc": ["outputs", position], "msg": msg}])


DEFAULT_OPTIONS = RequestOptions()

Ids = Sequence[str | int]
Column = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False)
class Batch:
    """Logits and targets as they came, still unchecked against a configuration.

    Args:
        logits: float16, bfloat16 (of ml_dtypes), float32 or float64; softmax (N, C), sigmoid (N,), (N, 1) or (N, L).
        targets: (N,) integers, or (N, L) in sigmoid mode.
        ids: One string or integer per example, or None.
        attributes: One value per example under each name, for a run to keep; None where there are none.
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


@dataclass(frozen=True)
class Hard:
    """One of the hardest examples of a request; `log_loss` orders them where the loss itself underflows."""

    batch: int
    index: int
    id: str | int | None
    loss: np.floating[Any]
    contribution: np.floating[Any]
    log_loss: float


@dataclass(frozen=True)
class Excluded:
    """A row that `on_invalid: "exclude"` left out, and why."""

    batch: int
    index: int
    id: str | int | None
    code: str
    msg: str


@dataclass(frozen=True, eq=False)
class BatchResult:
    """The loss of one batch and what each example adds to it.

    Args:
        loss: The reduced loss, or None (`none`, or a mean over nothing).
        loss_sum: Sum of the unreduced losses, float64.
        alpha_sum: Sum of alpha_t over the examples that count.
        num_examples: Rows in the batch, ignored and excluded ones included.
        num_ignored: Rows whose target is `ignore_index`.
        num_excluded: Invalid rows left out on request.
        per_example: (N,) float32 (float64 for float64 logits) for each output, NaN for null; `prediction` int64,
            -1 for null, in sigmoid mode with L > 1 labels (N, L).
        ids: As sent.
    """

    loss: float | None
    loss_sum: float
    alpha_sum: float
    num_examples: int
    num_ignored: int
    num_excluded: int
    per_example: dict[str, Column]
    ids: Ids | None = None


@dataclass(frozen=True, eq=False)
class LossResult:
    """The answer to a loss request, before any format."""

    config_id: str
    device: str
    loss: float | None
    num_examples: int
    num_ignored: int
    num_excluded: int
    batches: tuple[BatchResult, ...]
    hardest: tuple[Hard, ...] = ()
    excluded: tuple[Excluded, ...] = ()


def divisor(reduction: Reduction, alpha_sum: float, num_counted: int) -> float:
    """What a sum of losses is divided by (contract section 1); 0 for a mean over nothing."""
    return {"mean": num_counted, "weighted_mean": alpha_sum}.get(reduction, 1)


def reduced(reduction: Reduction, loss_sum: float, alpha_sum: float, num_counted: int) -> float | None:
    """The loss of many examples; None for `none`, and for a mean over nothing."""
    by = divisor(reduction, alpha_sum, num_counted)
    return None if reduction == "none" or by == 0 else loss_sum / by
