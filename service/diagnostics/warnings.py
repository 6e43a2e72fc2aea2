"""Warnings about the diagnostics of a run, in plain words."""

from __future__ import annotations

from collections.abc import Callable

from service.diagnostics.classes import TABLE_CLASSES
from service.diagnostics.element_warnings import (
    SMALL_CLASS,
    first_classes,
    many_classes,
    small_classes,
    weighted,
    without_issues,
)
from service.formats.input_checks import REMEDIES, SIGNS
from service.queries.view import View
from service.runs.data_files import Footer, batches_of
from service.schema.replies.diagnostics import Diagnostics, DiagnosticsWarning, WarningCode
from service.schema.result import WarningCode as InputCode

MEMORISED_ACCURACY = 0.995
MIN_ROWS = 100
OVER_CONFIDENT_BY, OVER_CONFIDENT_TEMPERATURE = 0.05, 1.5


def warnings(view: View, diagnostics: Diagnostics) -> list[DiagnosticsWarning]:
    """Every warning that applies.

    Args:
        view: The run.
        diagnostics: Diagnostics with all members except `warnings`.
    """
    checks: tuple[Callable[[View, Diagnostics], DiagnosticsWarning | None], ...]
    of_all = (_empty, _like_probabilities, _like_log_probabilities, _partial, _in_sample)
    if view.is_structured:
        of_elements = (small_classes, many_classes, without_issues, weighted)
        checks = (*of_all, *of_elements, _duplicated)
    else:
        of_examples = (_over_confident, _small_classes, _many_classes, _duplicated, _without_logits, _weighted)
        checks = (*of_all, *of_examples)
    return [warning for check in checks if (warning := check(view, diagnostics)) is not None]


def _warning(code: WarningCode, message: str) -> DiagnosticsWarning:
    return {"code": code, "message": message}


def _empty(view: View, diagnostics: Diagnostics) -> DiagnosticsWarning | None:
    if diagnostics["num_examples"]:
        return None
    return _warning("no_examples", "The run has no examples yet: push its first batch.")


def _like_probabilities(view: View, diagnostics: Diagnostics) -> DiagnosticsWarning | None:
    return _unlikely_logits(view, diagnostics, "probabilities_as_logits", lambda footer: footer.like_probabilities)


def _like_log_probabilities(view: View, diagnostics: Diagnostics) -> DiagnosticsWarning | None:
    code: InputCode = "log_probabilities_as_logits"
    return _unlikely_logits(view, diagnostics, code, lambda footer: footer.like_log_probabilities)


def _unlikely_logits(
    view: View, diagnostics: Diagnostics, code: InputCode, listed: Callable[[Footer], tuple[str, ...]]
) -> DiagnosticsWarning | None:
    files = view.snapshot.data_of(diagnostics["epoch"])
    number, mode = len(batches_of(files, listed)), view.snapshot.description.config.mode
    if not number:
        return None
    return _warning(
        code,
        f"The logits of {number} batches {SIGNS[code, mode]}. The losses and everything that follows from them are "
        f"wrong. {REMEDIES[mode]}",
    )


def _partial(view: View, diagnostics: Diagnostics) -> DiagnosticsWarning | None:
    rows = diagnostics["num_examples"]
    # Epochs with fewer rows have fewer examples too.
    largest = max(
        (view.num_examples(epoch) for epoch in diagnostics["epochs"] if view.snapshot.num_rows(epoch) > rows), default=0
    )
    if rows >= largest:
        return None
    return _warning(
        "partial_epoch",
        f"Epoch {diagnostics['epoch']} has {rows} of the {largest} examples that another epoch has: perhaps it is "
        "still on its way, or ask for another epoch.",
    )


def _in_sample(view: View, diagnostics: Diagnostics) -> DiagnosticsWarning | None:
    accuracy = diagnostics["loss"]["accuracy"]
    if diagnostics["num_examples"] < MIN_ROWS or accuracy is None or accuracy < MEMORISED_ACCURACY:
        return None
    labels = "examples, in all of their elements" if view.is_structured else "labels"
    return _warning(
        "in_sample",
        f"The model agrees with {accuracy:.2%} of the {labels}. These look like logits of the data it was trained "
        "on, and what a model has learned by heart hides wrong labels. Use logits of examples it has not seen "
        "(cross-validation), or the first epochs: area_under_margin.",
    )


def _over_confident(view: View, diagnostics: Diagnostics) -> DiagnosticsWarning | None:
    calibration = diagnostics["calibration"]
    if calibration is None or calibration["confidence"] is None or calibration["accuracy"] is None:
        return None
    confidence, accuracy = calibration["confidence"], calibration["accuracy"]
    temperature = calibration["temperature"]
    if confidence - accuracy < OVER_CONFIDENT_BY and (temperature is None or temperature < OVER_CONFIDENT_TEMPERATURE):
        return None
    remedy = "" if temperature is None else f" Dividing the logits by {temperature:.2f} would mend it."
    return _warning(
        "over_confident",
        f"The model is sure of itself by {confidence:.1%} on average and right in {accuracy:.1%}: take its "
        f"probabilities with care.{remedy}",
    )


def _small_classes(view: View, diagnostics: Diagnostics) -> DiagnosticsWarning | None:
    if not diagnostics["num_examples"]:
        return None
    num_classes, table = diagnostics["num_classes"] or 0, diagnostics["classes"]
    if num_classes > len(table):
        large = (
            f"SELECT target FROM {view.stored(diagnostics['epoch'])} GROUP BY target HAVING count(*) >= {SMALL_CLASS}"
        )
        number = num_classes - view.row(f"SELECT count(*) AS n FROM ({large})")["n"]
        text = f"{number} of {num_classes} classes have fewer than {SMALL_CLASS} examples."
    else:
        small = [f"{row['name'] or row['class']} ({row['count']})" for row in table if row["count"] < SMALL_CLASS]
        number = len(small)
        text = f"Classes with fewer than {SMALL_CLASS} examples: {first_classes(small)}."
    return _warning("small_classes", f"{text} Their thresholds and noise rates mean little.") if number else None


def _many_classes(view: View, diagnostics: Diagnostics) -> DiagnosticsWarning | None:
    num_classes = diagnostics["num_classes"] or 0
    if num_classes <= TABLE_CLASSES:
        return None
    return _warning(
        "many_classes",
        f"The run has {num_classes} classes: the table has the {TABLE_CLASSES} with the largest loss. There are "
        "neither thresholds nor a suggested alpha.",
    )


def _duplicated(view: View, diagnostics: Diagnostics) -> DiagnosticsWarning | None:
    if not diagnostics["num_duplicates"]:
        return None
    return _warning(
        "duplicated_ids",
        f"{diagnostics['num_duplicates']} rows of epoch {diagnostics['epoch']} are left out, since a later row has the "
        "same id: only the last one counts, by the names of the batches.",
    )


def _without_logits(view: View, diagnostics: Diagnostics) -> DiagnosticsWarning | None:
    if view.snapshot.has_logits(diagnostics["epoch"]):
        return None
    keeps = "epoch keeps not all" if view.snapshot.description.store_logits else "run keeps no"
    return _warning(
        "no_logits",
        f"The {keeps} logits: there is no estimate of label errors, no calibration and no suspected_errors queue.",
    )


def _weighted(view: View, diagnostics: Diagnostics) -> DiagnosticsWarning | None:
    if diagnostics["alpha"] is None or len(set(diagnostics["alpha"])) == 1:
        return None
    return _warning(
        "class_weights",
        "With class weights the loss ranks examples of heavy classes first, whether their labels are wrong or not. "
        "Rank by logit_margin to look for wrong labels.",
    )
