"""Scores adjusted for how often the model predicts each class: `adjusted_margin` and `adjusted_self_confidence`.

A model gives a frequent class high probabilities, also in rows that are truly of a rare one. The adjusted logits are
the log-probabilities less the logarithm of the mean probability of their class in the epoch. The idea is that of
Northcutt, Jiang & Chuang 2021 (arXiv 1911.00068), who subtract means over the rows labelled with the class.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from service.diagnostics.chunks import Chunk, Chunks, Floats, Integers, ProbabilitySums, log_softmax, softmax
from service.diagnostics.rows import chunks_of, placed_chunks
from service.queries.view import View

# The means are sums of multiples of 2^-52, so that they do not depend on the chunks; smaller ones have no digits.
LEAST_MEAN = 2.0**-52
SCHEMA = pa.schema(
    [
        pa.field("batch", pa.string()),
        pa.field("row", pa.int32()),
        pa.field("adjusted_margin", pa.float64()),
        pa.field("adjusted_log_odds", pa.float64()),
        pa.field("adjusted_suggested", pa.int32()),
        pa.field("adjusted_suggested_p", pa.float64()),
    ]
)


def adjusted_scores(view: View, epoch: int) -> str:
    """Subquery with the columns of `SCHEMA`: a row for each example of an epoch that stores its logits.

    - adjusted_margin: the adjusted logit of the target less the largest other one;
    - adjusted_log_odds: the log-odds of the target under the softmax of the adjusted logits, whose probability is the
      adjusted self-confidence;
    - adjusted_suggested, adjusted_suggested_p: the class of the largest adjusted logit, null if it is the target, and
      the probability that the model gives it.
    """
    return view.score_file("adjusted", epoch, SCHEMA, lambda: _batches(view, epoch))


def _batches(view: View, epoch: int) -> Iterator[pa.RecordBatch]:
    means = class_means(chunks_of(view, epoch), view.snapshot.num_classes or 2)
    for places, chunk in placed_chunks(view, epoch):
        margin, log_odds, suggested = adjusted(chunk, means)
        p = softmax(chunk.logits)[np.arange(len(suggested)), suggested]
        agrees = suggested == chunk.targets
        columns = [
            *(places[name] for name in ("batch", "row")),
            margin,
            log_odds,
            pa.array(suggested.astype(np.int32), mask=agrees),
            pa.array(p, mask=agrees),
        ]
        yield pa.record_batch(columns, SCHEMA)


def class_means(chunks: Chunks, num_classes: int) -> Floats:
    """(C,) float64, the mean probability of each class, at least 2^-52; independent of order and size of the chunks.

    Args:
        chunks: Starts a pass over the rows.
        num_classes: C.
    """
    sums = ProbabilitySums(num_classes)
    for chunk in chunks():
        sums.add_rows(softmax(chunk.logits))
    return np.maximum(sums.means(empty=1.0), LEAST_MEAN)


def adjusted(chunk: Chunk, means: Floats) -> tuple[Floats, Floats, Integers]:
    """The adjusted margin and log-odds of the target of each row, and the class of its largest adjusted logit.

    Args:
        chunk: n rows.
        means: Result of `class_means`.

    Returns:
        (n,) float64, infinite if all other classes are masked; (n,) float64, likewise; and (n,) int64.
    """
    rows = np.arange(len(chunk.targets))
    logits = log_softmax(chunk.logits) - np.log(means)
    suggested: Integers = logits.argmax(axis=1)
    target = logits[rows, chunk.targets]
    logits[rows, chunk.targets] = -np.inf
    largest = logits.max(axis=1)
    # If all other classes are masked, any finite number stands for their largest logit.
    finite = np.where(np.isfinite(largest), largest, 0.0)
    with np.errstate(divide="ignore"):
        others = finite + np.log(np.exp(logits - finite[:, None]).sum(axis=1))
    return target - largest, target - others, suggested
