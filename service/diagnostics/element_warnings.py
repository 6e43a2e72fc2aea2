"""Warnings about the elements of a structured run, in plain words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.diagnostics.chunks import Floats
from service.diagnostics.classes import TABLE_CLASSES
from service.diagnostics.elements.run_chunks import reason_without_issues
from service.queries.view import View
from service.schema.replies.diagnostics import Diagnostics, DiagnosticsWarning
from service.schema.replies.element_diagnostics import ElementClass

SMALL_CLASS = 10
NAMED_CLASSES = 10
FALLS_WITH_FREQUENCY = -0.5


def small_classes(view: View, diagnostics: Diagnostics) -> DiagnosticsWarning | None:
    """Warn of classes with few elements, and of labels with few positive or few negative ones."""
    small = [row for row in diagnostics["elements"]["classes"] if _fewest(row) < SMALL_CLASS]
    if not small or not diagnostics["num_examples"]:
        return None
    names = first_classes([f"{_name(row)} ({_fewest(row)})" for row in small])
    kind, of_both = ("Labels", "positive or negative ") if _of_labels(view) else ("Classes", "")
    message = (
        f"{kind} with fewer than {SMALL_CLASS} {of_both}elements: {names}. Their thresholds and noise rates mean "
        "little."
    )
    return {"code": "small_classes", "message": message}


def first_classes(texts: Sequence[str]) -> str:
    """The texts of the first classes, and the number of the others."""
    more = len(texts) - NAMED_CLASSES
    return ", ".join(texts[:NAMED_CLASSES]) + (f" and {more} more" if more > 0 else "")


def many_classes(view: View, diagnostics: Diagnostics) -> DiagnosticsWarning | None:
    """Warn if the table of classes is not complete."""
    number = diagnostics["num_classes"] or 0
    if number <= TABLE_CLASSES:
        return None
    kind = "labels" if _of_labels(view) else "classes"
    message = f"The run has {number} {kind}: the table has the {TABLE_CLASSES} with the largest loss."
    return {"code": "many_classes", "message": message}


def without_issues(view: View, diagnostics: Diagnostics) -> DiagnosticsWarning | None:
    """Warn if the label issues of the elements cannot be found."""
    reason = reason_without_issues(view, diagnostics["epoch"])
    if reason is None:
        return None
    message = f"There are no label issues of elements and no suspected_errors queue: {reason}."
    return {"code": "no_logits", "message": message}


def weighted(view: View, diagnostics: Diagnostics) -> DiagnosticsWarning | None:
    """Warn of class weights, above all of weights that fall with the frequency of the classes."""
    if diagnostics["alpha"] is None or not diagnostics["num_examples"]:
        return None
    counts, weights, names = _weights_by_frequency(view, diagnostics)
    if len(set(weights.tolist())) < 2:
        return None
    most = int(counts.argmax())
    hides = view.snapshot.description.task == "masks" and weights[most] == weights.min()
    if not hides and rank_correlation(counts, weights) > FALLS_WITH_FREQUENCY:
        return {
            "code": "class_weights",
            "message": "With class weights the loss ranks elements of heavy classes first, whether their labels are "
            "wrong or not. Look for wrong labels with gamma alone: alpha=none.",
        }
    return {
        "code": "inverse_frequency_alpha",
        "message": f"alpha falls with the frequency of the classes: {names[most]}, the most frequent one, has the "
        f"weight {weights[most]:.3g}. The elements of a missed object or label belong to a frequent class, so these "
        "weights hide it, and the worst examples come last. Look for wrong labels with gamma alone: alpha=none.",
    }


def rank_correlation(first: Floats, second: Floats) -> float:
    """Spearman's rho of two series, equal values with their mean rank; 0 if all values of one are equal."""
    ranks = [_ranks(values) - (len(values) - 1) / 2 for values in (first, second)]
    size = float(np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
    return float((ranks[0] * ranks[1]).sum()) / size if size else 0.0


def _ranks(values: Floats) -> Floats:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (counts.cumsum() - (counts + 1) / 2)[places]
    return ranks


def _weights_by_frequency(view: View, diagnostics: Diagnostics) -> tuple[Floats, Floats, list[str]]:
    """Count, weight and name of each kind of elements that alpha weighs: classes, or labels and their targets."""
    alpha, rows = diagnostics["alpha"] or [], diagnostics["elements"]["classes"]
    kinds: list[tuple[int, float, str]] = []
    for row in rows:
        if _of_labels(view):
            positive, weight = row["num_positive"], alpha[row["class"] if len(alpha) > 1 else 0]
            kinds.append((positive, weight, f"present {_name(row)}"))
            kinds.append((row["count"] - positive, 1 - weight, f"absent {_name(row)}"))
        else:
            kinds.append((row["count"], alpha[row["class"]], f"class {_name(row)}"))
    present = [kind for kind in kinds if kind[0]]
    counts, weights, names = zip(*present, strict=True)
    return np.array(counts, np.float64), np.array(weights, np.float64), list(names)


def _fewest(row: ElementClass) -> int:
    positive = row.get("num_positive")
    return row["count"] if positive is None else min(positive, row["count"] - positive)


def _of_labels(view: View) -> bool:
    return view.snapshot.description.task == "multi_label"


def _name(row: ElementClass) -> str:
    return row["name"] or str(row["class"])
