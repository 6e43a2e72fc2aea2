"""The corrected data set of a run of labels, tokens or masks: the labels have the axes of the targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.errors import InvalidRequestError
from service.exports.corrected.decisions import comments_of, reviewers_of
from service.exports.corrected.table import (
    ID_ORDER,
    REVIEW_COLUMNS,
    AttributeSql,
    CorrectedTable,
    Layout,
    attribute_sql,
    flat_texts,
    regrouped,
)
from service.exports.corrected.unit_decisions import ExampleDecisions, Labels, unit_decisions
from service.exports.json_stream import dump
from service.queries.last_rows import last_values
from service.queries.sql import numbered
from service.queries.view import View
from service.runs.review_history import ReviewHistory
from service.schema.structure import Task

Integers: TypeAlias = NDArray[np.int64]
Booleans: TypeAlias = NDArray[np.bool_]
# Elements that are in memory at once, as many as four masks of 512 x 512.
ELEMENTS_AT_ONCE = 2**20
MAX_ROWS_AT_ONCE = 16_384
_LABELS = ("label", "given_label")
LABEL_COLUMNS: Mapping[Task, tuple[str, ...]] = {
    "multi_label": ("label", "label_index", "given_label", "given_label_index"),
    "tokens": ("label", "label_index", "given_label", "given_label_index"),
    "masks": _LABELS,
}


def element_table(view: View, history: ReviewHistory, layout: Layout) -> CorrectedTable:
    """The examples of a run of labels, tokens or masks.

    An example of several epochs has the targets and the attributes that were sent last.

    Args:
        view: The run.
        history: The reviews of the run.
        layout: The form of the rows.

    Raises:
        InvalidRequestError: A mask was sent as a histogram, which does not tell where its classes are; or masks have
            different numbers of axes.
    """
    task = view.snapshot.description.task
    attributes = attribute_sql(view, layout, ("id", *LABEL_COLUMNS[task], *REVIEW_COLUMNS))
    size = view.row(
        f"""SELECT max(list_product(shape)) AS size, max(len(shape)) AS axes, min(len(shape)) AS least_axes,
            count(element_counts) AS histograms FROM {view.stored()}"""
    )
    if size["histograms"]:
        msg = "a mask of this run was sent as a histogram, which does not tell where its classes are"
        raise InvalidRequestError(msg)
    if size["axes"] != size["least_axes"]:
        raise InvalidRequestError(f"masks of this run have {size['least_axes']} and {size['axes']} axes")
    rows = max(1, min(MAX_ROWS_AT_ONCE, ELEMENTS_AT_ONCE // max(1, int(size["size"] or 1))))
    epoch, packed = view.snapshot.epoch(), "{'shape': shape, 'targets': targets} AS elements"
    newest = f"(SELECT id, {packed} FROM {view.stored(epoch)})"
    earlier = f"(SELECT *, {packed} FROM {view.stored()} WHERE epoch < {epoch})"
    sql = f"""SELECT {numbered(["id", "elements.shape", "elements.targets", *attributes.values])}
        FROM ({last_values(newest, earlier, "elements")}) LEFT JOIN {attributes.source} USING (id)
        ORDER BY {ID_ORDER}"""
    batches = regrouped(view.batches(sql, rows=rows), rows)
    rewritten = _Rewritten(view, unit_decisions(view, history), layout, attributes)
    return CorrectedTable.of(map(rewritten.batch, batches), attributes.json_columns)


class _Rewritten:
    """Converts stored rows to those of the data set.

    Args:
        view: The run.
        decisions: The decisions on the reviewed examples.
        layout: The form of the rows.
        attributes: The attributes.
    """

    def __init__(
        self, view: View, decisions: Mapping[str, ExampleDecisions], layout: Layout, attributes: AttributeSql
    ) -> None:
        description = view.snapshot.description
        self._task, self._names = description.task, description.class_names
        self._decisions, self._layout, self._attributes = decisions, layout, attributes

    def batch(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The columns of the data set for rows with the columns id, shape, targets and attributes."""
        ids, shapes, targets = rows.columns[:3]
        offsets, given = targets.offsets.to_numpy(), targets.values.to_numpy()
        first = int(offsets[0]) if len(offsets) else 0
        given = given[first : int(offsets[-1]) if len(offsets) else 0]
        used, statuses, whole, reviews = given.copy(), [], [], []
        for row, identity in enumerate(ids.to_pylist()):
            decisions = self._decisions.get(identity)
            place = slice(int(offsets[row]) - first, int(offsets[row + 1]) - first)
            status, labels = ("unreviewed", used[place]) if decisions is None else self._apply(decisions, given[place])
            statuses.append(status)
            whole.append(labels is not None)
            reviews.append([] if decisions is None else decisions.reviews)
            if labels is not None:
                used[place] = labels
        axes = np.array(shapes.to_pylist(), np.int64).reshape(len(rows), len(shapes[0]) if len(rows) else 1)
        has_label = np.array(whole, np.bool_)
        columns = [*self._labels(used, axes, has_label), *self._labels(given, axes, np.ones(len(rows), np.bool_))]
        reviewers, comments = list(map(reviewers_of, reviews)), list(map(comments_of, reviews))
        texts = (pa.array(reviewers, pa.list_(pa.string())), pa.array(comments, pa.string()))
        if self._layout.flat:
            texts = flat_texts(reviewers, comments)
            columns = [_as_json(column) for column in columns]
        arrays = [ids, *rows.columns[3:], *columns, pa.array(statuses, pa.string()), *texts]
        names = ["id", *self._attributes.names, *LABEL_COLUMNS[self._task], *REVIEW_COLUMNS]
        return pa.record_batch(arrays, names)

    def _apply(self, decisions: ExampleDecisions, targets: Labels) -> tuple[str, Labels | None]:
        return decisions.apply(targets, self._names if self._task == "tokens" else None)

    def _labels(self, labels: Labels, axes: Integers, has: Booleans) -> Iterator[pa.Array]:
        """The labels by name, and by number unless they are those of masks."""
        numbers = pa.array(labels, pa.int32(), mask=labels < 0)
        nested = _nested(numbers, axes, has)
        if self._task == "masks":
            yield nested
            return
        if self._task == "tokens":
            yield nested if self._names is None else _nested(pa.array(self._names).take(numbers), axes, has)
        else:
            yield _present(labels, axes, has, self._names)
        yield nested


def _nested(values: pa.Array, axes: Integers, has: Booleans) -> pa.Array:
    """Lists in each other of the shapes `axes`, (N, axes); null where an example has none."""
    for axis in reversed(range(axes.shape[1])):
        lengths = np.repeat(axes[:, axis], axes[:, :axis].prod(axis=1))
        mask = pa.array(~has) if axis == 0 and not has.all() else None
        values = pa.ListArray.from_arrays(_offsets(lengths), values, mask=mask)
    return values


def _present(labels: Labels, axes: Integers, has: Booleans, names: Sequence[str] | None) -> pa.Array:
    """The labels that each example has, by name or by number."""
    lengths = axes[:, 0]
    rows = np.repeat(np.arange(len(lengths)), lengths)
    number = np.arange(len(labels)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    is_present = labels == 1
    present = pa.array(number[is_present], pa.int32())
    counts = np.bincount(rows[is_present], minlength=len(lengths))
    values = present if names is None else pa.array(names).take(present)
    return pa.ListArray.from_arrays(_offsets(counts), values, mask=None if has.all() else pa.array(~has))


def _offsets(lengths: Integers) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())


def _as_json(column: pa.Array) -> pa.Array:
    return pa.array([None if value is None else dump(value).decode() for value in column.to_pylist()], pa.string())
