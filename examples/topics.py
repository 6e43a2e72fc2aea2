"""Texts with several topics: scikit-learn's `make_multilabel_classification`, with flipped labels."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import make_multilabel_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, cross_val_predict

from examples.planted import Array, Planted

TEXTS, VOCABULARY, WORDS, TOPICS, TOPICS_PER_TEXT = 2000, 100, 100, 10, 2
FOLDS, FLIPPED_SHARE = 5, 0.02


def make_topics(seed: int = 0) -> Planted:
    """Draw the texts, flip some of their labels, and train a logistic regression of each topic in folds."""
    counts, true = make_multilabel_classification(
        TEXTS, VOCABULARY, n_classes=TOPICS, n_labels=TOPICS_PER_TEXT, length=WORDS, random_state=seed
    )
    rng = np.random.default_rng(seed)
    given = np.where(rng.random(true.shape) < FLIPPED_SHARE, 1 - true, true)
    return Planted(
        task="multi_label",
        what=f"{TEXTS} texts with {TOPICS} topics, {FLIPPED_SHARE:.0%} of the labels flipped",
        logits=_held_out_logits(counts, given, seed),
        targets=given,
        true=true,
        class_names=[f"topic {number}" for number in range(TOPICS)],
        attributes={"text": [_text(row) for row in counts.astype(int)]},
    )


def _held_out_logits(counts: Array, given: Array, seed: int) -> Array:
    model, folds = LogisticRegression(C=0.1, max_iter=1000), KFold(FOLDS, shuffle=True, random_state=seed)
    scaled = np.sqrt(counts)
    columns = [cross_val_predict(model, scaled, label, cv=folds, method="decision_function") for label in given.T]
    return np.stack(columns, 1).astype(np.float32)


def _text(counts: Array) -> str:
    return " ".join(f"word{word}" for word in np.repeat(np.arange(len(counts)), counts))
