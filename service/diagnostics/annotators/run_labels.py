"""The labels of a run's annotators, and of its reviewers if they count too, for the examples of an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from service.diagnostics.annotators.annotations import Annotations
from service.runs.annotation_files import SCHEMA
from service.runs.review_history import Verdicts
from service.runs.units import WHOLE


class EpochLabels(NamedTuple):
    """The labels of annotators for the examples of an epoch.

    Args:
        annotations: The labels; the place of an example is its row.
        names: Names of the annotators by their number; that of reviews without a reviewer is empty.
        num_unknown: Number of labels of examples that the epoch lacks.
    """

    annotations: Annotations
    names: list[str]
    num_unknown: int


# The label that a reviewer's verdict says: id of the example, name of the reviewer (empty without one), and the class;
# None for the given label.
ReviewerLabel = tuple[str, str, int | None]


def reviewer_labels(verdicts: Verdicts) -> list[ReviewerLabel]:
    """The labels that verdicts say: `ok` the given one, `wrong` with a class that class, others none."""
    return [
        (key.id, review["reviewer"] or "", None if review["verdict"] == "ok" else review["label"])
        for key, standing in verdicts.items()
        if key.unit == WHOLE
        for review in standing.reviews
        if review["verdict"] == "ok" or (review["verdict"] == "wrong" and review["label"] is not None)
    ]


def epoch_labels(
    rows: pa.Table, stored: pa.Table, reviewers: Sequence[ReviewerLabel] | None, num_classes: int
) -> EpochLabels:
    """Find the examples of labels.

    Args:
        rows: `id` and `target` of the examples of the epoch.
        stored: The annotations of the run, of `service.runs.annotation_files.SCHEMA`.
        reviewers: Labels of reviewers, who count as annotators; a reviewer's label replaces an annotation of the same
            name. None for annotations only.
        num_classes: Number of classes of the run.
    """
    labels = stored if reviewers is None else pa.concat_tables([stored, _of_reviewers(rows, reviewers)])
    labels = labels.unify_dictionaries().combine_chunks()
    identity, annotator = labels["id"].combine_chunks(), labels["annotator"].combine_chunks()
    places = pc.index_in(identity.dictionary, value_set=rows["id"]).fill_null(-1).to_numpy()
    # Dictionaries may be empty, and then no code is there.
    examples = places.astype(np.int64)[identity.indices.to_numpy()]
    annotators = annotator.indices.to_numpy().astype(np.int64)
    if reviewers is not None:
        keys = identity.indices.to_numpy().astype(np.int64) * (len(annotator.dictionary) + 1) + annotators
        _, last = np.unique(keys[::-1], return_index=True)
        counting = np.sort(len(keys) - 1 - last)
    else:
        counting = np.arange(len(examples))
    known = counting[examples[counting] >= 0]
    present, numbers = np.unique(annotators[known], return_inverse=True)
    names = annotator.dictionary.take(pa.array(present)).to_pylist()
    classes = labels["label"].to_numpy().astype(np.int64)[known]
    annotations = Annotations.of(examples[known], numbers, classes, len(names), num_classes)
    return EpochLabels(annotations, names, len(counting) - len(known))


def _of_reviewers(rows: pa.Table, reviewers: Sequence[ReviewerLabel]) -> pa.Table:
    ids, names, labels = zip(*reviewers, strict=True) if reviewers else ((), (), ())
    identities = pa.array(ids, pa.string())
    given = rows["target"].combine_chunks().take(pc.index_in(identities, value_set=rows["id"]))
    # An example that the epoch lacks has no given label, and none is needed.
    known = pc.coalesce(pa.array(labels, pa.int32()), given.cast(pa.int32()), pa.scalar(0, pa.int32()))
    columns = [identities.dictionary_encode(), pa.array(names, pa.string()).dictionary_encode(), known]
    return pa.table(columns, SCHEMA.names).cast(SCHEMA)
