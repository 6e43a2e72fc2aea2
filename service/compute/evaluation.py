"""Evaluates loss requests batch by batch: limits, checks, scores, totals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from service.compute.aggregation import ExampleScores
from service.compute.device import Device
from service.compute.elements import Elements
from service.compute.invalid import InvalidExamples, invalid_element_error, invalid_examples_error
from service.compute.reduction import counts_own, reduce_batch
from service.compute.regions import check_regions
from service.compute.scoring import score_batch
from service.compute.shapes import elements_of
from service.errors import InvalidIdsError, InvalidRequestError, TooManyElementsError, TooManyExamplesError
from service.formats.input_checks import input_warning, unlikely_logits
from service.loss.focal import FocalLoss
from service.schema.config import LossConfig
from service.schema.faults import fault
from service.schema.request import Batch, Column, LossRequest, RequestOptions
from service.schema.result import EXCLUDED_LISTED, BatchResult, Excluded, HardExample, LossResult, Totals
from service.schema.structure import divisor_of


@dataclass(frozen=True)
class Limits:
    """Limits of a request's size.

    Args:
        max_elements: Largest number of logits in one batch, and of its targets.
        max_examples: Largest number of examples in one request.
    """

    max_elements: int
    max_examples: int


def evaluate(
    device: Device, module: FocalLoss, request: LossRequest, limits: Limits, *, unique_ids: bool = False
) -> LossResult:
    """Check the limits, shapes and ids of all batches of a request, then compute it.

    Args:
        device: Device to compute on.
        module: The configured loss, on this device.
        request: The decoded request, unchecked.
        limits: Limits of the request's size.
        unique_ids: True to skip the check that its ids are unique.

    Raises:
        TooManyExamplesError: The request has more rows than the limit.
        InvalidIdsError: An id occurs twice.
        Also the errors of `Evaluation.add`.
    """
    evaluation = Evaluation(device, module, request.options, limits)
    checked = evaluation.elements_of_all(request.batches)
    if not unique_ids:
        check_ids(request.batches)
    return evaluation.result_of_all(request.batches, checked)


class Evaluation:
    """Computes a request batch by batch; its memory does not grow with the number of batches.

    Args:
        device: Device to compute on.
        module: The configured loss, on this device.
        options: Options of the request.
        limits: Limits of a batch's size.
    """

    def __init__(self, device: Device, module: FocalLoss, options: RequestOptions, limits: Limits) -> None:
        self._device = device
        self._module = module
        self._options = options
        self._limits = limits
        self._divisor = divisor_of(options.layout, options.divisor)
        _check_options(module.config, options)
        config = module.config
        self._totals = Totals(config.reduction, options.top_k, config.config_id, device.name, self._divisor)

    def elements_of_all(self, batches: Sequence[Batch]) -> list[Elements]:
        """Check the sizes and the shapes of all batches of a request; see `add` for further errors.

        Raises:
            TooManyExamplesError: The request has more rows than the limit.
        """
        total, limit = sum(batch.num_examples for batch in batches), self._limits.max_examples
        if total > limit:
            what = "rows" if self._options.layout == "rows" else "examples"
            raise TooManyExamplesError(f"the request has {total} {what}, the limit is {limit} (max_examples)")
        return [self.elements_of(number, batch) for number, batch in enumerate(batches)]

    def result_of_all(self, batches: Sequence[Batch], checked: Sequence[Elements]) -> LossResult:
        """Compute all batches of a request, whose elements are checked; see `add` for the errors."""
        results = tuple(map(self.add_elements, batches, checked))
        check_regions(results)
        return self.result(results)

    def add(self, batch: Batch) -> BatchResult:
        """Compute the next batch. `check_ids` checks that its ids are unique.

        Raises:
            TooManyElementsError: The batch is larger than the limit.
            ShapeError: Shapes or lengths do not match each other, the layout or the configuration.
            InvalidLogitError: A logit is invalid, and `on_invalid` is `error`; names batch, example, element, class and
                value.
            InvalidTargetError: The same for a target.
            TooManyRegionsError: The batch has more regions than a reply can hold.
            DeviceOutOfMemoryError: Not even one element fits into memory.
        """
        return self.add_elements(batch, self.elements_of(self._totals.num_batches, batch))

    def elements_of(self, number: int, batch: Batch) -> Elements:
        """Check the size and the shapes of a batch; see `add` for the errors."""
        for part, values in (("logits", batch.logits), ("targets", batch.targets)):
            if values.size > self._limits.max_elements:
                limit = f"the limit is {self._limits.max_elements} (max_elements)"
                raise TooManyElementsError(f"batch {number} has {values.size} {part}, {limit}")
        return elements_of(self._module.config, self._options, number, batch)

    def add_elements(self, batch: Batch, elements: Elements) -> BatchResult:
        """`add` for the checked elements of the batch."""
        number, config, options = self._totals.num_batches, self._module.config, self._options
        count_positive = self._divisor == "positives" and counts_own(config.reduction, self._divisor)
        scores = score_batch(self._device, self._module, options, elements, count_positive=count_positive)
        invalid = scores.invalid
        if len(invalid.example) and options.on_invalid == "error":
            raise invalid_examples_error(config, number, elements, invalid)
        result, columns = reduce_batch(config.reduction, self._divisor, options, batch, elements, scores)
        code = None if elements.statistics is not None else unlikely_logits(elements.logits, config.mode)
        if code is not None:
            result = replace(result, warnings=(input_warning(number, code, config.mode),))
        hardest = _hardest(number, batch, scores.examples, columns, options.top_k)
        excluded = self._excluded(batch, elements, invalid) if len(invalid.example) else ()
        self._totals.add(result, hardest, excluded)
        return result

    def _excluded(self, batch: Batch, elements: Elements, invalid: InvalidExamples) -> list[Excluded]:
        """Those of the excluded examples of a batch that are listed."""
        number = self._totals.num_batches
        listed = EXCLUDED_LISTED - len(self._totals.excluded)
        excluded = []
        for example, position in zip(
            invalid.example[:listed].tolist(), invalid.position[:listed].tolist(), strict=True
        ):
            error = invalid_element_error(self._module.config, number, elements, example, position)
            excluded.append(Excluded(number, example, _id(batch, example), error.code, error.detail))
        return excluded

    def result(self, batches: tuple[BatchResult, ...] = ()) -> LossResult:
        """The result of the request so far: the totals, and these batches."""
        return self._totals.result(batches)


def _id(batch: Batch, row: int) -> str | int | None:
    return batch.ids[row] if batch.ids is not None else None


def _check_options(config: LossConfig, options: RequestOptions) -> None:
    """Raise for options that do not fit each other or the configuration."""
    if options.layout != "rows" and "prediction" in options.outputs:
        place, detail = options.outputs.index("prediction"), 'ask for elements: ["prediction"]'
        msg = f"an example of the layout {options.layout} has no prediction"
        raise fault(InvalidRequestError, msg, "outputs", place, detail=f"{msg}; {detail}")
    if config.mode == "sigmoid" and options.num_classes is not None:
        raise fault(InvalidRequestError, "num_classes is for softmax mode", "num_classes")
    if config.reduction == "weighted_mean" and isinstance(options.divisor, float):
        msg = "weighted_mean divides by the sum of alpha_t, not by a number"
        raise fault(InvalidRequestError, msg, "divisor")


def check_ids(batches: Sequence[Batch], first: int = 0) -> None:
    """Check that all ids of these batches are unique.

    Args:
        batches: Batches of one request.
        first: Number of the first of these batches in the request.

    Raises:
        InvalidIdsError: An id occurs twice; names both places.
    """
    ids = [example_id for batch in batches for example_id in batch.ids or ()]
    if len(set(ids)) == len(ids):
        return
    seen: dict[str | int, tuple[int, int]] = {}
    for number, batch in enumerate(batches, start=first):
        for row, example_id in enumerate(batch.ids or ()):
            earlier = seen.setdefault(example_id, (number, row))
            if earlier != (number, row):
                msg = f"id {str(example_id)[:100]!r} is already the id of batch {earlier[0]}, row {earlier[1]}"
                raise fault(InvalidIdsError, msg, "ids", batch=number, row=row)


def _hardest(
    number: int, batch: Batch, scores: ExampleScores, columns: dict[str, Column], top_k: int
) -> list[HardExample]:
    """The k hardest examples of a batch among those that count, by the logarithm of the loss, then by position."""
    log_loss = scores.log_loss
    if not top_k or log_loss is None:
        return []
    rows = scores.num_valid.nonzero()[0]
    if len(rows) > top_k:
        smallest = np.partition(log_loss[rows], -top_k)[-top_k]
        rows = rows[log_loss[rows] >= smallest]
    rows = rows[np.argsort(-log_loss[rows], kind="stable")][:top_k]
    loss, contribution = columns["loss"], columns["contribution"]
    return [
        HardExample(number, row, _id(batch, row), loss[row], contribution[row], float(log_loss[row]))
        for row in rows.tolist()
    ]
