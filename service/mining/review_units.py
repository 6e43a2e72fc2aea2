"""The units of structured examples that reviews name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from service.errors import InvalidNameError, InvalidRequestError, UnknownQueueError
from service.mining.queues import queue
from service.queries.unit_names import UnitName
from service.queries.view import View
from service.runs.run_classes import RunClasses
from service.runs.store import RunStore
from service.runs.units import UnitKey
from service.schema.faults import fault
from service.schema.structure import Task

# A unit as a client names it: also the name of a label.
RequestedUnit = int | str | list[int]

_KINDS: dict[Task, tuple[type, ...]] = {"multi_label": (int, str), "tokens": (list,), "masks": (int,)}
_NAMED: dict[Task, str] = {
    "multi_label": "a label, by number or name",
    "tokens": "a span of tokens, [start, stop)",
    "masks": "the number of a region",
}
# What says that an example has a unit: the target of the label, the number of tokens, the number of regions.
_CHECKED: dict[Task, str] = {
    "multi_label": "targets[label + 1]",
    "tokens": "shape[1]",
    "masks": "len(unit_offsets) - 1",
}


@dataclass(frozen=True)
class NamedUnit:
    """A unit that a review names.

    Args:
        number: Number of the review in its request.
        id: Id of the example.
        unit: The unit.
        queue: Queue that the reviewer worked through.
    """

    number: int
    id: str
    unit: UnitName
    queue: str | None

    def fault(self, reason: str) -> InvalidRequestError:
        """The error that names the review and the example."""
        return unit_fault(self.number, f"example {self.id[:100]!r} has no unit {self.unit}: {reason}")


def unit_fault(number: int, msg: str) -> InvalidRequestError:
    """The error about the unit of a review."""
    return fault(InvalidRequestError, msg, number, "unit", detail=f"review {number}: {msg}")


def unit_of_run(view: View, number: int, unit: RequestedUnit) -> UnitName:
    """The unit of a review, with the number of a label in place of its name.

    Raises:
        InvalidRequestError: The units of the run are others, or it has no such label.
    """
    task = view.snapshot.description.task
    if task == "classification":
        raise unit_fault(number, "the examples of this run have one class, and no units")
    if not isinstance(unit, _KINDS[task]):
        raise unit_fault(number, f"a unit of the task {task} is {_NAMED[task]}")
    if task != "multi_label" or isinstance(unit, list):
        return unit if isinstance(unit, int) else [int(end) for end in unit]
    labels = RunClasses(view.snapshot, labels=True)
    try:
        found = labels.find(unit)
    except ValueError as err:
        raise unit_fault(number, str(err)) from err
    if found >= labels.number:
        raise unit_fault(number, f"label {found} is outside [0, {labels.number})")
    return found


def check_units(
    store: RunStore, view: View, units: Sequence[NamedUnit], epochs: Mapping[str, int]
) -> dict[int, int | None]:
    """Check that examples have the units that reviews name, in their last epoch or in the queue of the review.

    Args:
        store: Store of the queues.
        view: The run.
        units: The units.
        epochs: Last epoch of each example, by its id.

    Returns:
        The target of each reviewed label, 0 or 1, by the number of the review; None for other units.

    Raises:
        InvalidRequestError: An example does not have a unit; the error names the first of these.
    """
    task, found = view.snapshot.description.task, _found(view, units, epochs)
    keys: dict[str, set[UnitKey]] = {}
    targets: dict[int, int | None] = {}
    for unit in units:
        reason = _missing(task, unit.unit, found[unit.number])
        if reason is not None:
            if unit.queue is not None and unit.queue not in keys:
                keys[unit.queue] = _keys_of(store, view, unit.queue)
            if UnitKey.of({"id": unit.id, "unit": unit.unit}) not in keys.get(unit.queue or "", ()):
                raise unit.fault(reason)
        targets[unit.number] = found[unit.number] if task == "multi_label" else None
    return targets


def _missing(task: Task, unit: UnitName, found: int) -> str | None:
    """The reason why an example does not have a unit; None if it has it."""
    if task == "multi_label":
        return "the label is ignored" if found < 0 else None
    if isinstance(unit, list):
        start, stop = unit
        return None if start < stop <= found else f"a span has a start below its stop, which is at most {found}"
    return None if unit < found else f"it has {found} regions in its last epoch, from 0"


def _found(view: View, units: Sequence[NamedUnit], epochs: Mapping[str, int]) -> dict[int, int]:
    """The value of `_CHECKED` for each unit, by the number of the review."""
    task = view.snapshot.description.task
    by_epoch: defaultdict[int, list[NamedUnit]] = defaultdict(list)
    for unit in units:
        by_epoch[epochs[unit.id]].append(unit)
    found: dict[int, int] = {}
    for epoch, named in by_epoch.items():
        view.cursor.register("named_units", _table(named))
        sql = f"SELECT number, {_CHECKED[task]} AS found FROM {view.stored(epoch)} JOIN named_units USING (id)"
        found |= {row["number"]: row["found"] for row in view.rows(sql)}
    return found


def _table(units: Sequence[NamedUnit]) -> pa.Table:
    columns = {
        "number": pa.array([unit.number for unit in units], pa.int64()),
        "id": pa.array([unit.id for unit in units], pa.string()),
        "label": pa.array([unit.unit if isinstance(unit.unit, int) else 0 for unit in units], pa.int64()),
    }
    return pa.table(columns)


def _keys_of(store: RunStore, view: View, name: str) -> set[UnitKey]:
    """Keys of the rows of a queue; none if it was deleted."""
    try:
        return set(queue(store, view.snapshot, name).unit_keys())
    except (InvalidNameError, UnknownQueueError):
        return set()
