"""The diagnostics of one epoch of a run: numbers, and warnings in plain words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

from service.diagnostics.calibration import calibration
from service.diagnostics.classes import class_table, confusion, suggested_alpha
from service.diagnostics.concentration import concentration, histogram
from service.diagnostics.label_errors import ConfidentLearning, confident_learning
from service.diagnostics.rows import chunks_of
from service.diagnostics.warnings import warnings
from service.errors import InvalidRequestError
from service.runs.queries import View, Weighting
from service.schema.result import reduced

PAIRS_NAMED = 100


def diagnostics(view: View, weighting: Weighting, epoch: int, fields: Sequence[str] | None = None) -> dict[str, Any]:
    """What `GET /runs/{run}/diagnostics` says; see the README for what each number means.

    Args:
        view: Of the run.
        weighting: For the losses: the run's own, or what if.
        epoch: Of the rows.
        fields: The `FIELDS` to compute; default: all. What says which rows these are is always there.

    Raises:
        InvalidRequestError: A field that is not known; lists the known.
    """
    unknown = next((name for name in fields or () if name not in FIELDS), None)
    if unknown is not None:
        msg = f"unknown field {unknown[:100]!r}; known are {', '.join(FIELDS)}"
        raise InvalidRequestError(msg, errors=[{"loc": ["query", "fields"], "msg": msg}])
    asked = _Epoch(view, weighting, epoch)
    # The warnings are about all the others.
    wanted = FIELDS if fields is None or "warnings" in fields else fields
    found = asked.head() | {name: asked.field(name) for name in FIELDS if name in wanted and name != "warnings"}
    if "warnings" in wanted:
        found["warnings"] = warnings(view, found)
    return found if fields is None else {name: found[name] for name in found if name not in FIELDS or name in fields}


class _Epoch:
    """The rows of an epoch under a loss; each field is computed once while they stay as they are."""

    def __init__(self, view: View, weighting: Weighting, epoch: int) -> None:
        self._view, self._weighting, self._epoch = view, weighting, epoch
        self._files = [one.footer for one in view.snapshot.data if one.epoch == epoch]
        self._has_logits = view.snapshot.description.store_logits and bool(self._files)

    def head(self) -> dict[str, Any]:
        snapshot, weighting = self._view.snapshot, self._weighting
        return {
            "run": snapshot.name,
            "epoch": self._epoch,
            "epochs": snapshot.epochs,
            "num_examples": snapshot.rows(self._epoch),
            "num_ignored": sum(footer.num_ignored for footer in self._files),
            "num_excluded": sum(footer.num_excluded for footer in self._files),
            "num_classes": snapshot.num_classes,
            "alpha": None if weighting.alpha is None else list(weighting.alpha),
            "gamma": weighting.gamma,
        }

    def field(self, name: str) -> Any:
        weighting = self._weighting if name in OF_THE_LOSS else None
        return self._view.cached(("diagnostics", self._epoch, name, weighting), lambda: _FIELDS[name](self))

    @cached_property
    def _learned(self) -> ConfidentLearning | None:
        """For this request alone: of many classes it is large."""
        if not self._has_logits:
            return None
        return confident_learning(chunks_of(self._view, self._epoch), self._view.snapshot.num_classes or 2)

    def num_duplicates(self) -> int:
        return _duplicates(self._view, self._epoch)

    def loss(self) -> dict[str, Any]:
        return _loss(self._view, self._weighting, self._epoch)

    def classes(self) -> list[dict[str, Any]]:
        table, learned = class_table(self._view, self._weighting, self._epoch), self._learned
        if learned is not None:
            _add_noise(table, learned)
        return table

    def confusion(self) -> dict[str, Any]:
        return confusion(self._view, self._epoch)

    def class_pairs(self) -> list[dict[str, Any]] | None:
        learned = self._learned
        return None if learned is None else [asdict(one) for one in learned.overlapping_classes(PAIRS_NAMED)]

    def histogram(self) -> dict[str, Any]:
        return histogram(self._view, self._weighting, self._epoch)

    def concentration(self) -> dict[str, Any]:
        return concentration(self._view, self._weighting, self._epoch)

    def concentration_at_gamma_0(self) -> dict[str, Any]:
        return concentration(self._view, Weighting(self._weighting.alpha, 0.0), self._epoch)

    def calibration(self) -> dict[str, Any] | None:
        return asdict(calibration(chunks_of(self._view, self._epoch))) if self._has_logits else None

    def label_errors(self) -> dict[str, Any] | None:
        learned = self._learned
        return None if learned is None else _label_errors(learned)

    def suggested_alpha(self) -> Any:
        return suggested_alpha(self.field("classes"))


_FIELDS: dict[str, Callable[[_Epoch], Any]] = {
    "num_duplicates": _Epoch.num_duplicates,
    "loss": _Epoch.loss,
    "classes": _Epoch.classes,
    "confusion": _Epoch.confusion,
    "class_pairs": _Epoch.class_pairs,
    "histogram": _Epoch.histogram,
    "concentration": _Epoch.concentration,
    "concentration_at_gamma_0": _Epoch.concentration_at_gamma_0,
    "calibration": _Epoch.calibration,
    "label_errors": _Epoch.label_errors,
    "suggested_alpha": _Epoch.suggested_alpha,
}
FIELDS = (*_FIELDS, "warnings")
# These are others for another alpha or gamma.
OF_THE_LOSS = ("loss", "classes", "histogram", "concentration", "concentration_at_gamma_0", "suggested_alpha")


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
