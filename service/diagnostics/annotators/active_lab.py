"""ActiveLab (Goh & Mueller 2023, arXiv 2301.11856): the value of one more label for each example.

Under the temperature of cleanlab the scores equal those of its `get_active_learning_scores`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from service.diagnostics.annotators.annotations import Annotations
from service.diagnostics.annotators.crowdlab import crowdlab
from service.diagnostics.annotators.model_votes import Probabilities, model_votes
from service.diagnostics.annotators.temperature import scaled
from service.diagnostics.chunks import Floats


def active_lab(annotations: Annotations, probabilities: Probabilities, temperature: float) -> Floats:
    """(N,) float64 in [0, 1], the score of each example: the lower it is, the more one further label tells.

    Args:
        annotations: The annotations; examples without any count as unlabelled.
        probabilities: Starts a pass over the probabilities of all N examples.
        temperature: One of `best_temperatures`.
    """

    def calibrated() -> Iterator[Floats]:
        return (chunk if temperature == 1 else scaled(chunk, temperature) for chunk in probabilities())

    model = model_votes(annotations, calibrated())
    consensus = crowdlab(annotations, model)
    weights = consensus.weights
    quality, weight = model.top_p.copy(), np.full(len(model.top_p), weights.model)
    quality[annotations.annotated] = consensus.quality
    of_annotations = weights.annotators[annotations.annotators]
    weight[annotations.annotated] += np.bincount(annotations.rows, of_annotations, len(annotations.annotated))
    # One more annotator of average trust who knows nothing.
    further = float(weights.annotators.mean()) if annotations.num_annotators else 1.0
    scores: Floats = (quality * weight + further / annotations.num_classes) / (weight + further)
    return scores
