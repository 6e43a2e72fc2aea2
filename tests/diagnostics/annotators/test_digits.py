"""Simulated annotators of digits: the consensus beats the majority and the model, and further labels help."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from threadpoolctl import threadpool_limits

from service.diagnostics.annotators.active_lab import active_lab
from service.diagnostics.annotators.annotations import Annotations
from service.diagnostics.annotators.crowdlab import crowdlab, majority
from service.diagnostics.annotators.model_votes import ModelVotes, model_votes
from service.diagnostics.annotators.temperature import best_temperatures
from service.diagnostics.chunks import Floats, Integers

ANNOTATORS, CLASSES, FURTHER = 20, 10, 300
SEEDS = 5


def consensus(examples: Integers, annotators: Integers, labels: Integers, p: Floats) -> tuple[Annotations, ModelVotes]:
    annotations = Annotations.of(examples, annotators, labels, ANNOTATORS, CLASSES)
    return annotations, model_votes(annotations, [p])


def shares_of_right_labels(seed: int) -> list[float]:
    """Of consensus, majority and model; of the consensus with further labels: calibrated, cleanlab's, random."""
    generator = np.random.default_rng(seed)
    pictures, true = load_digits(return_X_y=True)
    number = len(true)
    skill = generator.uniform(0.4, 0.95, ANNOTATORS)

    def label(examples: Integers, annotators: Integers) -> Integers:
        wrong = (true[examples] + generator.integers(1, CLASSES, len(examples))) % CLASSES
        return np.where(generator.random(len(examples)) < skill[annotators], true[examples], wrong)

    counts = generator.integers(1, 4, number)
    order = generator.random((number, ANNOTATORS)).argsort(axis=1)
    examples = np.repeat(np.arange(number), counts)
    annotators = np.concatenate([order[row, : counts[row]] for row in range(number)])
    labels = label(examples, annotators)
    first = labels[np.searchsorted(examples, np.arange(number))]
    # On a busy machine several threads of BLAS take a hundred times as long.
    with threadpool_limits(1):
        p = cross_val_predict(LogisticRegression(max_iter=300), pictures / 16, first, cv=3, method="predict_proba")

    annotations, model = consensus(examples, annotators, labels, p)
    estimates = crowdlab(annotations, model).labels, majority(annotations, model), model.top
    temperatures = best_temperatures(annotations, lambda: [p])
    scores = (active_lab(annotations, lambda: [p], one) for one in reversed(temperatures))
    more = order[np.arange(number), counts]
    further = label(np.arange(number), more)
    for score in (*scores, generator.random(number)):
        lowest = np.argsort(score)[:FURTHER]
        parts = (examples, lowest), (annotators, more[lowest]), (labels, further[lowest])
        estimates = (*estimates, crowdlab(*consensus(*map(np.concatenate, parts), p)).labels)
    return [float(np.mean(estimate == true)) for estimate in estimates]


@pytest.mark.slow
def test_the_consensus_and_the_calibrated_scores_are_the_best() -> None:
    shares = np.mean([shares_of_right_labels(seed) for seed in range(SEEDS)], axis=0)
    # The figures of docs/annotators.md.
    np.testing.assert_allclose(shares, [0.948, 0.832, 0.867, 0.968, 0.958, 0.952], atol=0.003)
    crowd, votes, model, calibrated, as_cleanlab, random = shares
    assert crowd > max(votes, model) + 0.05
    assert calibrated > as_cleanlab + 0.005 > random + 0.005
