"""The result of a batch from its scores: sums, the reduced loss, contributions."""

from __future__ import annotations

import numpy as np

from service.compute.elements import Elements
from service.compute.scoring import BatchScores
from service.schema.config import Reduction
from service.schema.request import REGIONS, Batch, Column, RequestOptions
from service.schema.result import BatchResult, denominator, divided_by, reduced
from service.schema.structure import DivisorName


# A loss beyond the range of float32 becomes inf in a float32 column (IEEE 754); the sums are float64.
@np.errstate(over="ignore")
def reduce_batch(
    reduction: Reduction,
    divisor: DivisorName | float,
    options: RequestOptions,
    batch: Batch,
    elements: Elements,
    scores: BatchScores,
) -> tuple[BatchResult, dict[str, Column]]:
    """The result of a batch, and the columns of its examples: `loss`, `contribution`, and the outputs.

    Args:
        reduction: Reduction of the configuration.
        divisor: Divisor of the request.
        options: Options of the request.
        batch: The batch as received.
        elements: Its elements.
        scores: Their scores.
    """
    examples, excluded = scores.examples, scores.invalid.example
    num_counted = int(np.count_nonzero(examples.num_valid))
    num_elements = num_counted if elements.is_plain else int(examples.num_valid.sum())
    own = _own_divisor(reduction, divisor, elements, scores)
    loss, alpha = examples.loss_sum, examples.alpha_sum
    if own is not None:
        loss, alpha = loss / own, alpha / own
    loss_sum, alpha_sum = float(loss.sum()), float(alpha.sum())
    count = divided_by(divisor, num_counted, num_elements)
    by = denominator(reduction, alpha_sum, count) or 1
    dtype = np.float64 if elements.logits.dtype == np.float64 else np.float32
    columns: dict[str, Column] = {
        "loss": examples.loss.astype(dtype),
        "contribution": (loss / by).astype(dtype),
    }
    if "num_valid" in options.outputs:
        columns["num_valid"] = examples.num_valid.astype(np.int64)
    for name, values in examples.outputs.items():
        columns[name] = values if name == "prediction" else values.astype(dtype)
    per_element = {}
    if scores.elements is not None:
        if not elements.is_plain and "prediction" in options.outputs:
            columns["prediction"] = scores.elements.prediction(excluded)
        of_example = np.full(elements.num_examples, by) if own is None else own * by
        per_element = scores.elements.columns(options.elements, excluded, of_example)
    result = BatchResult(
        loss=reduced(reduction, loss_sum, alpha_sum, count),
        loss_sum=loss_sum,
        alpha_sum=alpha_sum,
        num_examples=elements.num_examples,
        num_ignored=elements.num_examples - num_counted - len(excluded),
        num_excluded=len(excluded),
        per_example={name: columns[name] for name in options.outputs if name != REGIONS},
        ids=batch.ids,
        num_elements=num_elements,
        per_element=per_element,
        offsets=elements.offsets,
        regions=None if scores.regions is None else scores.regions.regions(excluded),
    )
    return result, columns


def _own_divisor(
    reduction: Reduction, divisor: DivisorName | float, elements: Elements, scores: BatchScores
) -> Column | None:
    """(N,) number that the losses of an example's elements are divided by; None where it is 1 for all."""
    if elements.is_plain or not counts_own(reduction, divisor):
        return None
    number = scores.examples.num_valid if divisor == "examples" else scores.examples.num_positive
    assert number is not None
    return np.maximum(1, number)


def counts_own(reduction: Reduction, divisor: DivisorName | float) -> bool:
    """True if the losses of an example's elements are divided by a number of them."""
    return divisor in ("examples", "positives") and reduction in ("mean", "weighted_mean")
