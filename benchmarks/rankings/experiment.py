"""The experiment: planted wrong labels, logits of models, and what each ranking finds of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
from sklearn.metrics import average_precision_score

from benchmarks.rankings.data_sets import DataSet
from benchmarks.rankings.models import Floats, Labels, linear_logits, network_logits, training_logits
from benchmarks.rankings.noise import KINDS
from benchmarks.rankings.review import UNREVIEWED, Booleans, Review, fixed, recommended, reranked
from benchmarks.rankings.scores import ranks, scores, scores_of_epochs

LINEAR, NETWORK = "logistic regression, out of sample", "network, out of sample"
TRAINING, BOTH = "network, 30 epochs of its training", "both models out of sample (`runs`)"
COOLED = "network, out of sample, its logits divided by 4"
# Models for which `recommended` has to find as much as the best strategy.
WITH_BAR = LINEAR, NETWORK, TRAINING
RECOMMENDED = "recommended"
RERANKED = "re-ranked by verdicts", "re-ranked by verdicts, rows without one as right"


class Finding(NamedTuple):
    """The result of a ranking for a data set.

    Args:
        data_set: Name of the data set.
        noise: Kind of the planted labels.
        model: The model.
        ranking: The ranking.
        found: Share of the planted labels among as many reviewed rows.
        precision: Average precision; None if the order depends on verdicts.
    """

    data_set: str
    noise: str
    model: str
    ranking: str
    found: float
    precision: float | None


def findings(data: DataSet, seed: int, *, linear_only: bool = False) -> Iterator[Finding]:
    """Plant wrong labels of each kind in a data set, and yield the result of each ranking.

    Args:
        data: The data set.
        seed: Seed of the wrong labels and of the models.
        linear_only: True to leave out all models but the logistic regression.
    """
    for noise, plant in KINDS.items():
        labels = plant(data.labels, data.num_classes, np.random.default_rng(seed))
        wrong = labels != data.labels
        if not wrong.any():
            continue
        for model, of_model, logits in islice(_models(data, labels, seed), 1 if linear_only else None):
            for ranking, found, precision in _rankings(of_model, logits, labels, wrong):
                yield Finding(data.name, noise, model, ranking, found, precision)


def _models(data: DataSet, labels: Labels, seed: int) -> Iterator[tuple[str, Mapping[str, Floats], Floats]]:
    """The name of each model, its scores, and its logits, those of the last epoch."""
    arguments = data.features, labels, data.num_classes, seed
    # Logits are stored in float32.
    linear = linear_logits(*arguments).astype(np.float32).astype(np.float64)
    of_linear = scores(linear, labels)
    yield LINEAR, of_linear, linear
    network = network_logits(*arguments).astype(np.float32).astype(np.float64)
    of_network = scores(network, labels)
    yield NETWORK, of_network, network
    training = training_logits(*arguments).astype(np.float32).astype(np.float64)
    yield TRAINING, scores_of_epochs(training, labels), training[-1]
    yield COOLED, scores(network / 4, labels), network / 4
    yield BOTH, {name: ranks(of_linear[name]) + ranks(of_network[name]) for name in of_linear}, network


def _rankings(
    of_model: Mapping[str, Floats], logits: Floats, labels: Labels, wrong: Booleans
) -> Iterator[tuple[str, float, float | None]]:
    budget = int(wrong.sum())
    for name, score in of_model.items():
        yield name, _found(fixed(score), wrong, budget), float(average_precision_score(wrong, -ranks(score)))
    first = next(iter(of_model))
    reviews: dict[str, Review] = {RECOMMENDED: partial(recommended, of_model, (first, "adjusted_margin"))}
    for name, weight in zip(RERANKED, (0.0, UNREVIEWED), strict=True):
        reviews[name] = partial(reranked, of_model, first, logits, labels, unreviewed=weight)
    for name, review in reviews.items():
        yield name, _found(review, wrong, budget), None


def _found(review: Review, wrong: Booleans, budget: int) -> float:
    """Share of the wrong labels that a review finds."""
    return float(wrong[review(wrong, budget)].sum() / wrong.sum())
