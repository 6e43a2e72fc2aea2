"""The result of a loss request, independent of the format, and the totals of many batches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

from service.schema.config import Reduction
from service.schema.request import Column, Ids
from service.schema.structure import DivisorName, Regions

WarningCode = Literal["probabilities_as_logits", "log_probabilities_as_logits"]
# Excluded rows that a result lists; the counts include the others.
EXCLUDED_LISTED = 1000


@dataclass(frozen=True)
class HardExample:
    """One of the hardest examples.

    Args:
        batch: Number of its batch in the request (of a stream: in the stream).
        index: Its row in that batch.
        id: Id of the example, or None.
        loss: Unreduced focal loss. In the service it is a NumPy float of the batch's dtype, for the digits in JSON.
        contribution: Its part of the loss of its batch; a NumPy float as `loss`.
        log_loss: Logarithm of the loss, which orders losses that underflow; None if unknown.
    """

    batch: int
    index: int
    id: str | int | None
    loss: float
    contribution: float
    log_loss: float | None = None


@dataclass(frozen=True)
class Excluded:
    """A row that `on_invalid: "exclude"` left out; `code` and `msg` are those of the error."""

    batch: int
    index: int
    id: str | int | None
    code: str
    msg: str


@dataclass(frozen=True)
class LossWarning:
    """A sign that the input is not what it should be; the losses are computed as if it were.

    Args:
        batch: Number of the first batch in the request (of a stream: in the stream) that has the sign.
        code: Stable name.
        message: Explanation in sentences.
    """

    batch: int
    code: WarningCode
    message: str


@dataclass(frozen=True, eq=False)
class BatchResult:
    """The loss of one batch and the contribution of each example.

    Args:
        loss: The reduced loss; None with reduction `none` and for a mean over nothing.
        loss_sum: Sum of the losses of the examples, float64: of each the sum of the losses of its elements, divided as
            the divisor says (see `divided_by`).
        alpha_sum: The same sum of alpha_t, float64.
        num_examples: Examples in the batch, ignored and excluded ones included.
        num_ignored: Examples without an element that counts: all targets are `ignore_index`, or there are none.
        num_excluded: Invalid examples that `on_invalid: "exclude"` left out.
        per_example: (N,) float32 (float64 for float64 logits) for each output, NaN for null; `prediction` int64,
            -1 for null, in sigmoid mode with L > 1 labels (N, L); `num_valid` int64.
        ids: Ids of the examples, or None.
        warnings: Signs that the input is not what it should be.
        num_elements: Elements that are neither ignored nor excluded.
        per_element: Outputs of the elements, shaped like the targets of the request; values as in `per_example`.
        offsets: (N + 1,) int64, first element of each example; of the layout `ragged` only.
        regions: Regions of the examples, or None.
    """

    loss: float | None
    loss_sum: float
    alpha_sum: float
    num_examples: int
    num_ignored: int
    num_excluded: int
    per_example: dict[str, Column]
    ids: Ids | None = None
    warnings: tuple[LossWarning, ...] = ()
    num_elements: int = 0
    per_element: dict[str, Column] = field(default_factory=dict)
    offsets: Column | None = None
    regions: Regions | None = None


@dataclass(frozen=True, eq=False)
class LossResult:
    """The loss of a request and of each of its batches, and the contribution of each example.

    Args:
        config_id: Id of the configuration.
        device: The device that computed it, e.g. `cpu` or `cuda:0`.
        loss: Over all examples of all batches; None with reduction `none` and for a mean over nothing.
        num_examples: Examples, ignored and excluded ones included.
        num_ignored: Examples without an element that counts.
        num_excluded: Invalid examples that `on_invalid: "exclude"` left out.
        batches: Results of the batches, in the order of the request; empty in the totals of a stream.
        hardest: The `top_k` largest losses, the largest first.
        excluded: The first 1 000 excluded rows.
        warnings: The first warning of each code.
        num_elements: Elements that are neither ignored nor excluded.
    """

    config_id: str
    device: str
    loss: float | None
    num_examples: int
    num_ignored: int
    num_excluded: int
    batches: tuple[BatchResult, ...]
    hardest: tuple[HardExample, ...] = ()
    excluded: tuple[Excluded, ...] = ()
    warnings: tuple[LossWarning, ...] = ()
    num_elements: int = 0

    @cached_property
    def per_example(self) -> dict[str, Column]:
        """Each output over all batches in their order; of one batch without a copy."""
        if len(self.batches) == 1:
            return self.batches[0].per_example
        names = self.batches[0].per_example if self.batches else ()
        return {name: np.concatenate([batch.per_example[name] for batch in self.batches]) for name in names}

    def warns(self, code: WarningCode) -> bool:
        """True if there is a warning of this code."""
        return any(warning.code == code for warning in self.warnings)


@dataclass
class Totals:
    """Sums, hardest examples and excluded rows of the batches so far; its size does not grow with their number.

    Args:
        reduction: Reduction of the configuration.
        top_k: Number of hardest examples to keep.
        config_id: Id of the configuration.
        device: The device that computed the losses.
        divisor: Divisor of the requests; see `service.schema.structure.divisor_of`.
    """

    reduction: Reduction
    top_k: int
    config_id: str = ""
    device: str = ""
    divisor: DivisorName | float = "examples"
    num_batches: int = 0
    num_examples: int = 0
    num_ignored: int = 0
    num_excluded: int = 0
    num_elements: int = 0
    loss_sum: float = 0.0
    alpha_sum: float = 0.0
    hardest: list[HardExample] = field(default_factory=list)
    excluded: list[Excluded] = field(default_factory=list)
    warnings: dict[WarningCode, LossWarning] = field(default_factory=dict)

    @property
    def denominator(self) -> float:
        """The number that the sum of losses is divided by; 0 for a mean over nothing."""
        return denominator(self.reduction, self.alpha_sum, self._count)

    @property
    def loss(self) -> float | None:
        """The reduced loss of all examples; None with reduction `none` and for a mean over nothing."""
        return reduced(self.reduction, self.loss_sum, self.alpha_sum, self._count)

    @property
    def _count(self) -> float:
        return divided_by(self.divisor, self.num_examples - self.num_ignored - self.num_excluded, self.num_elements)

    def add(self, batch: BatchResult, hardest: Iterable[HardExample] = (), excluded: Iterable[Excluded] = ()) -> None:
        """Add the next batch, its hardest examples and its excluded rows, both numbered as batch `num_batches`."""
        for warning in batch.warnings:
            self.warnings.setdefault(warning.code, replace(warning, batch=self.num_batches))
        self.num_batches += 1
        self.num_examples += batch.num_examples
        self.num_ignored += batch.num_ignored
        self.num_excluded += batch.num_excluded
        self.num_elements += batch.num_elements
        self.loss_sum += batch.loss_sum
        self.alpha_sum += batch.alpha_sum
        self._add_rows(hardest, excluded)

    def add_result(self, result: LossResult) -> None:
        """Add the batches of the next request of a stream; their numbers continue those of the batches so far."""
        first = self.num_batches
        self.config_id, self.device = result.config_id, result.device
        for batch in result.batches:
            self.add(batch)
        self._add_rows(
            (replace(hard, batch=hard.batch + first) for hard in result.hardest),
            (_renumbered(row, row.batch + first) for row in result.excluded),
        )

    def _add_rows(self, hardest: Iterable[HardExample], excluded: Iterable[Excluded]) -> None:
        self.hardest += hardest
        # Stable: examples of equal loss stay in the order of their batches and rows.
        self.hardest.sort(key=lambda hard: -(hard.loss if hard.log_loss is None else hard.log_loss))
        del self.hardest[self.top_k :]
        self.excluded += excluded
        del self.excluded[EXCLUDED_LISTED:]

    def result(self, batches: tuple[BatchResult, ...] = ()) -> LossResult:
        """The totals as the result of one request with these batches."""
        return LossResult(
            config_id=self.config_id,
            device=self.device,
            loss=self.loss,
            num_examples=self.num_examples,
            num_ignored=self.num_ignored,
            num_excluded=self.num_excluded,
            batches=batches,
            hardest=tuple(self.hardest),
            excluded=tuple(self.excluded),
            warnings=tuple(self.warnings.values()),
            num_elements=self.num_elements,
        )


def _renumbered(row: Excluded, batch: int) -> Excluded:
    """The row with another number of its batch, also in the message."""
    return replace(row, batch=batch, msg=row.msg.replace(f"batch {row.batch},", f"batch {batch},", 1))


def divided_by(divisor: DivisorName | float, num_counted: int, num_elements: int) -> float:
    """The number that `mean` divides the sum of losses by.

    Args:
        divisor: `examples` and `positives` (the loss of an example is already divided by its own elements), `elements`,
            or the number itself.
        num_counted: Number of examples that are neither ignored nor excluded.
        num_elements: Number of elements that are neither.
    """
    if not isinstance(divisor, str):
        return divisor
    return num_elements if divisor == "elements" else num_counted


def denominator(reduction: Reduction, alpha_sum: float, count: float) -> float:
    """The number that a reduction divides the sum of losses by; 0 for a mean over nothing.

    Args:
        reduction: Reduction of the configuration.
        alpha_sum: Sum of alpha_t.
        count: See `divided_by`; without a divisor, the number of losses.
    """
    return {"mean": count, "weighted_mean": alpha_sum}.get(reduction, 1)


def reduced(reduction: Reduction, loss_sum: float, alpha_sum: float, count: float) -> float | None:
    """The reduced loss; None with reduction `none` and for a mean over nothing."""
    by = denominator(reduction, alpha_sum, count)
    return None if reduction == "none" or by == 0 else loss_sum / by
