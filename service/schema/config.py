"""The configuration of a loss, and its `config_id`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
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

MAX_CLASSES = 2**19
WEIGHTS_AT_ONCE = 10_000
# Adding 0 turns -0 into 0: both are one value, and SQL reads the sign of the other as a comment.
WithoutSignOfZero = AfterValidator(lambda value: value + 0.0)

Mode = Literal["softmax", "sigmoid"]
Reduction = Literal["mean", "sum", "weighted_mean", "none"]


# An instance and each of its weights: the numbers, and a tensor.
INSTANCE_BYTES, WEIGHT_BYTES = 1024, 80


def memory_bytes(num_weights: int) -> int:
    """Approximate memory of a configuration with so many weights and of its instance on the device."""
    return INSTANCE_BYTES + WEIGHT_BYTES * num_weights


def as_tuple(value: object) -> object:
    """Convert a list to a tuple, which strict pydantic models require; other values are unchanged."""
    return tuple(value) if isinstance(value, list) else value


def _not_empty(values: tuple[float, ...]) -> tuple[float, ...]:
    # Not min_length: with fail_fast it counts only the values before the first bad one.
    if not values:
        raise ValueError("a list has at least 1 weight, got []")
    return values


def _alpha_kind(value: object) -> str:
    if isinstance(value, dict | ClassCounts):
        return "class_counts"
    return "per_class" if isinstance(value, list | tuple) else "single"


class ClassCounts(BaseModel):
    """Class weights derived from the number of examples of each class."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    class_counts: Annotated[
        tuple[Annotated[int, Field(lt=2**63)], ...],
        Field(fail_fast=True, max_length=MAX_CLASSES),
        BeforeValidator(as_tuple),
    ]
    scheme: Literal["inverse", "effective"] = "inverse"
    beta: Annotated[float, Field(ge=0, lt=1), WithoutSignOfZero] = 0.999

    @field_validator("class_counts")
    @classmethod
    def _check_counts(cls, counts: tuple[int, ...]) -> tuple[int, ...]:
        if len(counts) < 2:
            raise ValueError(f"at least 2 classes have counts, got {len(counts)}")
        for label, count in enumerate(counts):
            if count <= 0:
                raise ValueError(f"class {label} has count {count}: every class needs at least one example")
        return counts

    def weights(self) -> tuple[float, ...]:
        """One weight per class: `inverse` is sum(n) / n_c, `effective` is equation 2 of Cui et al. 2019.

        The effective weights are scaled so that their sum is the number of classes. They are computed in decimal, so
        that every machine gets the same bits and therefore the same `config_id`.
        """
        if self.scheme == "inverse":
            total = sum(self.class_counts)
            return tuple(total / count for count in self.class_counts)
        with localcontext() as context:
            context.prec = 50
            beta = Decimal(repr(self.beta))
            raw = {count: (1 - beta) / (1 - beta**count) for count in set(self.class_counts)}
            scale = len(self.class_counts) / sum(map(raw.__getitem__, self.class_counts), Decimal(0))
            weights = {count: float(weight * scale) for count, weight in raw.items()}
            return tuple(map(weights.__getitem__, self.class_counts))


SingleAlpha = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), WithoutSignOfZero, Tag("single")]
AlphaPerClass = Annotated[
    tuple[Annotated[float, Field(ge=0, allow_inf_nan=False), WithoutSignOfZero], ...],
    # The error names one bad weight: with all of them it could be larger than the request.
    Field(fail_fast=True, max_length=MAX_CLASSES),
    BeforeValidator(as_tuple),
    AfterValidator(_not_empty),
    Tag("per_class"),
]
Alpha = Annotated[SingleAlpha | AlphaPerClass | Annotated[ClassCounts, Tag("class_counts")], Discriminator(_alpha_kind)]


def _weights_as_json(weights: tuple[float, ...] | None) -> Iterator[bytes]:
    """The weights as a JSON list of hexadecimal floats, in parts; `null` for None."""
    if weights is None:
        yield b"null"
        return
    yield b"["
    for first in range(0, len(weights), WEIGHTS_AT_ONCE):
        part = weights[first : first + WEIGHTS_AT_ONCE]
        yield (b"," if first else b"") + ",".join(f'"{weight.hex()}"' for weight in part).encode()
    yield b"]"


def _complement(alpha: float) -> float:
    # In decimal, because 1 - 0.9 in binary is 0.09999999999999998, which would be another configuration than 0.1.
    return float(1 - Decimal(repr(alpha)))


class LossConfig(BaseModel):
    """The configuration of a focal loss; two spellings of the same configuration have the same `config_id`.

    Args:
        mode: `softmax` (one class per example) or `sigmoid` (independent labels).
        alpha: None (all weights 1), a number in [0, 1] (weight of the positive class, the other gets 1 - alpha),
            one weight >= 0 per class (sigmoid: one alpha in [0, 1] per label), or class counts (softmax).
        gamma: Focusing parameter >= 0 (Lin et al. 2017, equation 5); 0 is the weighted cross-entropy.
        reduction: `mean` over the examples that are not ignored, `sum`, `weighted_mean` (divisor: the sum of alpha_t),
            or `none`.
        ignore_index: Target of examples (sigmoid: of labels) that the loss ignores, or None.
        positive_class: The class whose weight a single alpha is.
        label_smoothing: Share of the target, in [0, 1), that is spread over all classes; softmax only.
        gamma_negative: Focusing parameter >= 0 of negative labels, None: gamma; sigmoid only (the asymmetric loss of
            Ridnik et al. 2021, arXiv:2009.14119).
        clip: In [0, 1): the probability of negative labels is lowered by it, to 0 at least; sigmoid only (the same).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    mode: Mode = "softmax"
    alpha: Alpha | None = None
    gamma: Annotated[float, Field(ge=0, allow_inf_nan=False), WithoutSignOfZero] = 2.0
    reduction: Reduction = "mean"
    ignore_index: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = -100
    positive_class: Annotated[int, Field(ge=0, le=1)] = 1
    label_smoothing: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False), WithoutSignOfZero] = 0.0
    gamma_negative: Annotated[float, Field(ge=0, allow_inf_nan=False), WithoutSignOfZero] | None = None
    clip: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False), WithoutSignOfZero] = 0.0

    @model_validator(mode="after")
    def _check_mode(self) -> LossConfig:
        if self.mode == "sigmoid":
            if self.label_smoothing:
                raise ValueError("label_smoothing is for softmax mode; in sigmoid mode send soft targets")
            if isinstance(self.alpha, ClassCounts):
                raise ValueError("class_counts are for softmax mode; in sigmoid mode give one alpha per label")
            if isinstance(self.alpha, tuple) and any(alpha > 1 for alpha in self.alpha):
                raise ValueError(f"in sigmoid mode each alpha lies in [0, 1], got {list(self.alpha)}")
        elif self.gamma_negative is not None or self.clip:
            name = "clip" if self.gamma_negative is None else "gamma_negative"
            raise ValueError(f"{name} is for sigmoid mode, which has negative labels")
        if isinstance(self.alpha, tuple) and self.mode == "softmax" and len(self.alpha) < 2:
            raise ValueError("softmax mode needs at least two classes, so a list alpha has at least two weights")
        return self

    @cached_property
    def weights(self) -> tuple[float, ...] | None:
        """The resolved alpha: softmax one weight per class, sigmoid the weight of positives per label."""
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
        """`fl_` and 16 hex digits: a hash of the meaning, the same on every machine and in every version 1.x."""
        others = {
            "alpha_for_any_label": self.mode == "sigmoid" and isinstance(self.alpha, float),
            "gamma": self.gamma.hex(),
            "ignore_index": self.ignore_index,
            "label_smoothing": self.label_smoothing.hex(),
            "mode": self.mode,
            "reduction": self.reduction,
        }
        # Only where they change the meaning: a configuration without them keeps its id of version 1.0.
        if self.gamma_negative not in (None, self.gamma):
            others["gamma_negative"] = self.gamma_negative.hex()
        if self.clip:
            others["clip"] = self.clip.hex()
        # JSON with sorted names, in parts: the text of a million weights takes more memory than the weights.
        digest = hashlib.sha256(b'{"alpha":')
        for part in _weights_as_json(self.weights):
            digest.update(part)
        digest.update(json.dumps(others, sort_keys=True, separators=(",", ":")).replace("{", ",", 1).encode())
        return "fl_" + digest.hexdigest()[:16]

    @classmethod
    def parse(cls, value: object) -> LossConfig:
        """Parse a decoded JSON object.

        Raises:
            InvalidConfigError: Unknown fields, wrong types or values out of range; names all of them.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as err:
            raise validation_fault(InvalidConfigError, err, "config") from err
