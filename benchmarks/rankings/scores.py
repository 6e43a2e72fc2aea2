"""Scores of each strategy for rows with logits: the lowest is reviewed first."""

from __future__ import annotations

import numpy as np

from benchmarks.rankings.models import Floats, Labels
from service.diagnostics.adjusted import adjusted, class_means
from service.diagnostics.chunks import Chunk, log_softmax
from service.diagnostics.label_errors import confident_learning, suspected


def scores(logits: Floats, labels: Labels) -> dict[str, Floats]:
    """The scores of the strategies that need one epoch.

    Args:
        logits: (n, C) finite.
        labels: (n,) classes.
    """
    chunk, rows = Chunk(labels, logits), np.arange(len(labels))
    log_p = log_softmax(logits)
    p = np.exp(log_p)
    margin, log_odds, _ = adjusted(chunk, class_means(lambda: [chunk], logits.shape[1]))
    marked, _ = suspected(chunk, confident_learning(lambda: [chunk], logits.shape[1]))
    return {
        "logit_margin": margins(logits, labels),
        "self_confidence": log_p[rows, labels],
        "normalized_margin": margins(p, labels),
        "adjusted_margin": margin,
        "adjusted_self_confidence": log_odds,
        # The rows that it leaves out come after those that it ranks.
        "suspected_errors": p[rows, labels] - marked,
        "ambiguous": (p * log_p).sum(axis=1),
    }


def scores_of_epochs(logits: Floats, labels: Labels) -> dict[str, Floats]:
    """The same of the last epoch, and the area under the margin of all.

    Args:
        logits: (epochs, n, C) finite.
        labels: (n,) classes.
    """
    area = np.mean([margins(of_epoch, labels) for of_epoch in logits], axis=0)
    return {"area_under_margin": area, **scores(logits[-1], labels)}


def margins(values: Floats, labels: Labels) -> Floats:
    """(n,) the value of the label less the largest other one."""
    rows, others = np.arange(len(labels)), values.copy()
    others[rows, labels] = -np.inf
    result: Floats = values[rows, labels] - others.max(axis=1)
    return result


def ranks(values: Floats) -> Floats:
    """(n,) ranks from 0, equal values by row."""
    result = np.empty(len(values))
    result[np.argsort(values, kind="stable")] = np.arange(len(values))
    return result
