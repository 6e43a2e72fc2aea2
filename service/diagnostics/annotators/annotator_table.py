"""The quality of each annotator, by CROWDLAB."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.diagnostics.annotators.annotations import Annotations, counted
from service.diagnostics.annotators.crowdlab import Consensus
from service.diagnostics.chunks import Booleans, Floats, Integers


@dataclass(frozen=True, eq=False)
class AnnotatorTable:
    """Columns with an entry for each of M annotators; an annotator without annotations has NaN and -1.

    Args:
        num_labels: (M,) int64, annotations.
        num_shared: (M,) int64, those of examples that others annotated too.
        quality: (M,) float64 in [0, 1], weighted mean of the probabilities of the annotations and of their agreement
            with the consensus; NaN without a shared one, except if no annotator has one.
        agreement: (M,) float64 in [0, 1], share of annotations that are the consensus.
        worst_class: (M,) int64, the given class that is least often the consensus: of equals the most frequent one,
            then that whose consensus has the better quality, then the smallest number.
    """

    num_labels: Integers
    num_shared: Integers
    quality: Floats
    agreement: Floats
    worst_class: Integers


def annotator_table(annotations: Annotations, consensus: Consensus) -> AnnotatorTable:
    """Compute the quality of each annotator from the consensus."""
    weights = consensus.weights
    agrees = annotations.labels == consensus.labels[annotations.rows]
    several = annotations.has_several[annotations.rows]
    number, shared = _sums(annotations), _sums(annotations, several)
    quality = _ratio(_sums(annotations, consensus.p[annotations.votes.of_annotations]), number)
    if weights.is_estimated:
        # The mean weight of all annotators of an example, as cleanlab has it.
        of_annotators = weights.annotators.sum() * annotations.num_labels.mean() / annotations.num_annotators
        share = weights.model / (weights.model + of_annotators)
        quality = share * quality + (1 - share) * _ratio(_sums(annotations, agrees & several), shared)
    return AnnotatorTable(
        number.astype(np.int64),
        shared.astype(np.int64),
        quality,
        _ratio(_sums(annotations, agrees), number),
        _worst_classes(annotations, consensus, agrees),
    )


def _worst_classes(annotations: Annotations, consensus: Consensus, agrees: Booleans) -> Integers:
    pairs = annotations.annotators * annotations.num_classes + annotations.labels
    keys, places, counts = counted(pairs, annotations.num_annotators * annotations.num_classes)
    accuracy = np.bincount(places, agrees, len(keys)) / counts
    quality = np.bincount(places, consensus.quality[annotations.rows], len(keys)) / counts
    annotators = keys // annotations.num_classes
    order = np.lexsort((keys, -quality, -counts, accuracy, annotators))
    found, first = np.unique(annotators[order], return_index=True)
    result = np.full(annotations.num_annotators, -1)
    result[found] = keys[order[first]] % annotations.num_classes
    return result


def _sums(annotations: Annotations, values: Floats | Booleans | None = None) -> Floats:
    """(M,) float64, the sum over the annotations of each annotator; their number by default."""
    return np.bincount(annotations.annotators, values, annotations.num_annotators).astype(np.float64)


def _ratio(part: Floats, whole: Floats) -> Floats:
    """`part` / `whole`, NaN where `whole` is 0."""
    shares: Floats = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return shares
