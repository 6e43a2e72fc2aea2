"""Queues: rows that are chosen from a run by a strategy, and stored."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import BinaryIO, cast

import pyarrow.compute as pc

from service.errors import QueueConflictError, RunDamagedError, UnknownQueueError
from service.mining.queue_choice import choose
from service.mining.queue_file import queue_content, read_queue
from service.mining.queue_table import QueueTable
from service.mining.requests import QueueRequest
from service.queries.view import View
from service.queries.weighting import Weighting
from service.runs.damage import damage
from service.runs.names import check_name
from service.runs.run_classes import RunClasses
from service.runs.snapshot import Snapshot
from service.runs.store import RunStore
from service.runs.units import WHOLE, UnitKey
from service.schema.replies.queues import QueueHead, QueueSettings

FOLDER = "queues"
NAMES_TRIED = 10_000
_DEFAULTS: dict[str, object] = {
    name: field.default for name, field in QueueRequest.model_fields.items() if not field.is_required()
}


def create_queue(
    store: RunStore,
    view: View,
    request: QueueRequest,
    weighting: Weighting,
    reviewed: Collection[UnitKey],
    adjudicated: Sequence[UnitKey] = (),
) -> tuple[QueueTable, bool]:
    """Create and store a queue unless it exists; the second value is True if it is new.

    Args:
        store: Store of the queues.
        view: The run.
        request: Strategy, budget and conditions.
        weighting: Weighting of the losses.
        reviewed: The examples and units with a verdict.
        adjudicated: Result of `gold_keys`, for gold rows.

    Raises:
        InvalidRequestError: The quotas do not fit the run, or the strategy needs logits and the run stores none.
        QueueConflictError: A queue of this name was created from another request.
    """
    request = request.by_number(view.snapshot)
    settings = _settings(request, weighting)
    if request.name is not None:
        stored = _stored(store, view.snapshot, request.name)
        if stored is not None:
            return _checked(stored, settings), False
    content = _chosen(store, view, request, weighting, reviewed, adjudicated)
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
    # Queues of earlier versions lack settings that were added since.
    known = _DEFAULTS | stored.head["request"]
    differing = [name for name, value in settings.items() if known.get(name) != value]
    if differing:
        raise QueueConflictError(f"queue {stored.head['name']} exists with another {', '.join(differing)}")
    return stored


def _stored(store: RunStore, snapshot: Snapshot, name: str) -> QueueTable | None:
    check_name("queue", name)
    return store.documents.get(snapshot, FOLDER, name, _reader(snapshot))


def _reader(snapshot: Snapshot) -> Callable[[BinaryIO], QueueTable]:
    return partial(read_queue, is_structured=snapshot.description.is_structured)


def queue(store: RunStore, snapshot: Snapshot, name: str) -> QueueTable:
    """A queue as it was created.

    Raises:
        UnknownQueueError: The run has no queue of this name.
    """
    stored = _stored(store, snapshot, name)
    if stored is None:
        raise UnknownQueueError(f"run {snapshot.name} has no queue {name}")
    reason = _fault_of(stored, snapshot)
    if reason is not None:
        raise damage(f"{snapshot.root}/{FOLDER}/{name}.json", reason)
    return replace(stored, followed=outline(store, snapshot, name))


def _fault_of(stored: QueueTable, snapshot: Snapshot) -> str | None:
    """The fault of a queue whose rows cannot be of the run; None if it has none."""
    largest = max(pc.max(stored.rows[column]).as_py() or 0 for column in ("target", "prediction", "suggested"))
    if snapshot.num_classes is not None and largest >= (number := RunClasses(snapshot).number):
        return f"has class {largest}; the run has {number} classes"
    if len(stored) and ("unit" in stored.key_names) != snapshot.description.is_structured:
        return f"has rows of another task than {snapshot.description.task}"
    if len(stored) and snapshot.description.task == "multi_label":
        known = {WHOLE, *map(str, range(snapshot.num_classes or 0))}
        if unknown := set(stored.rows["unit"].unique().to_pylist()) - known:
            return f"has label {min(unknown)[:100]}; the run has {snapshot.num_classes} labels"
    return None


def outline(store: RunStore, snapshot: Snapshot, name: str) -> QueueTable | None:
    """A queue with the columns of `OUTLINE` only; None if the run has no queue of this name."""
    read = _reader(snapshot)
    return store.documents.get(snapshot, FOLDER, name, lambda file: read(file).outline(), part="outline")


def outlines(store: RunStore, snapshot: Snapshot, names: Collection[str | None] | None = None) -> list[QueueTable]:
    """Outlines of the queues of a run, by name.

    Args:
        store: Store of the queues.
        snapshot: The run.
        names: Names of the queues, of which some may not exist; None for all.
    """
    # One listing: a request may name thousands of queues that do not exist.
    known = store.documents.names(snapshot, FOLDER) if names is None or any(names) else []
    found = [outline(store, snapshot, name) for name in known if names is None or name in names]
    # Another request may delete a queue now.
    return [one for one in found if one is not None]


def delete_queue(store: RunStore, snapshot: Snapshot, name: str) -> None:
    """Delete a queue; the reviews of its rows stay.

    Raises:
        UnknownQueueError: The run has no queue of this name.
    """
    check_name("queue", name)
    if name not in store.documents.names(snapshot, FOLDER):
        raise UnknownQueueError(f"run {snapshot.name} has no queue {name}")
    stored = None
    # A damaged queue can be deleted too; nobody can lease its rows.
    with suppress(RunDamagedError):
        stored = outline(store, snapshot, name)
    store.documents.delete(snapshot, FOLDER, name)
    if stored is not None:
        store.leases.delete(snapshot, stored.identity)


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


def preview(
    store: RunStore,
    view: View,
    request: QueueRequest,
    weighting: Weighting,
    reviewed: Collection[UnitKey],
    adjudicated: Sequence[UnitKey] = (),
) -> QueueTable:
    """The queue that `create_queue` would create; it has no name and is not stored."""
    return _chosen(store, view, request.by_number(view.snapshot), weighting, reviewed, adjudicated)


def _chosen(
    store: RunStore,
    view: View,
    request: QueueRequest,
    weighting: Weighting,
    reviewed: Collection[UnitKey],
    adjudicated: Sequence[UnitKey],
) -> QueueTable:
    """The rows of a request, as a queue without a name."""
    settings, queues = _settings(request, weighting), partial(outlines, store, view.snapshot)
    return choose(store, view, request, settings, weighting, reviewed, adjudicated, queues)
