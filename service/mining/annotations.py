"""Annotations in requests: compared with the run, and stored as far as they are new."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from service.diagnostics.chunks import Integers
from service.errors import InvalidRequestError, RunFullError, UnknownExampleError
from service.formats.columns import ColumnError
from service.mining.annotation_rows import AnnotationRows, errors_of_columns
from service.queries.view import View
from service.runs.annotation_files import MAX_ANNOTATIONS, SCHEMA
from service.runs.store import RunStore
from service.schema.faults import fault
from service.schema.replies.consensus import AddedAnnotations

MAX_ANNOTATORS = 10_000


def add_annotations(store: RunStore, view: View, rows: AnnotationRows) -> AddedAnnotations:
    """Store annotations, all or none. Another label of the same annotator for an example replaces it.

    Args:
        store: Store of the run.
        view: The run.
        rows: The annotations.

    Raises:
        InvalidRequestError: The run has another task than classification, a label is no class of it, or two rows give
            an example different labels of one annotator.
        UnknownExampleError: The run does not have an example; names the first such row.
        RunFullError: The run would have too many annotations or annotators.
    """
    description = view.snapshot.description
    if description.is_structured:
        raise InvalidRequestError(
            f"annotations are for runs of the task classification; run {view.snapshot.name} has {description.task}"
        )
    _check_examples(view, rows)
    _check_labels(view, rows)
    sent = _distinct(rows)
    added: list[AddedAnnotations] = []

    def make(known: pa.Table) -> pa.Table:
        changes = _changes(known, sent)
        added.append(changes.effect)
        _check_number(view, known, changes)
        return changes.rows

    store.append_annotations(view.snapshot, make)
    return added[-1]


def _check_examples(view: View, rows: AnnotationRows) -> None:
    sent = view.register("sent", pa.table({"id": rows.ids, "place": pa.array(np.arange(len(rows.ids)))}))
    sql = f"SELECT min(place) AS place FROM {sent} ANTI JOIN (SELECT id FROM {view.every_row()}) USING (id)"
    place = view.row(sql)["place"]
    if place is not None:
        msg = f"run {view.snapshot.name} has no example {rows.ids[place].as_py()[:100]!r}"
        raise fault(UnknownExampleError, msg, place, rows.names[0], detail=f"row {place}: {msg}")


def _check_labels(view: View, rows: AnnotationRows) -> None:
    number = view.snapshot.num_classes or 2
    wrong = np.flatnonzero((rows.labels < 0) | (rows.labels >= number))
    if len(wrong):
        place = int(wrong[0])
        with errors_of_columns(rows.names):
            raise ColumnError(f"class {rows.labels[place]} is outside [0, {number})", place, rows.names[2])


def _distinct(rows: AnnotationRows) -> pa.Table:
    """The annotations, each pair of an example and an annotator once.

    Raises:
        InvalidRequestError: Two rows give a pair different labels; names the second one.
    """
    ids, annotators = rows.ids.dictionary_encode(), rows.annotators.dictionary_encode()
    keys = _codes(ids) * max(len(annotators.dictionary), 1) + _codes(annotators)
    _, first, places = np.unique(keys, return_index=True, return_inverse=True)
    differing = np.flatnonzero(rows.labels != rows.labels[first][places])
    if len(differing):
        second = int(differing[0])
        earlier = int(first[places[second]])
        msg = (
            f"annotator {rows.annotators[second].as_py()[:100]!r} gives example {rows.ids[second].as_py()[:100]!r} "
            f"class {rows.labels[second]}, but class {rows.labels[earlier]} in row {earlier}"
        )
        with errors_of_columns(rows.names):
            raise ColumnError(msg, second, rows.names[2])
    chosen = pa.array(np.sort(first))
    return pa.table([ids, annotators, pa.array(rows.labels, pa.int32())], SCHEMA.names).cast(SCHEMA).take(chosen)


class _Changes(NamedTuple):
    """The rows of a request that the run does not know, and the effect of storing them."""

    rows: pa.Table
    effect: AddedAnnotations


def _changes(known: pa.Table, sent: pa.Table) -> _Changes:
    both = pa.concat_tables([known, sent]).unify_dictionaries().combine_chunks()
    ids, annotators = both["id"].combine_chunks(), both["annotator"].combine_chunks()
    keys = _codes(ids) * max(len(annotators.dictionary), 1) + _codes(annotators)
    labels = both["label"].to_numpy()
    known_keys, sent_keys = keys[: len(known)], keys[len(known) :]
    order = np.argsort(known_keys)
    places = (
        order[np.searchsorted(known_keys[order], sent_keys).clip(max=max(len(known) - 1, 0))] if len(known) else None
    )
    is_known = np.zeros(len(sent), np.bool_) if places is None else known_keys[places] == sent_keys
    is_same = is_known.copy()
    if places is not None:
        is_same &= labels[places] == labels[len(known) :]
    added, unchanged = int((~is_known).sum()), int(is_same.sum())
    effect: AddedAnnotations = {
        "added": added,
        "changed": len(sent) - added - unchanged,
        "unchanged": unchanged,
        "num_annotations": len(known) + added,
    }
    return _Changes(sent.filter(pa.array(~is_same)), effect)


def _check_number(view: View, known: pa.Table, changes: _Changes) -> None:
    name, number = view.snapshot.name, changes.effect["num_annotations"]
    if changes.effect["added"] and number > MAX_ANNOTATIONS:
        msg = f"run {name} has {len(known)} annotations, {changes.effect['added']} more exceed {MAX_ANNOTATIONS}"
        raise RunFullError(msg)
    everyone = pa.chunked_array([*known["annotator"].chunks, *changes.rows["annotator"].chunks], SCHEMA.field(1).type)
    number = len(pc.unique(everyone.cast(pa.string())))
    if changes.effect["added"] and number > MAX_ANNOTATORS:
        raise RunFullError(f"run {name} would have {number} annotators; {MAX_ANNOTATORS} are possible")


def _codes(column: pa.DictionaryArray) -> Integers:
    codes: Integers = column.indices.to_numpy().astype(np.int64)
    return codes
