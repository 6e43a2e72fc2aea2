"""Queues: made once from a run as it is, kept with their rows, and read with what has been said since."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from service.diagnostics.dynamics import dynamics
from service.errors import InvalidRequestError, QueueConflictError, UnknownQueueError
from service.mining.reasons import reason
from service.mining.requests import Only, QueueRequest, Strategy
from service.mining.selection import Candidates, Part, Row, Rule, interleaved, select, shared_out
from service.mining.strategies import Ranking, ranking, suggest_over_epochs
from service.runs.examples import add_attributes
from service.runs.names import check_name
from service.runs.queries import View, Weighting
from service.runs.snapshot import Snapshot
from service.runs.store import RunStore

FOLDER = "queues"
NAMES_TRIED = 10_000
LABEL_BLIND = "ambiguous ignores the label: it finds examples that are hard to call, not labels that are wrong"


def create_queue(
    store: RunStore, view: View, request: QueueRequest, weighting: Weighting, reviewed: Sequence[str]
) -> tuple[dict[str, Any], bool]:
    """Make a queue, keep it, and say whether it is new.

    Args:
        store: Where to keep it.
        view: Of the run.
        request: What is asked for.
        weighting: For the losses.
        reviewed: The ids that have a verdict.

    Raises:
        InvalidRequestError: Quotas that do not fit the run, or a strategy that it has not the data for.
        QueueConflictError: There is one of this name, made from another request.
    """
    asked = _asked(request, weighting)
    if request.name is not None:
        check_name("queue", request.name)
        held = store.document(view.snapshot, FOLDER, request.name)
        if held is not None:
            return _same(held, asked), False
    content = _content(view, request, weighting, reviewed)
    if request.name is not None:
        new = store.add_document(view.snapshot, FOLDER, request.name, {"name": request.name, **content})
        return _same(queue(store, view.snapshot, request.name), asked), new
    taken = set(store.documents(view.snapshot, FOLDER))
    for number in range(1, NAMES_TRIED):
        name = f"{request.strategy}-{number}"
        if name not in taken and store.add_document(view.snapshot, FOLDER, name, {"name": name, **content}):
            return {"name": name, **content}, True
    raise QueueConflictError(f"the run has {NAMES_TRIED} queues of {request.strategy}; give this one a name")


def _asked(request: QueueRequest, weighting: Weighting) -> dict[str, Any]:
    return {**request.model_dump(mode="json"), "alpha": weighting.alpha, "gamma": weighting.gamma}


def _same(held: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    differs = [key for key, value in asked.items() if _plain(held["request"].get(key)) != _plain(value)]
    if differs:
        raise QueueConflictError(f"queue {held['name']} exists with another {', '.join(differs)}")
    return held


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def queue(store: RunStore, snapshot: Snapshot, name: str) -> dict[str, Any]:
    """A queue as it was made.

    Raises:
        UnknownQueueError: The run has none of this name.
    """
    check_name("queue", name)
    held = store.document(snapshot, FOLDER, name)
    if held is None:
        raise UnknownQueueError(f"run {snapshot.name} has no queue {name}")
    found: dict[str, Any] = held
    return found


def preview(view: View, request: QueueRequest, weighting: Weighting, reviewed: Sequence[str]) -> dict[str, Any]:
    """The queue that `create_queue` would make, kept nowhere and without a name."""
    return {"name": None, **_content(view, request, weighting, reviewed)}


def _content(view: View, request: QueueRequest, weighting: Weighting, reviewed: Sequence[str]) -> dict[str, Any]:
    epoch = view.snapshot.epoch(request.epoch)
    totals = view.row(f"SELECT count(*) AS n, coalesce(sum(loss), 0.0) AS loss FROM {view.scored(weighting, epoch)}")
    allowed = _allowed(view, request.only, weighting, request.first)
    rule = _rule(view, request, weighting, epoch, allowed)
    left_out = list(reviewed) if request.leaves_out_reviewed else []
    condition, parameters = allowed
    if left_out:
        condition, parameters = f"{condition} AND id NOT IN (SELECT unnest(?::VARCHAR[]))", [*parameters, left_out]
    source = _Source(view, request, weighting, epoch, (condition, parameters), of_each_class=bool(rule.reserved))
    rows, candidates = select(rule, source.fetch)
    suggest_over_epochs(view, [row for row in rows if row["strategy"] == "area_under_margin"], request.first)
    # Its random rows speak for all examples: they were drawn from all, by no further rule.
    is_control = "random" in request.parts and not left_out and not request.prefers_some
    drawn = _drawn(candidates, rows) if is_control else set()
    names = view.snapshot.description.class_names
    for rank, row in enumerate(rows, start=1):
        del row["attributes"], row["place"]
        row["rank"] = rank
        row["control"] = row["id"] in drawn
        row["share"] = row["loss"] / totals["loss"] if totals["loss"] else 0.0
        row["reason"] = reason(row, names)
    return {
        "run": view.snapshot.name,
        "created_at": datetime.now(UTC).isoformat(),
        "strategy": request.strategy,
        "epoch": epoch,
        "num_examples": totals["n"],
        "request": _asked(request, weighting),
        "is_control": is_control,
        "warnings": [LABEL_BLIND] if "ambiguous" in request.parts else [],
        "rows": rows,
    }


def _drawn(candidates: Candidates, rows: Sequence[Row]) -> set[str]:
    """The ids that were drawn at random for a queue, those too that another strategy of a mix had put there already.

    Without them the sample would lack the examples that the other strategies like.
    """
    last = next((place for place, row in enumerate(candidates.rows) if rows and row is rows[-1]), -1)
    return {row["id"] for row in candidates.rows[: last + 1] if row["strategy"] == "random"}


Condition = tuple[str, list[Any]]


def _allowed(view: View, only: Only | None, weighting: Weighting, first: int | None) -> Condition:
    """Which rows a queue may take, as SQL with its parameters."""
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
        within = " AND ".join(bounds) or "true"
        condition += f" AND id IN (SELECT id FROM {dynamics(view, weighting, first)} WHERE {within})"
    return condition, parameters


class _Source:
    """The candidates of a request, best first; of a mix interleaved by share."""

    def __init__(
        self,
        view: View,
        request: QueueRequest,
        weighting: Weighting,
        epoch: int,
        allowed: Condition,
        *,
        of_each_class: bool,
    ) -> None:
        self._view = view
        self._rankings: list[tuple[Strategy, float, Ranking]] = [
            (strategy, share, ranking(strategy, view, weighting, epoch, request))
            for strategy, share in request.parts.items()
        ]
        self._allowed = allowed
        self._of_each_class = of_each_class
        self._with_attributes = request.at_most is not None

    def fetch(self, number: int) -> Candidates:
        found = interleaved([self._part(strategy, share, one, number) for strategy, share, one in self._rankings])
        if self._with_attributes:
            add_attributes(self._view, found.rows)
        return found

    def _part(self, strategy: Strategy, share: float, one: Ranking, number: int) -> Part:
        condition, parameters = self._allowed
        rows = self._view.rows(one.sql(condition, number, of_each_class=self._of_each_class), parameters)
        for place, row in enumerate(rows, start=1):
            row["strategy"] = strategy
            row.setdefault("place", place)
        if not self._of_each_class:
            return Part(share, rows, {None: rows[-1]["place"]} if len(rows) == number else {})
        fetched = Counter(row["target"] for row in rows)
        last = {row["target"]: row["place"] for row in rows}
        return Part(share, rows, {label: last[label] for label, n in fetched.items() if n == number})


def _rule(view: View, request: QueueRequest, weighting: Weighting, epoch: int, allowed: Condition) -> Rule:
    quotas, least = request.per_class, request.min_per_class
    if quotas is None and not least:
        return Rule(request.budget, at_most=request.at_most)
    condition, parameters = allowed
    source = view.stored(epoch) if request.only is None else view.scored(weighting, epoch)
    counted = f"SELECT target, count(*) AS n FROM {source} WHERE {condition} GROUP BY target ORDER BY target"
    counts = {row["target"]: row["n"] for row in view.rows(counted, parameters)}
    if isinstance(quotas, dict):
        unknown = [label for label in quotas if int(label) >= (view.snapshot.num_classes or 0)]
        if unknown:
            msg = f"per_class names class {unknown[0]}, the run has {view.snapshot.num_classes} classes"
            raise InvalidRequestError(msg, errors=[{"loc": ["per_class", unknown[0]], "msg": msg}])
        reserved = {int(label): number for label, number in quotas.items()}
        return Rule(request.budget, reserved, open=False, at_most=request.at_most)
    if least * len(counts) > request.budget:
        msg = f"min_per_class {least} for {len(counts)} classes is more than the budget {request.budget}"
        raise InvalidRequestError(msg, errors=[{"loc": ["min_per_class"], "msg": msg}])
    if quotas is None:
        return Rule(request.budget, dict.fromkeys(counts, least), at_most=request.at_most)
    weights: dict[int, float] = {label: 1.0 if quotas == "equal" else float(n) for label, n in counts.items()}
    return Rule(request.budget, shared_out(request.budget, weights, least), at_most=request.at_most)
