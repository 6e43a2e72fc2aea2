"""The configuration of a loss, and its `config_id`."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal, localcontext
from functools import cached_property
from typing import Annotated, Literal

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

from service.errors import InvalidConfigError
from service.schema.faults import validation_fault

Mode = Literal["softmax", "sigmoid"]
Reduction = Literal["mean", "sum", "weighted_mean", "none"]


def as_tuple(value: object) -> object:
    """A list as a tuple, since strict pydantic models take no list for one; other values unchanged."""
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
        tuple[Annotated[int, Field(lt=2**63)], ...], Field(fail_fast=True), BeforeValidator(as_tuple)
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
    BeforeValidator(as_tuple),
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
            raise validation_fault(InvalidConfigError, err, "config") from err
