"""The units of structured examples that reviews name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import pyarrow as pa
from pydantic import Discriminator, Field, Tag

from service.errors import InvalidRequestError, UnknownQueueError
from service.mining.queues import FOLDER, queue
from service.queries.unit_names import UnitName
from service.queries.view import View
from service.runs.run_classes import RunClasses
from service.runs.store import RunStore
from service.runs.units import UnitKey
from service.schema.faults import fault
from service.schema.structure import Task


def _unit_kind(value: object) -> str:
    return "span" if isinstance(value, list) else "name" if isinstance(value, str) else "number"


# An example has fewer elements than fit into int32.
_Number = Annotated[int, Field(ge=0, lt=2**31)]
# A unit as a client names it: also the name of a label.
RequestedUnit = Annotated[
    Annotated[_Number, Tag("number")]
    | Annotated[str, Tag("name")]
    | Annotated[list[_Number], Field(min_length=2, max_length=2), Tag("span")],
    Discriminator(_unit_kind),
]

_KINDS: dict[Task, tuple[type, ...]] = {"multi_label": (int, str), "tokens": (list,), "masks": (int,)}
_NAMED: dict[Task, str] = {
    "multi_label": "a label, by number or name",
    "tokens": "a span of tokens, [start, stop)",
    "masks": "the number of a region",
}
# The evidence that an example has a unit: the target of the label, the number of tokens, the number of regions.
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


class FoundUnit(NamedTuple):
    """A unit that an example has.

    Args:
        name: The unit.
        target: Of a label its target, 0 or 1; else None.
        epoch: Of a region the epoch whose predictions it follows from; else None.
    """

    name: UnitName
    target: int | None = None
    epoch: int | None = None


def find_units(
    store: RunStore, view: View, units: Sequence[NamedUnit], epochs: Mapping[str, int]
) -> dict[int, FoundUnit]:
    """Find the units that reviews name, by the number of the review: in the queue of the review, or in the last epoch
    of the example.

    Args:
        store: Store of the queues.
        view: The run.
        units: The units.
        epochs: Last epoch of each example, by its id.

    Raises:
        InvalidRequestError: An example does not have a unit; the error names the first of these.
    """
    task, values = view.snapshot.description.task, _found(view, units, epochs)
    queues = _rows_of_queues(store, view, units)
    result: dict[int, FoundUnit] = {}
    for unit in units:
        rows, value = queues.get(unit.queue), values[unit.number]
        in_queue = rows is not None and UnitKey.of({"id": unit.id, "unit": unit.unit}) in rows.keys
        reason = _missing(task, unit.unit, value)
        if reason is not None and not in_queue:
            raise unit.fault(reason)
        if task == "multi_label":
            result[unit.number] = FoundUnit(unit.unit, target=value if value >= 0 else None)
        elif task == "masks":
            result[unit.number] = FoundUnit(unit.unit, epoch=rows.epoch if rows and in_queue else epochs[unit.id])
        else:
            result[unit.number] = FoundUnit(unit.unit)
    return result


def _missing(task: Task, unit: UnitName, value: int) -> str | None:
    """The reason why an example does not have a unit in its last epoch; None if it has it."""
    if task == "multi_label":
        return "the label is ignored" if value < 0 else None
    if isinstance(unit, list):
        start, stop = unit
        return None if start < stop <= value else f"a span has a start below its stop, which is at most {value}"
    return None if unit < value else f"the mask has {value} regions in its last epoch, from 0"


class _QueueUnits(NamedTuple):
    keys: set[UnitKey]
    epoch: int


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


def _rows_of_queues(store: RunStore, view: View, units: Sequence[NamedUnit]) -> dict[str | None, _QueueUnits]:
    """The rows of the examples of the units in the queues that the reviews name, by queue; without deleted queues."""
    ids = pa.array(sorted({unit.id for unit in units}), pa.string())
    names = {unit.queue for unit in units}
    result: dict[str | None, _QueueUnits] = {}
    # One listing: a request may name thousands of queues that do not exist.
    for name in store.documents.names(view.snapshot, FOLDER) if names - {None} else ():
        if name in names:
            view.check()
            # Another request may delete the queue now.
            with suppress(UnknownQueueError):
                stored = queue(store, view.snapshot, name)
                result[name] = _QueueUnits(set(stored.of_ids(ids).unit_keys()), stored.head["epoch"])
    return result
