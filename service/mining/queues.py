"""Queues: rows that are chosen from a run by a strategy, and stored."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

import pyarrow.compute as pc

from service.diagnostics.dynamics import dynamics
from service.errors import InvalidRequestError, QueueConflictError, UnknownQueueError
from service.mining.candidates import candidate_table
from service.mining.queue_file import queue_content, read_queue
from service.mining.queue_rows import queue_rows, with_control
from service.mining.queue_table import QueueTable
from service.mining.requests import Only, QueueRequest
from service.mining.selection import Rule, apportion, select
from service.mining.structured_rows import structured_rows
from service.mining.units import check_task, counted_class
from service.queries.sql import Condition
from service.queries.unit_names import UNIT_JSON
from service.queries.view import View
from service.queries.weighting import Weighting
from service.runs.damage import damage
from service.runs.names import check_name
from service.runs.run_classes import RunClasses
from service.runs.snapshot import Snapshot
from service.runs.store import RunStore
from service.runs.units import WHOLE, UnitKey
from service.schema.faults import fault
from service.schema.replies.queues import QueueHead, QueueSettings

FOLDER = "queues"
NAMES_TRIED = 10_000
LABEL_BLIND = "ambiguous ignores the label: it finds examples that are hard to classify, not labels that are wrong"


def create_queue(
    store: RunStore, view: View, request: QueueRequest, weighting: Weighting, reviewed: Collection[UnitKey]
) -> tuple[QueueTable, bool]:
    """Create and store a queue unless it exists; the second value is True if it is new.

    Args:
        store: Store of the queues.
        view: The run.
        request: Strategy, budget and conditions.
        weighting: Weighting of the losses.
        reviewed: The examples and units with a verdict.

    Raises:
        InvalidRequestError: The quotas do not fit the run, or the strategy needs logits and the run stores none.
        QueueConflictError: A queue of this name was created from another request.
    """
    request = _checked_request(view.snapshot, request)
    settings = _settings(request, weighting)
    if request.name is not None:
        stored = _stored(store, view.snapshot, request.name)
        if stored is not None:
            return _checked(stored, settings), False
    content = _choose(view, request, weighting, reviewed)
    if request.name is not None:
        named = _add(store, view.snapshot, content, request.name)
        if named is not None:
            return named, True
        return _checked(queue(store, view.snapshot, request.name), settings), False
    names = set(store.documents.names(view.snapshot, FOLDER))
    for number in range(1, NAMES_TRIED):
        name = f"{request.strategy}-{number}"
        if name not in names and (named := _add(store, view.snapshot, content, name)) is not None:
            return named, True
    raise QueueConflictError(f"the run has {NAMES_TRIED} queues of {request.strategy}; give this one a name")


def _add(store: RunStore, snapshot: Snapshot, content: QueueTable, name: str) -> QueueTable | None:
    """Store a queue under a name; None if the name is taken."""
    head: QueueHead = {**content.head, "name": name}
    named = replace(content, head=head)
    return named if store.documents.add(snapshot, FOLDER, name, queue_content(named)) else None


def _settings(request: QueueRequest, weighting: Weighting) -> QueueSettings:
    alpha = None if weighting.alpha is None else list(weighting.alpha)
    return cast(QueueSettings, {**request.model_dump(mode="json"), "alpha": alpha, "gamma": weighting.gamma})


def _checked(stored: QueueTable, settings: QueueSettings) -> QueueTable:
    """The stored queue if it was created with these settings."""
    differing = [name for name, value in settings.items() if stored.head["request"].get(name) != value]
    if differing:
        raise QueueConflictError(f"queue {stored.head['name']} exists with another {', '.join(differing)}")
    return stored


def _stored(store: RunStore, snapshot: Snapshot, name: str) -> QueueTable | None:
    check_name("queue", name)
    return store.documents.get(snapshot, FOLDER, name, read_queue)


def queue(store: RunStore, snapshot: Snapshot, name: str) -> QueueTable:
    """A queue as it was created.

    Raises:
        UnknownQueueError: The run has no queue of this name.
    """
    stored = _stored(store, snapshot, name)
    if stored is None:
        raise UnknownQueueError(f"run {snapshot.name} has no queue {name}")
    largest = max(pc.max(stored.rows[column]).as_py() or 0 for column in ("target", "prediction", "suggested"))
    if snapshot.num_classes is not None and largest >= (number := RunClasses(snapshot).number):
        msg = f"has class {largest}; the run has {number} classes"
        raise damage(f"{snapshot.root}/{FOLDER}/{name}.json", msg)
    return stored


def outlines(store: RunStore, snapshot: Snapshot) -> list[QueueTable]:
    """All queues of a run, by name, with the columns of `OUTLINE` only."""
    found = (
        store.documents.get(snapshot, FOLDER, name, lambda file: read_queue(file).outline(), part="outline")
        for name in store.documents.names(snapshot, FOLDER)
    )
    # Another request may delete a queue now.
    return [outline for outline in found if outline is not None]


def delete_queue(store: RunStore, snapshot: Snapshot, name: str) -> None:
    """Delete a queue; the reviews of its rows stay.

    Raises:
        UnknownQueueError: The run has no queue of this name.
    """
    check_name("queue", name)
    if name not in store.documents.names(snapshot, FOLDER):
        raise UnknownQueueError(f"run {snapshot.name} has no queue {name}")
    store.documents.delete(snapshot, FOLDER, name)


def rename_queue(store: RunStore, snapshot: Snapshot, name: str, new_name: str) -> None:
    """Rename a queue; does nothing if it has the name already.

    A process that dies in between leaves the queue under both names.

    Raises:
        InvalidNameError: The new name is not valid.
        UnknownQueueError: The run has no queue of this name.
        QueueConflictError: Another queue has the new name.
    """
    stored = queue(store, snapshot, name)
    check_name("queue", new_name)
    if new_name == name:
        return
    if _add(store, snapshot, stored, new_name) is None:
        raise QueueConflictError(f"run {snapshot.name} has another queue {new_name}")
    store.documents.delete(snapshot, FOLDER, name)


def preview(view: View, request: QueueRequest, weighting: Weighting, reviewed: Collection[UnitKey]) -> QueueTable:
    """The queue that `create_queue` would create; it has no name and is not stored."""
    return _choose(view, _checked_request(view.snapshot, request), weighting, reviewed)


def _checked_request(snapshot: Snapshot, request: QueueRequest) -> QueueRequest:
    """The request with numbers of classes, if it fits the task of the run."""
    check_task(request, snapshot.description.task)
    return request.by_number(snapshot)


def _choose(view: View, request: QueueRequest, weighting: Weighting, reviewed: Collection[UnitKey]) -> QueueTable:
    epoch = view.snapshot.epoch(request.epoch)
    totals = view.row(f"SELECT count(*) AS n, coalesce(sum(loss), 0.0) AS loss FROM {view.scored(weighting, epoch)}")
    condition = _condition(view, request.only, weighting, request.first)
    rule = _rule(view, request, weighting, epoch, condition)
    excluded = list(reviewed) if request.leaves_out_reviewed else []

    def where(of_units: bool) -> Condition:
        return _without(condition, excluded, UNIT_JSON[view.snapshot.description.task] if of_units else None)

    # Random rows estimate the error rate of the run only if they are a random sample of all examples.
    is_sample = not request.has_row_rules and all(key.unit != WHOLE for key in excluded)
    is_control = "random" in request.parts and is_sample
    with candidate_table(view, request, weighting, epoch, where, rule.rows_of_a_ranking) as candidates:
        chosen = select(rule, candidates.batches)
        control = candidates.random_ids(chosen) if is_control else ()
        rows = candidates.all_columns(chosen)
    head: QueueHead = {
        "name": None,
        "run": view.snapshot.name,
        "created_at": datetime.now(UTC).isoformat(),
        "strategy": request.strategy,
        "epoch": epoch,
        "num_examples": totals["n"],
        "request": _settings(request, weighting),
        "is_control": is_control,
        "warnings": [LABEL_BLIND] if "ambiguous" in request.parts else [],
    }
    if view.is_structured:
        rows = structured_rows(view, weighting, epoch, rows)
    else:
        rows = queue_rows(view, request, weighting, epoch, rows, totals["loss"])
    return QueueTable.of(head, with_control(rows, control))


def _without(where: Condition, excluded: Sequence[UnitKey], unit: str | None) -> Condition:
    """A condition without the rows of some keys.

    Args:
        where: The condition.
        excluded: Keys of examples and units.
        unit: Expression of the unit as JSON; None if the rows are whole examples.
    """
    condition, parameters = where
    keys = [key for key in excluded if (key.unit == WHOLE) == (unit is None)]
    if not keys:
        return where
    ids = [key.id for key in keys]
    if unit is None:
        return f"{condition} AND id NOT IN (SELECT unnest(?::VARCHAR[]))", [*parameters, ids]
    lists = "SELECT unnest(?::VARCHAR[]), unnest(?::VARCHAR[])"
    return f"{condition} AND (id, {unit}) NOT IN ({lists})", [*parameters, ids, [key.unit for key in keys]]


def _condition(view: View, only: Only | None, weighting: Weighting, first: int | None) -> Condition:
    """The conditions of a request in SQL."""
    if only is None:
        return "true", []
    condition, parameters = only.filter.sql(view)
    if only.over_epochs:
        bounds = []
        for name, pair in only.over_epochs.items():
            for sign, bound in zip((">=", "<="), pair, strict=True):
                if bound is not None:
                    bounds.append(f"{name} {sign} ?::DOUBLE")
                    parameters.append(bound)
        in_ranges = " AND ".join(bounds) or "true"
        condition += f" AND id IN (SELECT id FROM {dynamics(view, weighting, first)} WHERE {in_ranges})"
    return condition, parameters


def _rule(view: View, request: QueueRequest, weighting: Weighting, epoch: int, where: Condition) -> Rule:
    """The quotas and caps of a request, resolved for the classes of the run."""
    quotas, least = request.per_class, request.min_per_class
    cap = None if request.at_most is None else request.at_most.count
    if quotas is None and not least:
        return Rule(request.budget, at_most=cap)
    condition, parameters = where
    if view.is_structured:
        source = view.units(weighting, epoch)
    else:
        source = view.stored(epoch) if request.only is None else view.scored(weighting, epoch)
    label = counted_class(view.snapshot.description.task)
    sql = f"SELECT {label} AS label, count(*) AS n FROM {source} WHERE {condition} GROUP BY label ORDER BY label"
    counts = {row["label"]: row["n"] for row in view.rows(sql, parameters)}
    if isinstance(quotas, dict):
        unknown = [label for label in quotas if int(label) >= (view.snapshot.num_classes or 0)]
        if unknown:
            msg = f"per_class has class {str(unknown[0])[:100]}, the run has {view.snapshot.num_classes} classes"
            raise fault(InvalidRequestError, msg, "per_class", unknown[0])
        reserved = {int(label): number for label, number in quotas.items()}
        return Rule(request.budget, reserved, refill=False, at_most=cap)
    if least * len(counts) > request.budget:
        msg = f"min_per_class {least} for {len(counts)} classes exceeds the budget {request.budget}"
        raise fault(InvalidRequestError, msg, "min_per_class")
    if quotas is None:
        return Rule(request.budget, dict.fromkeys(counts, least), at_most=cap)
    weights: dict[int, float] = {label: 1.0 if quotas == "equal" else float(n) for label, n in counts.items()}
    return Rule(request.budget, apportion(request.budget, weights, least), at_most=cap)
