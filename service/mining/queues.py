"""Queues: rows that are chosen from a run by a strategy, and stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, cast

from pydantic import AfterValidator, TypeAdapter

from service.diagnostics.dynamics import dynamics
from service.errors import InvalidRequestError, QueueConflictError, UnknownQueueError
from service.mining.reasons import reason
from service.mining.requests import Only, QueueRequest
from service.mining.selection import Candidate, Candidates, Part, Rule, apportion, interleave, select
from service.mining.strategies import Ranking, ranking, suggest_over_epochs
from service.queries.attributes import attributes_of
from service.queries.sql import Condition
from service.queries.view import View
from service.queries.weighting import Weighting
from service.runs.damage import damage
from service.runs.names import check_name
from service.runs.run_classes import RunClasses
from service.runs.snapshot import Snapshot
from service.runs.store import RunStore
from service.schema.faults import fault
from service.schema.replies.fields import Strategy
from service.schema.replies.queues import QueueRow, QueueSettings, StoredQueue

FOLDER = "queues"
NAMES_TRIED = 10_000
LABEL_BLIND = "ambiguous ignores the label: it finds examples that are hard to classify, not labels that are wrong"


# Members of every row, and those that only rows of some strategies have, both or neither.
ROW_MEMBERS = QueueRow.__annotations__.keys() - {
    "suggested_epochs",
    "num_epochs",
    "attributes",
    "verdict",
    "verdict_label",
}
EPOCH_MEMBERS = {"suggested_epochs", "num_epochs"}


def _check_rows(stored: StoredQueue) -> StoredQueue:
    for row in stored["rows"]:
        if missing := ROW_MEMBERS - row.keys():
            raise ValueError(f"a row has no {min(missing)}")
        if len(EPOCH_MEMBERS & row.keys()) == 1:
            raise ValueError("a row has one of suggested_epochs and num_epochs")
    return stored


STORED_QUEUE = TypeAdapter(Annotated[StoredQueue, AfterValidator(_check_rows)])


def create_queue(
    store: RunStore, view: View, request: QueueRequest, weighting: Weighting, reviewed: Sequence[str]
) -> tuple[StoredQueue, bool]:
    """Create and store a queue unless it exists; the second value is True if it is new.

    Args:
        store: Store of the queues.
        view: The run.
        request: Strategy, budget and conditions.
        weighting: Weighting of the losses.
        reviewed: Ids of the examples with a verdict.

    Raises:
        InvalidRequestError: The quotas do not fit the run, or the strategy needs logits and the run stores none.
        QueueConflictError: A queue of this name was created from another request.
    """
    request = request.by_number(RunClasses(view.snapshot))
    settings = _settings(request, weighting)
    if request.name is not None:
        check_name("queue", request.name)
        stored = store.documents.get(view.snapshot, FOLDER, request.name, STORED_QUEUE)
        if stored is not None:
            return _checked(stored, settings), False
    content = _choose(view, request, weighting, reviewed)
    if request.name is not None:
        new = store.documents.add(view.snapshot, FOLDER, request.name, {**content, "name": request.name})
        return _checked(queue(store, view.snapshot, request.name), settings), new
    names = set(store.documents.names(view.snapshot, FOLDER))
    for number in range(1, NAMES_TRIED):
        content["name"] = name = f"{request.strategy}-{number}"
        if name not in names and store.documents.add(view.snapshot, FOLDER, name, content):
            return content, True
    raise QueueConflictError(f"the run has {NAMES_TRIED} queues of {request.strategy}; give this one a name")


def _settings(request: QueueRequest, weighting: Weighting) -> QueueSettings:
    alpha = None if weighting.alpha is None else list(weighting.alpha)
    return cast(QueueSettings, {**request.model_dump(mode="json"), "alpha": alpha, "gamma": weighting.gamma})


def _checked(stored: StoredQueue, settings: QueueSettings) -> StoredQueue:
    """The stored queue if it was created with these settings."""
    differing = [name for name, value in settings.items() if stored["request"].get(name) != value]
    if differing:
        raise QueueConflictError(f"queue {stored['name']} exists with another {', '.join(differing)}")
    return stored


def queue(store: RunStore, snapshot: Snapshot, name: str) -> StoredQueue:
    """A queue as it was created.

    Raises:
        UnknownQueueError: The run has no queue of this name.
    """
    check_name("queue", name)
    stored = store.documents.get(snapshot, FOLDER, name, STORED_QUEUE)
    if stored is None:
        raise UnknownQueueError(f"run {snapshot.name} has no queue {name}")
    for row in stored["rows"]:
        largest = max(row["target"], row["prediction"], row["suggested"] or 0)
        if snapshot.num_classes is not None and largest >= snapshot.num_classes:
            msg = f"has class {largest}; the run has {snapshot.num_classes} classes"
            raise damage(f"{snapshot.root}/{FOLDER}/{name}.json", msg)
    return stored


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
    if not store.documents.add(snapshot, FOLDER, new_name, {**stored, "name": new_name}):
        raise QueueConflictError(f"run {snapshot.name} has another queue {new_name}")
    store.documents.delete(snapshot, FOLDER, name)


def preview(view: View, request: QueueRequest, weighting: Weighting, reviewed: Sequence[str]) -> StoredQueue:
    """The queue that `create_queue` would create; it has no name and is not stored."""
    return _choose(view, request.by_number(RunClasses(view.snapshot)), weighting, reviewed)


def _choose(view: View, request: QueueRequest, weighting: Weighting, reviewed: Sequence[str]) -> StoredQueue:
    epoch = view.snapshot.epoch(request.epoch)
    totals = view.row(f"SELECT count(*) AS n, coalesce(sum(loss), 0.0) AS loss FROM {view.scored(weighting, epoch)}")
    condition, parameters = _condition(view, request.only, weighting, request.first)
    rule = _rule(view, request, weighting, epoch, (condition, parameters))
    excluded = list(reviewed) if request.leaves_out_reviewed else []
    if excluded:
        condition, parameters = f"{condition} AND id NOT IN (SELECT unnest(?::VARCHAR[]))", [*parameters, excluded]
    source = _Source(view, request, weighting, epoch, (condition, parameters), of_each_class=bool(rule.reserved))
    rows, candidates = select(rule, source.fetch)
    suggest_over_epochs(view, [row for row in rows if row["strategy"] == "area_under_margin"], request.first)
    # Random rows estimate the error rate of the run only if they are a random sample of all examples.
    is_control = "random" in request.parts and not excluded and not request.has_row_rules
    control = _random_ids(candidates, rows) if is_control else set()
    names = view.snapshot.description.class_names
    return {
        "name": None,
        "run": view.snapshot.name,
        "created_at": datetime.now(UTC).isoformat(),
        "strategy": request.strategy,
        "epoch": epoch,
        "num_examples": totals["n"],
        "request": _settings(request, weighting),
        "is_control": is_control,
        "warnings": [LABEL_BLIND] if "ambiguous" in request.parts else [],
        "rows": [
            _queue_row(row, rank, totals["loss"], names, control=row["id"] in control)
            for rank, row in enumerate(rows, start=1)
        ],
    }


def _queue_row(
    candidate: Candidate, rank: int, total_loss: float, names: Sequence[str] | None, *, control: bool
) -> QueueRow:
    row = cast(QueueRow, {name: value for name, value in candidate.items() if name not in ("attributes", "place")})
    row["rank"] = rank
    row["control"] = control
    row["share"] = row["loss"] / total_loss if total_loss else 0.0
    row["reason"] = reason(row, names)
    return row


def _random_ids(candidates: Candidates, rows: Sequence[Candidate]) -> set[str]:
    """Ids of the random candidates up to the last row of a queue.

    They include those that another strategy of a mix took first: without them the sample would lack the examples that
    the other strategies prefer.
    """
    last = next((place for place, row in enumerate(candidates.rows) if rows and row is rows[-1]), -1)
    return {row["id"] for row in candidates.rows[: last + 1] if row["strategy"] == "random"}


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


class _Source:
    """Source of the candidates of a request, best first; those of a mix are interleaved by share."""

    def __init__(
        self,
        view: View,
        request: QueueRequest,
        weighting: Weighting,
        epoch: int,
        condition: Condition,
        *,
        of_each_class: bool,
    ) -> None:
        self._view = view
        self._rankings: list[tuple[Strategy, float, Ranking]] = [
            (strategy, share, ranking(strategy, view, weighting, epoch, request))
            for strategy, share in request.parts.items()
        ]
        self._condition = condition
        self._of_each_class = of_each_class
        self._with_attributes = request.at_most is not None

    def fetch(self, number: int) -> Candidates:
        candidates = interleave(
            [self._part(strategy, share, order, number) for strategy, share, order in self._rankings]
        )
        if self._with_attributes:
            for row, attributes in zip(candidates.rows, attributes_of(self._view, candidates.rows), strict=True):
                row["attributes"] = attributes
        return candidates

    def _part(self, strategy: Strategy, share: float, order: Ranking, number: int) -> Part:
        condition, parameters = self._condition
        sql = order.sql(condition, number, of_each_class=self._of_each_class)
        rows = cast(list[Candidate], self._view.rows(sql, parameters))
        for place, row in enumerate(rows, start=1):
            row["strategy"] = strategy
            row.setdefault("place", place)
        if not self._of_each_class:
            return Part(share, rows, {None: rows[-1]["place"]} if len(rows) == number else {})
        fetched = Counter(row["target"] for row in rows)
        last = {row["target"]: row["place"] for row in rows}
        return Part(share, rows, {label: last[label] for label, n in fetched.items() if n == number})


def _rule(view: View, request: QueueRequest, weighting: Weighting, epoch: int, where: Condition) -> Rule:
    """The quotas and caps of a request, resolved for the classes of the run."""
    quotas, least = request.per_class, request.min_per_class
    if quotas is None and not least:
        return Rule(request.budget, at_most=request.at_most)
    condition, parameters = where
    source = view.stored(epoch) if request.only is None else view.scored(weighting, epoch)
    sql = f"SELECT target, count(*) AS n FROM {source} WHERE {condition} GROUP BY target ORDER BY target"
    counts = {row["target"]: row["n"] for row in view.rows(sql, parameters)}
    if isinstance(quotas, dict):
        unknown = [label for label in quotas if int(label) >= (view.snapshot.num_classes or 0)]
        if unknown:
            msg = f"per_class has class {str(unknown[0])[:100]}, the run has {view.snapshot.num_classes} classes"
            raise fault(InvalidRequestError, msg, "per_class", unknown[0])
        reserved = {int(label): number for label, number in quotas.items()}
        return Rule(request.budget, reserved, refill=False, at_most=request.at_most)
    if least * len(counts) > request.budget:
        msg = f"min_per_class {least} for {len(counts)} classes exceeds the budget {request.budget}"
        raise fault(InvalidRequestError, msg, "min_per_class")
    if quotas is None:
        return Rule(request.budget, dict.fromkeys(counts, least), at_most=request.at_most)
    weights: dict[int, float] = {label: 1.0 if quotas == "equal" else float(n) for label, n in counts.items()}
    return Rule(request.budget, apportion(request.budget, weights, least), at_most=request.at_most)
