"""Pages of the examples of an epoch, filtered and in a total order, and single examples."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from service.errors import InvalidRequestError, UnknownExampleError
from service.queries.attributes import attributes_of
from service.queries.example_elements import STORED, course_of, elements_of, units_of
from service.queries.filters import Filter
from service.queries.order import OF_ELEMENTS, SORTABLE, Order, cursor_after, last_values
from service.queries.sql import literal
from service.queries.stored_row import stored_row
from service.queries.view import SCORE_NAMES, SqlRow, View
from service.queries.weighting import Weighting
from service.runs.review_history import ReviewHistory, Verdicts
from service.runs.units import UnitKey
from service.schema.faults import fault
from service.schema.replies.examples import (
    ExampleDetail,
    ExampleRow,
    ExamplesPage,
    Percentiles,
    ScoredExample,
    StructuredDetail,
)

SHOWN = ("id", "target", "prediction", *SCORE_NAMES, "epoch", "batch", "row")
SHOWN_OF_ELEMENTS = (*SHOWN, *OF_ELEMENTS)


def examples_page(
    view: View,
    weighting: Weighting,
    epoch: int,
    *,
    where: Filter,
    order: Order,
    limit: int,
    cursor: str | None = None,
    verdicts: Verdicts | None = None,
) -> ExamplesPage:
    """A page of the examples of an epoch.

    Args:
        view: The run.
        weighting: Weighting of the losses.
        epoch: Epoch of the rows.
        where: Conditions on the rows.
        order: Order of the rows.
        limit: Maximum number of rows of the page.
        cursor: `next_cursor` of the previous page; None for the first page.
        verdicts: Current verdicts of the run; None for none.

    Raises:
        InvalidRequestError: The cursor is not from a page of this order, epoch and loss.
    """
    order.check(view)
    if view.is_structured and where.classes:
        name = next(iter(where.classes))
        msg = f"the examples of the task {view.snapshot.description.task} have many classes, and no {name} to filter by"
        raise fault(InvalidRequestError, msg, "query", name)
    condition, parameters = where.sql(view)
    matching = view.row(f"SELECT count(*) AS n FROM {view.scored(weighting, epoch)} WHERE {condition}", parameters)
    # A cursor belongs to one list: with another epoch, loss or order it is an error.
    listing = hashlib.sha256(f"{epoch} {weighting} {order.sql}".encode()).hexdigest()
    if cursor is not None:
        after, values = order.after(last_values(cursor, order, listing))
        condition, parameters = f"{condition} AND {after}", parameters + values
    rows = view.rows(
        f"SELECT {', '.join(shown(view))}, attributes, log_loss FROM {view.scored(weighting, epoch)} "
        f"WHERE {condition} ORDER BY {order.sql} LIMIT {literal(limit + 1)}",
        parameters,
    )
    next_cursor = cursor_after(rows[limit - 1], order, listing) if len(rows) > limit else None
    return {
        "run": view.snapshot.name,
        "epoch": epoch,
        "num_matching": int(matching["n"]),
        "rows": _example_rows(view, rows[:limit], verdicts or {}),
        "next_cursor": next_cursor,
    }


def _example_rows(view: View, rows: Sequence[Mapping[str, Any]], verdicts: Verdicts) -> list[ExampleRow]:
    result: list[ExampleRow] = []
    for row, attributes in zip(rows, attributes_of(view, rows), strict=True):
        standing = verdicts.get(UnitKey(row["id"]))
        verdict = None if standing is None else standing.verdict
        result.append({**_scored_example(row), "attributes": attributes, "verdict": verdict})
    return result


def _scored_example(row: Mapping[str, Any]) -> ScoredExample:
    scores = {name: row[name] for name in SHOWN_OF_ELEMENTS if name in row}
    return cast(ScoredExample, scores)


def shown(view: View) -> Sequence[str]:
    """The columns of `View.scored` that a page shows."""
    return SHOWN_OF_ELEMENTS if view.is_structured else SHOWN


def example(
    view: View, weighting: Weighting, epoch: int, identity: str, history: ReviewHistory, *, with_elements: bool = True
) -> ExampleDetail:
    """An example: its scores in an epoch with their percentiles, its course over the epochs, and its reviews.

    A percentile is the percentage of the epoch's rows with a smaller value, plus half the percentage of those with an
    equal value. If the example has no row in the epoch, the scores are those of its last row.

    Args:
        view: The run.
        weighting: Weighting of the losses.
        epoch: Epoch of the scores and percentiles.
        identity: Id of the example.
        history: Reviews of the run.
        with_elements: False to leave out the elements of a structured example.

    Raises:
        UnknownExampleError: The run has no row of this id in any epoch.
    """
    course = course_of(view, weighting, identity) if view.is_structured else _course(view, weighting, identity)
    if not course:
        raise UnknownExampleError(f"run {view.snapshot.name} has no example {identity[:100]!r}")
    epoch_rows = [row for row in course if row["epoch"] == epoch]
    row = (epoch_rows or course)[-1]
    logits, probabilities = (None, None) if view.is_structured else _probabilities(view, row)
    return {
        **_scored_example(row),
        "attributes": attributes_of(view, [row])[0],
        "logits": logits,
        "probabilities": probabilities,
        "percentiles": _percentiles(view, weighting, epoch, row),
        "course": [_scored_example(row) for row in course],
        "reviews": [review for review in history.reviews if review["id"] == identity],
        **_structured(view, weighting, row, history, with_elements=with_elements),
    }


def _structured(
    view: View, weighting: Weighting, row: Mapping[str, Any], history: ReviewHistory, *, with_elements: bool
) -> StructuredDetail:
    if not view.is_structured:
        return {}
    stored = stored_row(view, row, STORED)
    return {
        "elements": elements_of(stored) if with_elements else None,
        "units": units_of(view, view.element_losses(weighting), stored, history.verdicts_of(row["epoch"])),
    }


def _course(view: View, weighting: Weighting, identity: str) -> list[SqlRow]:
    """The rows of an example with one class in all epochs."""
    columns = ", ".join(SHOWN)
    return view.rows(
        f"SELECT {columns}, attributes, log_loss FROM {view.scored(weighting)} WHERE id = ? ORDER BY epoch, batch, row",
        [identity],
    )


def _percentiles(view: View, weighting: Weighting, epoch: int, row: Mapping[str, Any]) -> Percentiles:
    columns = {name: SORTABLE[name] for name in SCORE_NAMES}
    parts = [
        f"(count(*) FILTER ({column} < ?) + 0.5 * count(*) FILTER ({column} = ?)) / nullif(count(*), 0) * 100 AS {name}"
        for name, column in columns.items()
    ]
    values = [row[column] for column in columns.values() for _ in range(2)]
    percentiles = view.row(f"SELECT {', '.join(parts)} FROM {view.scored(weighting, epoch)}", values)
    return cast(Percentiles, {name: None if value is None else float(value) for name, value in percentiles.items()})


def _probabilities(view: View, row: Mapping[str, Any]) -> tuple[list[float | None] | None, list[float] | None]:
    """Logits and probabilities of a row; (None, None) if the run stores no logits."""
    logits: list[float] | None = stored_row(view, row, ["logits"])["logits"][0].as_py()
    if logits is None:
        return None, None
    largest = max(logits)
    weights = [math.exp(logit - largest) for logit in logits]
    total = sum(weights)
    return [*logits], [weight / total for weight in weights]
