"""The conditions and quotas of a request for a queue, resolved for a run."""

from __future__ import annotations

from collections.abc import Sequence

from service.diagnostics.dynamics import dynamics
from service.errors import InvalidRequestError
from service.mining.requests import Only, QueueRequest
from service.mining.selection import Rule, apportion
from service.mining.unit_requests import counted_class
from service.queries.sql import Condition
from service.queries.view import View
from service.queries.weighting import Weighting
from service.runs.units import WHOLE, UnitKey
from service.schema.faults import fault


def without_keys(where: Condition, excluded: Sequence[UnitKey], unit: str | None) -> Condition:
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
    among, values = _among(keys, unit)
    return f"{condition} AND NOT ({among})", [*parameters, *values]


def only_keys(where: Condition, keys: Sequence[UnitKey], unit: str | None) -> Condition:
    """A condition with only the rows of some keys.

    Args:
        where: The condition.
        keys: Keys of examples and units.
        unit: Expression of the unit as JSON; None if the rows are whole examples.
    """
    condition, parameters = where
    of_kind = [key for key in keys if (key.unit == WHOLE) == (unit is None)]
    among, values = _among(of_kind, unit)
    return f"{condition} AND {among}", [*parameters, *values]


def _among(keys: Sequence[UnitKey], unit: str | None) -> Condition:
    """The condition that a row has one of some keys."""
    ids = [key.id for key in keys]
    if unit is None:
        return "id IN (SELECT unnest(?::VARCHAR[]))", [ids]
    lists = "SELECT unnest(?::VARCHAR[]), unnest(?::VARCHAR[])"
    return f"(id, {unit}) IN ({lists})", [ids, [key.unit for key in keys]]


def row_condition(view: View, only: Only | None, weighting: Weighting, first: int | None) -> Condition:
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


def rule_of(view: View, request: QueueRequest, weighting: Weighting, epoch: int, where: Condition) -> Rule:
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
