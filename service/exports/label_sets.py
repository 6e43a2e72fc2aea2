"""The labels of an example that may have several."""

from __future__ import annotations

import numpy as np

from service.exports.rows import ExportOptions, ExportRow


def predicted_labels(row: ExportRow, options: ExportOptions) -> list[tuple[str, float | None]]:
    """The labels that the model predicts, with their probabilities; None for a label whose target is ignored."""
    elements = None if row.elements is None else row.elements.all
    if elements is None:
        return []
    places = np.flatnonzero(elements.predictions == 1)
    # log_odds is that of the target, so the logit of a predicted label is its absolute value.
    p = 1 / (1 + np.exp(-np.abs(elements.log_odds[places].astype(np.float64))))
    known = elements.targets[places] >= 0
    return [
        (options.name_of(place), value if is_known else None)
        for place, value, is_known in zip(places.tolist(), p.tolist(), known.tolist(), strict=True)
    ]


def given_labels(row: ExportRow, options: ExportOptions) -> list[str]:
    """The labels that the example was given."""
    elements = None if row.elements is None else row.elements.all
    places = [] if elements is None else np.flatnonzero(elements.targets == 1).tolist()
    return [options.name_of(place) for place in places]
