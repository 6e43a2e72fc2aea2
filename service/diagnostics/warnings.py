"""What to be careful about with a run, in plain words."""

from __future__ import annotations

from typing import Any

from service.runs.queries import View

SMALL_CLASS = 10
LEARNED_BY_HEART = 0.995
LEAST_ROWS = 100
OVER_CONFIDENT_BY, OVER_CONFIDENT_TEMPERATURE = 0.05, 1.5
NAMED = 10


def warnings(view: View, found: dict[str, Any]) -> list[dict[str, str]]:
    """Each a `code` and a `message`.

    Args:
        view: Of the run.
        found: The diagnostics so far.
    """
    checks = (_empty, _partial, _in_sample, _over_confident, _small_classes, _duplicated, _without_logits, _weighted)
    return [warning for check in checks if (warning := check(view, found)) is not None]


def _warning(code: str, message: str) -> dict[str, str]:
    return {"code": code, "message": message}


def _empty(view: View, found: dict[str, Any]) -> dict[str, str] | None:
    if found["num_examples"]:
        return None
    return _warning("no_examples", "The run has no examples yet: push its first batch.")


def _partial(view: View, found: dict[str, Any]) -> dict[str, str] | None:
    rows, most = found["num_examples"], max((view.snapshot.rows(epoch) for epoch in found["epochs"]), default=0)
    if rows >= most:
        return None
    return _warning(
        "partial_epoch",
        f"Epoch {found['epoch']} has {rows} of the {most} examples that another epoch has: perhaps it is still on "
        "its way, or ask for another epoch.",
    )


def _in_sample(view: View, found: dict[str, Any]) -> dict[str, str] | None:
    accuracy = found["loss"]["accuracy"]
    if found["num_examples"] < LEAST_ROWS or accuracy < LEARNED_BY_HEART:
        return None
    return _warning(
        "in_sample",
        f"The model agrees with {accuracy:.2%} of the labels. These look like logits of the data it was trained on, "
        "and what a model has learned by heart hides wrong labels. Use logits of examples it has not seen "
        "(cross-validation), or the first epochs: area_under_margin.",
    )


def _over_confident(view: View, found: dict[str, Any]) -> dict[str, str] | None:
    measured = found["calibration"]
    if measured is None or not found["num_examples"]:
        return None
    gap, temperature = measured["confidence"] - measured["accuracy"], measured["temperature"]
    if gap < OVER_CONFIDENT_BY and (temperature is None or temperature < OVER_CONFIDENT_TEMPERATURE):
        return None
    fitted = "" if temperature is None else f" Dividing the logits by {temperature:.2f} would mend it."
    return _warning(
        "over_confident",
        f"The model is sure of itself by {measured['confidence']:.1%} on average and right in "
        f"{measured['accuracy']:.1%}: take its probabilities with care.{fitted}",
    )


def _small_classes(view: View, found: dict[str, Any]) -> dict[str, str] | None:
    small = [row for row in found["classes"] if row["count"] < SMALL_CLASS]
    if not small or not found["num_examples"]:
        return None
    named = ", ".join(f"{row['name'] or row['class']} ({row['count']})" for row in small[:NAMED])
    more = "" if len(small) <= NAMED else f" and {len(small) - NAMED} more"
    return _warning(
        "small_classes",
        f"Classes with fewer than {SMALL_CLASS} examples: {named}{more}. Their thresholds and noise rates mean little.",
    )


def _duplicated(view: View, found: dict[str, Any]) -> dict[str, str] | None:
    if not found["num_duplicates"]:
        return None
    return _warning(
        "duplicated_ids",
        f"{found['num_duplicates']} rows of epoch {found['epoch']} have an id that another row has: they count twice "
        "here, and once in a queue.",
    )


def _without_logits(view: View, found: dict[str, Any]) -> dict[str, str] | None:
    if view.snapshot.description.store_logits:
        return None
    return _warning(
        "no_logits",
        "The run keeps no logits: there is no estimate of label errors, no calibration and no suspected_errors queue.",
    )


def _weighted(view: View, found: dict[str, Any]) -> dict[str, str] | None:
    if found["alpha"] is None or len(set(found["alpha"])) == 1:
        return None
    return _warning(
        "class_weights",
        "With class weights the loss ranks examples of heavy classes first, whether their labels are wrong or not. "
        "Rank by logit_margin to look for wrong labels.",
    )
