"""The diagnostics of one epoch of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple, cast

from service.diagnostics.calibration import calibration
from service.diagnostics.classes import TABLE_CLASSES, class_table, confusion, suggested_alpha
from service.diagnostics.concentration import concentration, concentration_at_gamma_0, histogram
from service.diagnostics.element_summary import element_diagnostics
from service.diagnostics.label_errors import ConfidentLearning, confident_learning
from service.diagnostics.rows import chunks_of
from service.diagnostics.warnings import warnings
from service.errors import InvalidRequestError
from service.queries.view import View
from service.queries.weighting import Weighting
from service.schema.faults import unknown_fault
from service.schema.replies.diagnostics import (
    ClassPair,
    ClassStatistics,
    Diagnostics,
    LabelErrors,
    LossStatistics,
    SuggestedAlpha,
)
from service.schema.result import reduced

LARGEST_PAIRS = 100


def diagnostics(view: View, weighting: Weighting, epoch: int, fields: Sequence[str] | None = None) -> Diagnostics:
    """The reply of `GET /runs/{run}/diagnostics`.

    Args:
        view: The run.
        weighting: Weighting of the losses: the run's own, or another one (what if).
        epoch: Epoch of the rows.
        fields: Members of `FIELDS` to compute, default all. The other members are always present. A structured run has
            none of `ONE_CLASS`, another run no `elements`.

    Raises:
        InvalidRequestError: Unknown field; lists the known fields.
    """
    for name in fields or ():
        if name not in FIELDS:
            raise unknown_fault(InvalidRequestError, "field", name, FIELDS, "query", "fields")
    selected = FIELDS if fields is None else fields
    rows = _Epoch(view, weighting, epoch)
    # The warnings depend on all other members.
    needed = FIELDS if "warnings" in selected else selected
    without = ONE_CLASS if view.is_structured else {"elements"}
    reply = rows.header()
    names = [name for name in _MEMBERS if name in needed and name not in without]
    reply.update(cast("Diagnostics", {name: rows.member(name) for name in names}))
    if "warnings" in selected:
        reply["warnings"] = warnings(view, reply)
    members = {name: value for name, value in reply.items() if name not in FIELDS or name in selected}
    return cast("Diagnostics", members)


class _Epoch:
    """The rows of an epoch under a loss."""

    def __init__(self, view: View, weighting: Weighting, epoch: int) -> None:
        self.view, self.weighting, self.epoch = view, weighting, epoch
        self.has_many_classes = (view.snapshot.num_classes or 0) > TABLE_CLASSES
        self.has_logits = view.snapshot.has_logits(epoch) and epoch in view.snapshot.epochs

    def header(self) -> Diagnostics:
        """The members that are always present."""
        snapshot, alpha = self.view.snapshot, self.weighting.alpha
        counts = snapshot.counts(self.epoch)
        return {
            "run": snapshot.name,
            "epoch": self.epoch,
            "epochs": snapshot.epochs,
            "num_examples": self.view.num_examples(self.epoch),
            "num_ignored": counts.num_ignored,
            "num_excluded": counts.num_excluded,
            "num_classes": snapshot.num_classes,
            "alpha": None if alpha is None else list(alpha),
            "gamma": self.weighting.gamma,
        }

    def member(self, name: str) -> object:
        """A member of `_MEMBERS`, cached while the rows of the run stay the same."""
        compute, uses_loss = _MEMBERS[name]
        key = ("diagnostics", self.epoch, name, self.weighting if uses_loss else None)
        return self.view.cached(key, lambda: compute(self))

    @cached_property
    def learned(self) -> ConfidentLearning | None:
        """Confident learning, for all members of this request."""
        if not self.has_logits:
            return None
        return confident_learning(chunks_of(self.view, self.epoch), self.view.snapshot.num_classes or 2)


def _num_duplicates(rows: _Epoch) -> int:
    return len(rows.view.left_out(rows.epoch))


def _loss(rows: _Epoch) -> LossStatistics:
    view = rows.view
    if view.is_structured:
        return _loss_of_examples(rows)
    row = view.row(
        f"""SELECT coalesce(sum(loss), 0.0) AS sum, coalesce(sum(alpha_t), 0.0) AS alpha_sum, avg(loss) AS mean,
            median(loss) AS median, max(loss) AS max, avg((prediction = target)::INTEGER) AS accuracy
            FROM {view.scored(rows.weighting, rows.epoch)}"""
    )
    reduction = view.snapshot.description.config.reduction
    value = reduced(reduction, row["sum"], row["alpha_sum"], view.num_examples(rows.epoch))
    return cast("LossStatistics", {"value": value, "reduction": reduction, **row})


def _loss_of_examples(rows: _Epoch) -> LossStatistics:
    """Statistics of the losses of structured examples; the reduced loss has the default divisor of `POST /loss`."""
    view, config = rows.view, rows.view.snapshot.description.config
    row = view.row(
        f"""SELECT coalesce(sum(loss), 0.0) AS sum, NULL AS alpha_sum, avg(loss) AS mean, median(loss) AS median,
            max(loss) AS max, avg(({view.correct})::INTEGER) AS accuracy, avg(loss_sum / num_valid) AS of_examples,
            sum(loss_sum) AS of_elements, sum(num_valid) AS num_valid FROM {view.scored(rows.weighting, rows.epoch)}"""
    )
    of_examples, of_elements, num_valid = (row.pop(name) for name in ("of_examples", "of_elements", "num_valid"))
    value = of_elements if config.reduction == "sum" else None
    if config.reduction == "mean" and num_valid:
        of_labels = view.snapshot.description.task == "multi_label"
        value = of_examples if of_labels else of_elements / num_valid
    return cast("LossStatistics", {"value": value, "reduction": config.reduction, **row})


def _classes(rows: _Epoch) -> list[ClassStatistics]:
    table, learned = class_table(rows.view, rows.weighting, rows.epoch), rows.learned
    if learned is None:
        return table
    columns = (
        learned.label_noise,
        learned.inverse_label_noise,
        learned.label_quality,
        learned.label_issues,
        learned.inverse_label_issues,
        learned.most_confused,
    )
    labels = [row["class"] for row in table]
    for row, *values in zip(table, *(column[labels].tolist() for column in columns), strict=True):
        row["label_noise"], row["inverse_label_noise"], row["label_quality"] = values[:3]
        row["label_issues"], row["inverse_label_issues"] = values[3:5]
        row["often_truly"] = None if values[5] < 0 else values[5]
    return table


def _class_pairs(rows: _Epoch) -> list[ClassPair] | None:
    return None if rows.learned is None else rows.learned.overlapping_classes(LARGEST_PAIRS)


def _label_errors(rows: _Epoch) -> LabelErrors | None:
    learned = rows.learned
    if learned is None:
        return None
    estimated, num_examples = learned.num_label_issues_calibrated, learned.num_examples
    return {
        "estimated": estimated,
        "off_diagonal": learned.num_label_issues,
        "off_diagonal_calibrated": estimated,
        "share": estimated / num_examples if num_examples else None,
        "health": learned.health,
        "thresholds": None if rows.has_many_classes else _thresholds(learned),
    }


def _thresholds(learned: ConfidentLearning) -> list[float | None]:
    return [None if value > 1 else value for value in learned.thresholds.tolist()]


def _suggested_alpha(rows: _Epoch) -> SuggestedAlpha | None:
    if rows.has_many_classes:
        return None
    return suggested_alpha([row["count"] for row in cast("list[ClassStatistics]", rows.member("classes"))])


class _Member(NamedTuple):
    """A member of the reply.

    Args:
        compute: Computes its value.
        uses_loss: True if its value depends on alpha or gamma.
    """

    compute: Callable[[_Epoch], object]
    uses_loss: bool = False


_MEMBERS = {
    "num_duplicates": _Member(_num_duplicates),
    "loss": _Member(_loss, uses_loss=True),
    "elements": _Member(lambda rows: element_diagnostics(rows.view, rows.weighting, rows.epoch), uses_loss=True),
    "classes": _Member(_classes, uses_loss=True),
    "confusion": _Member(lambda rows: confusion(rows.view, rows.epoch)),
    "class_pairs": _Member(_class_pairs),
    "histogram": _Member(lambda rows: histogram(rows.view, rows.weighting, rows.epoch), uses_loss=True),
    "concentration": _Member(lambda rows: concentration(rows.view, rows.weighting, rows.epoch), uses_loss=True),
    "concentration_at_gamma_0": _Member(
        lambda rows: concentration_at_gamma_0(rows.view, rows.weighting, rows.epoch), uses_loss=True
    ),
    "calibration": _Member(lambda rows: calibration(chunks_of(rows.view, rows.epoch)) if rows.has_logits else None),
    "label_errors": _Member(_label_errors),
    "suggested_alpha": _Member(_suggested_alpha),
}
FIELDS = (*_MEMBERS, "warnings")
# Members about the class of an example.
ONE_CLASS = {"classes", "confusion", "class_pairs", "calibration", "label_errors", "suggested_alpha"}
