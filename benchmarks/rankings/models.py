"""Logits of two models for data sets with wrong labels: out of sample, and after each epoch of a training."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier

FOLDS = 5
# Epochs of a network that predicts other rows, and of one whose own rows are ranked.
EPOCHS, TRAINING_EPOCHS = 10, 30
Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def folds(labels: Labels, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Indices of the rows to train on and to predict, of each fold."""
    splits = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class may have fewer rows than there are folds.
        warnings.simplefilter("ignore", UserWarning)
        return list(splits.split(labels, labels))


def linear_logits(features: Floats, labels: Labels, classes: int, seed: int) -> Floats:
    """(n, C) logits of logistic regressions that were trained without the row's fold."""
    logits = np.zeros((len(labels), classes))
    for train, test in folds(labels, seed):
        model = LogisticRegression(max_iter=300).fit(features[train], labels[train])
        logits[test] = _log(model.predict_proba(features[test]), model.classes_, classes)
    return logits


def network_logits(features: Floats, labels: Labels, classes: int, seed: int) -> Floats:
    """(n, C) logits of networks that were trained without the row's fold."""
    logits = np.zeros((len(labels), classes))
    for train, test in folds(labels, seed):
        logits[test] = _course(features[train], labels[train], features[test], classes, seed, EPOCHS)[-1]
    return logits


def training_logits(features: Floats, labels: Labels, classes: int, seed: int) -> Floats:
    """(epochs, n, C) logits of one network of the rows that it is trained on, after each epoch."""
    return _course(features, labels, features, classes, seed, TRAINING_EPOCHS)


def _course(train: Floats, labels: Labels, test: Floats, classes: int, seed: int, epochs: int) -> Floats:
    model = MLPClassifier(64, batch_size=min(64, len(train)), learning_rate_init=3e-3, random_state=seed)
    known = np.arange(classes)
    logits = np.empty((epochs, len(test), classes))
    for epoch in range(epochs):
        model.partial_fit(train, labels, classes=known)
        logits[epoch] = _log(model.predict_proba(test), known, classes)
    return logits


def _log(probabilities: Floats, known: Labels, classes: int) -> Floats:
    """Log-probabilities, which are logits; a class that the model does not know has the lowest of float32's."""
    logits = np.full((len(probabilities), classes), -80.0)
    logits[:, known] = np.log(np.maximum(probabilities, 1e-35))
    return logits
