"""The diagnostics of one epoch of a run: numbers, and warnings in plain words."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from service.diagnostics.calibration import calibration
from service.diagnostics.chunks import Chunks
from service.diagnostics.classes import class_table, confusion, suggested_alpha
from service.diagnostics.concentration import concentration, histogram
from service.diagnostics.label_errors import ConfidentLearning, confident_learning
from service.diagnostics.rows import chunks_of
from service.diagnostics.warnings import warnings
from service.messages import reduced
from service.runs.queries import View, Weighting

PAIRS_NAMED = 100


def diagnostics(view: View, weighting: Weighting, epoch: int) -> dict[str, Any]:
    """Everything that `GET /runs/{run}/diagnostics` says; see the README for what each number means.

    Args:
        view: Of the run.
        weighting: For the losses: the run's own, or what if.
        epoch: Of the rows.
    """
    snapshot = view.snapshot
    files = [one.footer for one in snapshot.data if one.epoch == epoch]
    table = class_table(view, weighting, epoch)
    with_logits = snapshot.description.store_logits and bool(files)
    chunks: Chunks | None = chunks_of(view, epoch) if with_logits else None
    learned = confident_learning(chunks, snapshot.num_classes or 2) if chunks else None
    if learned is not None:
        _add_noise(table, learned)
    found: dict[str, Any] = {
        "run": snapshot.name,
        "epoch": epoch,
        "epochs": snapshot.epochs,
        "num_examples": snapshot.rows(epoch),
        "num_ignored": sum(footer.num_ignored for footer in files),
        "num_excluded": sum(footer.num_excluded for footer in files),
        "num_duplicates": _duplicates(view, epoch),
        "num_classes": snapshot.num_classes,
        "alpha": None if weighting.alpha is None else list(weighting.alpha),
        "gamma": weighting.gamma,
        "loss": _loss(view, weighting, epoch),
        "classes": table,
        "confusion": confusion(view, epoch),
        "class_pairs": None if learned is None else [asdict(one) for one in learned.overlapping_classes(PAIRS_NAMED)],
        "histogram": histogram(view, weighting, epoch),
        "concentration": concentration(view, weighting, epoch),
        "concentration_at_gamma_0": concentration(view, Weighting(weighting.alpha, 0.0), epoch),
        "calibration": None if chunks is None else asdict(calibration(chunks)),
        "label_errors": None if learned is None else _label_errors(learned),
        "suggested_alpha": suggested_alpha(table),
    }
    found["warnings"] = warnings(view, found)
    return found


def _loss(view: View, weighting: Weighting, epoch: int) -> dict[str, Any]:
    found = view.row(
        f"""SELECT coalesce(sum(loss), 0.0) AS sum, coalesce(sum(alpha_t), 0.0) AS alpha_sum, count(*) AS n,
            avg(loss) AS mean, median(loss) AS median, max(loss) AS max, avg((prediction = target)::INTEGER) AS accuracy
            FROM {view.scored(weighting, epoch)}"""
    )
    reduction = view.snapshot.description.config.reduction
    value = reduced(reduction, found["sum"], found["alpha_sum"], found.pop("n"))
    return {"value": value, "reduction": reduction, **found}


def _duplicates(view: View, epoch: int) -> int:
    return int(view.row(f"SELECT count(*) - count(DISTINCT id) AS n FROM {view.stored(epoch)}")["n"])


def _add_noise(table: list[dict[str, Any]], learned: ConfidentLearning) -> None:
    columns = {
        "label_noise": learned.label_noise,
        "inverse_label_noise": learned.inverse_label_noise,
        "label_quality": learned.label_quality,
        "label_issues": learned.label_issues,
        "inverse_label_issues": learned.inverse_label_issues,
        "often_truly": learned.most_confused,
    }
    for label, row in enumerate(table):
        row.update({name: values[label].item() for name, values in columns.items()})
        row["often_truly"] = None if row["often_truly"] < 0 else row["often_truly"]


def _label_errors(learned: ConfidentLearning) -> dict[str, Any]:
    number = learned.num_examples
    return {
        "estimated": learned.num_label_issues_calibrated,
        "off_diagonal": learned.num_label_issues,
        "off_diagonal_calibrated": learned.num_label_issues_calibrated,
        "share": learned.num_label_issues_calibrated / number if number else None,
        "health": learned.health,
        "thresholds": [None if value > 1 else value for value in learned.thresholds.tolist()],
    }
