"""Corrected labels of the examples that two runs have, from the reviews of both."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from service.diagnostics.chunks import Floats, Integers
from service.diagnostics.rows import CHUNK_LOGITS
from service.queries.view import View
from service.queries.weighting import Weighting
from service.runs.review_history import Standing, Verdicts
from service.runs.units import WHOLE
from service.schema.replies.gain import LeftOut

DECISIONS = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("label", pa.int32()),
        pa.field("of_before", pa.bool_()),
    ]
)
REASONS = tuple(LeftOut.__annotations__)


def decisions(before: Verdicts, after: Verdicts) -> pa.Table:
    """The decisions on the labels of the reviewed examples; a verdict of the second run wins.

    Returns:
        The columns of `DECISIONS`. `reason` is one of `REASONS`, or null if the example is compared. `label` is the
        right class; if it is null, the label of the run that has the verdict `ok` is right: of the first run if
        `of_before`.
    """
    rows: dict[str, tuple[str, str | None, int | None, bool]] = {}
    for verdicts, of_before in ((before, True), (after, False)):
        for key, standing in verdicts.items():
            # The verdict unsure changes nothing.
            if key.unit == WHOLE and standing.verdict != "unsure":
                rows[key.id] = (key.id, _reason(standing), standing.label, of_before)
    columns = list(zip(*rows.values(), strict=True)) or [()] * len(DECISIONS)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, DECISIONS, strict=True)]
    return pa.table(arrays, schema=DECISIONS)


def _reason(standing: Standing) -> str | None:
    if standing.verdict == "exclude":
        return "excluded"
    if standing.verdict == "wrong" and standing.label is None:
        return "wrong_without_label"
    return "conflict" if standing.verdict == "conflict" else None


def losses_of(view: View, epoch: int, weighting: Weighting, labels: str, num_classes: int) -> Iterator[pa.Table]:
    """Losses of examples under other labels than their own, from their logits.

    Args:
        view: The run.
        epoch: Epoch of the logits.
        weighting: Weighting of the losses.
        labels: Subquery of the ids and the labels, `label`.
        num_classes: Number of classes.

    Yields:
        Tables of `id` and `loss`, which is NaN for an example without stored logits.
    """
    sql = f"SELECT id, label, logits FROM {view.stored(epoch)} JOIN {labels} USING (id)"
    for rows in view.batches(sql, rows=max(1, CHUNK_LOGITS // num_classes)):
        stored = rows.column("logits").is_valid().to_numpy(zero_copy_only=False)
        losses = np.full(len(rows), np.nan)
        if stored.any():
            some = rows.filter(pa.array(stored))
            logits = some.column("logits").flatten().to_numpy().reshape(len(some), -1)
            losses[stored] = _losses(logits, some.column("label").to_numpy(), weighting)
        yield pa.table({"id": rows.column("id"), "loss": losses})


def _losses(logits: Floats, labels: Integers, weighting: Weighting) -> Floats:
    """(n,) focal losses of rows of logits (n, C) under labels (n,)."""
    rows = np.arange(len(labels))
    x = logits.astype(np.float64)
    of_label = x[rows, labels]
    x[rows, labels] = -np.inf
    largest = x.max(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        others = largest + np.log(np.exp(x - largest[:, None]).sum(axis=1))
    # A masked class has the logit -inf: without another class the label is certain, and a masked label impossible.
    z = np.where(np.isneginf(largest), np.inf, of_label - others).clip(-1e30, 1e30)
    alpha = 1.0 if weighting.alpha is None else np.array(weighting.alpha)[labels]
    return np.asarray(alpha * np.exp(-weighting.gamma * np.logaddexp(0, z)) * np.logaddexp(0, -z))
