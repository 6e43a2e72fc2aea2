"""The wrong labels that are left in a run, and what the next rows of a queue will find."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.diagnostics.exact import CONFIDENCE
from service.diagnostics.remaining import Evidence
from service.errors import UnknownQueueError
from service.mining.next_rows import OPEN, next_rows
from service.mining.progress import MIN_VERDICTS
from service.mining.queue_table import QueueTable
from service.mining.queues import outlines, queue
from service.mining.random_slice import control_queues, random_slice
from service.queries.view import View
from service.runs.review_history import ReviewHistory
from service.runs.store import RunStore
from service.schema.replies.remaining import LabelsLeft, NextRows, Remaining, RemainingStatus


def remaining(
    store: RunStore,
    view: View,
    epoch: int,
    *,
    queue_name: str | None = None,
    rows: int | None = None,
    control: str | None = None,
) -> Remaining:
    """The reply of `GET /runs/{run}/remaining`.

    Args:
        store: Store of the queues and reviews.
        view: The run.
        epoch: Epoch of the examples.
        queue_name: Queue of the prediction; default: the newest one with open rows.
        rows: Number of next rows to predict; default: several.
        control: The only queue whose random rows count; default: all.

    Raises:
        UnknownQueueError: The run has no queue of a name, or the one of `control` has no random rows of all examples.
    """
    history, queues = store.reviews(view.snapshot), outlines(store, view.snapshot)
    drawn = control_queues(queues, view.num_examples(epoch), control)
    if control is not None and not drawn:
        raise UnknownQueueError(
            f"run {view.snapshot.name} has no queue {control[:100]} with random rows of all examples of epoch {epoch}"
        )
    state = history.last, history.size, [(one.head["name"], one.identity) for one in queues]
    left = view.cached(
        ("labels left", epoch, control, state), lambda: _labels_left(view, epoch, drawn, queues, history)
    )
    following = view.cached(
        ("next rows", queue_name, rows, state), lambda: _next(store, view, history, queues, queue_name, rows)
    )
    return {"run": view.snapshot.name, **left, "next": following}


def _labels_left(
    view: View, epoch: int, drawn: Sequence[QueueTable], queues: Sequence[QueueTable], history: ReviewHistory
) -> LabelsLeft:
    evidence, slice_reply = random_slice(view, epoch, drawn, queues, history)
    status = _status(drawn, evidence)
    return {
        "epoch": epoch,
        "status": status,
        "message": _message(status, evidence),
        "num_examples": view.num_examples(epoch),
        "num_judged": evidence.apart_judged + evidence.population_judged,
        "num_wrong": evidence.apart_wrong + evidence.population_wrong,
        "num_left": evidence.num_left,
        "confidence": CONFIDENCE,
        "estimate": evidence.estimate(),
        "upper": evidence.upper(),
        "upper_if_undecided_wrong": evidence.upper_if_undecided_wrong(),
        "slice": slice_reply,
    }


def _status(drawn: Sequence[QueueTable], evidence: Evidence) -> RemainingStatus:
    if not drawn:
        return "no_random_slice"
    if evidence.sample < min(MIN_VERDICTS, evidence.population):
        return "too_few_verdicts"
    return "estimated" if evidence.wrong else "none_found"


def _message(status: RemainingStatus, evidence: Evidence) -> str:
    if status == "no_random_slice":
        return (
            "The wrong labels that are left cannot be estimated: no queue has a random sample of all examples. Create "
            "one with the strategy random, or a mix with it."
        )
    if status == "too_few_verdicts":
        return (
            f"The random sample has {evidence.sample} verdicts of ok or wrong, too few for an estimate; review at "
            f"least {MIN_VERDICTS} of its rows."
        )
    bound = (
        f"With {CONFIDENCE:.0%} confidence at most {evidence.upper()} of the {evidence.num_left} labels without a "
        "verdict are wrong"
    )
    if status == "none_found":
        return (
            f"{bound}. The sample of {evidence.sample} has no wrong label: none was found, which is no proof of none."
        )
    return f"{bound}; the estimate is {evidence.estimate():.0f}."


def _next(
    store: RunStore,
    view: View,
    history: ReviewHistory,
    queues: Sequence[QueueTable],
    name: str | None,
    rows: int | None,
) -> NextRows | None:
    """The prediction for a queue, by default for the newest one with open rows, else for the newest one."""
    states = {str(one.head["name"]): one.tracker.at(history) for one in queues}
    if name is None:
        newest = sorted(queues, key=lambda one: one.head["created_at"], reverse=True)
        names = [str(one.head["name"]) for one in newest]
        with_open = (one for one in names if np.any(states[one].codes == OPEN))
        name = next(with_open, names[0] if names else None)
        if name is None:
            return None
    whole = queue(store, view.snapshot, name)
    known = states[name] if name in states else whole.tracker.at(history)
    return next_rows(whole, known, rows)
