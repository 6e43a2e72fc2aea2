"""Gain: two models on the same examples, under the given and under the corrected labels."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa

from service.diagnostics.classes import TABLE_CLASSES
from service.diagnostics.exact import mcnemar
from service.diagnostics.gain_labels import REASONS, decisions, losses_of
from service.diagnostics.gain_sums import RUNS, GainSums, Labels, Run, Values, metrics
from service.errors import InvalidRequestError
from service.queries.view import View
from service.queries.weighting import Weighting
from service.runs.review_history import Verdicts
from service.schema.faults import fault
from service.schema.replies.comparison import ComparedRun
from service.schema.replies.gain import Gain, GainedClass, GainUnderLabels, McNemar

Views = tuple[View, View]
_numbers = itertools.count()
# The largest probability. For wrong predictions it follows from normalized_margin = (p_t - largest other p + 1) / 2.
CONFIDENCE = """CASE WHEN {run}.prediction = {run}.target THEN {run}.p_t
    ELSE {run}.p_t + 1 - 2 * {run}.normalized_margin::DOUBLE END AS confidence_{run}"""
# The losses that the rows of a run have: those under the labels of their own run.
LOSSES = """CASE WHEN given = {own} THEN loss_{run} END AS loss_given_{run},
    CASE WHEN corrected = {own} THEN loss_{run} END AS loss_corrected_{run}"""
OWN = {"before": "given", "after": "later"}


def gain(views: Views, weighting: Weighting, epochs: tuple[int, int], verdicts: tuple[Verdicts, Verdicts]) -> Gain:
    """The reply of `GET /runs/{run}/gain/{other}`.

    Args:
        views: The first and the second run, on the same connection; they may be the same.
        weighting: Weighting of the losses of both runs.
        epochs: Epoch of each run.
        verdicts: The standings of each run.

    Raises:
        InvalidRequestError: A run has examples with many elements, or the runs have different classes.
    """
    _check_fits(views)
    before, after = (_compared_run(view, epoch) for view, epoch in zip(views, epochs, strict=True))
    with _common_rows(views, weighting, epochs, decisions(*verdicts)) as table:
        counts = views[0].row(
            f"""SELECT count(*) AS num_common, count(*) FILTER (reason IS NULL) AS num_compared,
            count(*) FILTER (reason IS NULL AND reviewed) AS num_reviewed,
            count(*) FILTER (reason IS NULL AND corrected != given) AS num_corrected,
            {", ".join(f"count(*) FILTER (reason = '{reason}') AS {reason}" for reason in REASONS)} FROM {table}"""
        )
        num_classes = max(view.snapshot.num_classes or 1 for view in views)
        notes = _add_losses(views, weighting, epochs, table, num_classes)
        sums = GainSums(counts["num_compared"], num_classes)
        for rows in views[0].batches(f"SELECT *, {sums.part} AS part FROM {table} WHERE reason IS NULL"):
            sums.add(rows)
    values = sums.values()
    return {
        "before": before,
        "after": after,
        "num_common": counts["num_common"],
        "num_compared": counts["num_compared"],
        "num_reviewed": counts["num_reviewed"],
        "num_corrected": counts["num_corrected"],
        "left_out": {
            "excluded": counts["excluded"],
            "conflict": counts["conflict"],
            "wrong_without_label": counts["wrong_without_label"],
        },
        "given": _under("given", values, sums),
        "corrected": _under("corrected", values, sums),
        "change_before": metrics(values["corrected", "before"], values["given", "before"]),
        "change_after": metrics(values["corrected", "after"], values["given", "after"]),
        "classes": _classes(sums),
        "notes": notes,
    }


def _check_fits(views: Views) -> None:
    for view in views:
        if view.is_structured:
            task = view.snapshot.description.task
            msg = f"the gain needs one class for each example; run {view.snapshot.name} has the task {task}"
            raise fault(InvalidRequestError, msg, "path", "run")
    numbers = {view.snapshot.num_classes for view in views} - {None}
    names = {tuple(view.snapshot.description.class_names or ()) for view in views} - {()}
    if len(numbers) > 1 or len(names) > 1:
        msg = f"runs {' and '.join(view.snapshot.name for view in views)} have different classes"
        raise fault(InvalidRequestError, msg, "path", "other")


def _compared_run(view: View, epoch: int) -> ComparedRun:
    return {"run": view.snapshot.name, "epoch": epoch, "num_examples": view.num_examples(epoch)}


@contextmanager
def _common_rows(views: Views, weighting: Weighting, epochs: tuple[int, int], decided: pa.Table) -> Iterator[str]:
    """A temporary table of the examples that both runs have: labels, predictions, confidences, the known losses, and
    the reason of a row that is left out."""
    view, name = views[0], f"gain_{next(_numbers)}"
    view.cursor.register(f"{name}_decided", decided)
    sources = [
        f"{of_run.scored(weighting, epoch)} {run}" for run, of_run, epoch in zip(RUNS, views, epochs, strict=True)
    ]
    losses = ", ".join(LOSSES.format(run=run, own=OWN[run]) for run in RUNS)
    columns = ", ".join(f"{run}.{column} AS {column}_{run}" for run in RUNS for column in ("prediction", "loss"))
    try:
        view.execute(
            f"""CREATE OR REPLACE TEMP TABLE {name} AS SELECT * EXCLUDE (loss_before, loss_after), {losses} FROM (
            SELECT id, before.target AS given, after.target AS later, reason, of_before IS NOT NULL AS reviewed,
                coalesce(label, CASE WHEN of_before THEN before.target END, after.target) AS corrected,
                {", ".join(CONFIDENCE.format(run=run) for run in RUNS)}, {columns}
            FROM {sources[0]} JOIN {sources[1]} USING (id) LEFT JOIN {name}_decided USING (id))"""
        )
        yield name
    finally:
        view.cursor.execute(f"DROP TABLE IF EXISTS {name}")
        view.cursor.unregister(f"{name}_decided")


def _add_losses(views: Views, weighting: Weighting, epochs: tuple[int, int], table: str, num_classes: int) -> list[str]:
    """Compute the losses that are not known yet from logits, and return notes about those that have none."""
    notes, view = [], views[0]
    for run, of_run, epoch in zip(RUNS, views, epochs, strict=True):
        for labels in ("given", "corrected"):
            column = f"loss_{labels}_{run}"
            unknown = f"(SELECT id, {labels} AS label FROM {table} WHERE reason IS NULL AND {column} IS NULL)"
            # Collected first: a statement would end the query that they come from.
            computed = pa.concat_tables(losses_of(of_run, epoch, weighting, unknown, num_classes))
            view.cursor.register(f"{table}_losses", computed)
            view.execute(f"UPDATE {table} SET {column} = l.loss FROM {table}_losses l WHERE {table}.id = l.id")
            view.cursor.unregister(f"{table}_losses")
            without = view.row(f"SELECT count(*) AS n FROM {table} WHERE reason IS NULL AND isnan({column})")["n"]
            if without:
                notes.append(
                    f"run {of_run.snapshot.name} has no logits of {without} examples whose {labels} label is not the "
                    f"stored one, so its loss under the {labels} labels is unknown"
                )
    return notes


def _under(labels: Labels, values: dict[tuple[Labels, Run], Values], sums: GainSums) -> GainUnderLabels:
    before, after = values[labels, "before"], values[labels, "after"]
    only_before, only_after = sums.only[labels]
    p = float(mcnemar(np.array([only_before]), np.array([only_after]))[0])
    test: McNemar = {"only_before": only_before, "only_after": only_after, "p": p}
    return {"before": metrics(before), "after": metrics(after), "difference": metrics(after, before), "mcnemar": test}


def _classes(sums: GainSums) -> list[GainedClass]:
    counts = sums.class_counts
    largest = np.argsort(-counts[:, 0], kind="stable")[:TABLE_CLASSES]
    shown = np.sort(largest[counts[largest, 0] > 0])
    p = mcnemar(counts[shown, 3], counts[shown, 4]).tolist()
    return [
        {
            "class": label,
            "count": count,
            "accuracy_before": before / count,
            "accuracy_after": after / count,
            "only_before": only_before,
            "only_after": only_after,
            "p": p_value,
        }
        for label, (count, before, after, only_before, only_after), p_value in zip(
            shown.tolist(), counts[shown].tolist(), p, strict=True
        )
    ]
