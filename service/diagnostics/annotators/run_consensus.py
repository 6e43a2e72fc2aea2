"""The consensus of annotators and model on the examples of an epoch of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypedDict

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from service.diagnostics.annotators.active_lab import active_lab
from service.diagnostics.annotators.annotations import Annotations
from service.diagnostics.annotators.annotator_table import AnnotatorTable, annotator_table
from service.diagnostics.annotators.crowdlab import Consensus, crowdlab
from service.diagnostics.annotators.model_votes import model_votes
from service.diagnostics.annotators.run_labels import ReviewerLabel, epoch_labels, reviewer_labels
from service.diagnostics.annotators.temperature import best_temperatures
from service.diagnostics.chunks import Floats, Integers, softmax
from service.diagnostics.rows import placed_chunks
from service.errors import InvalidRequestError
from service.queries.view import View
from service.runs.damage import damage
from service.runs.review_history import Verdicts
from service.schema.replies.consensus import AnnotatorStatistics

SUMMARY = b"consensus"


class ConsensusSummary(TypedDict):
    """The members of a consensus that are about all examples."""

    num_unknown: int
    model_weight: float | None
    annotators: list[AnnotatorStatistics]


@dataclass(frozen=True)
class RunConsensus:
    """The consensus on the examples of an epoch.

    Args:
        table: A row for each example of the epoch: `id`, `batch`, `row`, `target`, `num_annotations`, `consensus`,
            `quality`, `agreement`, `active_lab` and `active_lab_calibrated`. Consensus, quality and agreement are null
            without annotations.
    """

    table: pa.Table

    @cached_property
    def summary(self) -> ConsensusSummary:
        """The members that are about all examples."""
        summary: ConsensusSummary = orjson.loads(self.table.schema.metadata[SUMMARY])
        return summary


def run_consensus(view: View, epoch: int, verdicts: Verdicts | None = None) -> RunConsensus:
    """The consensus on the examples of an epoch, cached while rows, annotations and verdicts stay the same.

    Args:
        view: The run.
        epoch: The epoch.
        verdicts: Verdicts whose reviewers count as annotators; None for annotations only.

    Raises:
        InvalidRequestError: The run has another task than classification, or the epoch's logits are not all stored.
    """
    description = view.snapshot.description
    if description.is_structured:
        msg = f"the consensus of annotators is for runs of the task classification, not {description.task}"
        raise InvalidRequestError(msg)
    if not view.snapshot.has_logits(epoch):
        msg = "the consensus needs the probabilities of all classes; the logits of this epoch are not stored"
        raise InvalidRequestError(msg)
    files = view.snapshot.annotations.live()
    reviewers = None if verdicts is None else reviewer_labels(verdicts)
    # The labels of reviewers, since not every caller sees all reviews.
    digest = hashlib.sha256(orjson.dumps([[file.name for file in files], reviewers])).hexdigest()

    def compute() -> pa.Table:
        return _compute(view, epoch, view.snapshot.annotations.table(files), reviewers)

    return RunConsensus(view.cached_table(f"consensus {digest}", epoch, compute))


def _compute(view: View, epoch: int, stored: pa.Table, reviewers: Sequence[ReviewerLabel] | None) -> pa.Table:
    num_classes = view.snapshot.num_classes or 2
    if (largest := pc.max(stored["label"]).as_py() or 0) >= num_classes:
        raise damage(view.snapshot.annotations.path, f"has label {largest}; the run has {num_classes} classes")
    rows = _places(view, epoch)
    annotations, names, num_unknown = epoch_labels(rows, stored, reviewers, num_classes)

    def probabilities() -> Iterator[Floats]:
        for _, chunk in placed_chunks(view, epoch):
            yield softmax(chunk.logits)

    consensus = crowdlab(annotations, model_votes(annotations, probabilities()))
    people = annotator_table(annotations, consensus)
    temperatures = best_temperatures(annotations, probabilities)
    columns = {
        "num_annotations": _scattered(annotations, annotations.num_labels, len(rows), pa.int32(), 0),
        "consensus": _scattered(annotations, consensus.labels, len(rows), pa.int32()),
        "quality": _scattered(annotations, consensus.quality, len(rows), pa.float64()),
        "agreement": _scattered(annotations, consensus.agreement, len(rows), pa.float64()),
        "active_lab": pa.array(active_lab(annotations, probabilities, temperatures.of_cleanlab)),
        "active_lab_calibrated": pa.array(active_lab(annotations, probabilities, temperatures.of_labels)),
    }
    summary: ConsensusSummary = {
        "num_unknown": num_unknown,
        "model_weight": consensus.weights.model if consensus.weights.is_estimated else None,
        "annotators": _annotators(names, people, consensus),
    }
    for name, column in columns.items():
        rows = rows.append_column(name, column)
    return rows.replace_schema_metadata({SUMMARY: orjson.dumps(summary)})


def _places(view: View, epoch: int) -> pa.Table:
    """The rows of an epoch in the order of `placed_chunks`."""
    names = ["id", "batch", "row", "target"]
    parts = [rows.select(names) for rows in view.stored_batches(epoch, names)]
    schema = pa.schema({"id": pa.string(), "batch": pa.string(), "row": pa.int32(), "target": pa.int32()})
    return pa.concat_tables([schema.empty_table(), *(pa.Table.from_batches([part]).cast(schema) for part in parts)])


def _scattered(
    annotations: Annotations, values: Integers | Floats, rows: int, kind: pa.DataType, missing: int | None = None
) -> pa.Array:
    """The values of the annotated examples in a column for all examples."""
    places = np.zeros(rows, np.int64)
    places[annotations.annotated] = np.arange(1, len(values) + 1)
    column = pa.concat_arrays([pa.array([missing], kind), pa.array(values, kind)])
    return column.take(pa.array(places))


def _annotators(names: list[str], people: AnnotatorTable, consensus: Consensus) -> list[AnnotatorStatistics]:
    weights = consensus.weights
    statistics: list[AnnotatorStatistics] = [
        {
            # Reviews without a reviewer have an empty name.
            "annotator": name or None,
            "num_annotations": int(people.num_labels[place]),
            "num_shared": int(people.num_shared[place]),
            "weight": float(weights.annotators[place]) if weights.is_estimated else None,
            "quality": None if np.isnan(people.quality[place]) else float(people.quality[place]),
            "agreement": float(people.agreement[place]),
            "worst_class": int(people.worst_class[place]),
        }
        for place, name in enumerate(names)
    ]
    return sorted(
        statistics,
        key=lambda one: (one["quality"] is None, one["quality"] or 0.0, one["agreement"], one["annotator"] or ""),
    )
