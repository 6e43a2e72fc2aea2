"""Simulated reviews: a number of rows are judged in queues, and each queue may use the verdicts on those before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from benchmarks.rankings.models import Floats, Labels
from benchmarks.rankings.scores import ranks
from service.mining.recommended import Found, better_of

Booleans = NDArray[np.bool_]
# Rows of a queue.
QUEUE = 25
# Wrong and right labels that a model of the verdicts needs at least.
MIN_OF_EACH = 3
# Weight of a row without a verdict, if it counts as right.
UNREVIEWED = 0.05


def recommended(scores: Mapping[str, Floats], pair: tuple[str, str], wrong: Booleans, budget: int) -> Booleans:
    """Mark the rows that a review finds whose queues are all of the strategy `recommended`.

    Args:
        scores: Score of each strategy, the lowest first.
        pair: The two strategies between which the verdicts decide.
        wrong: (n,) the verdict on each row.
        budget: Number of rows to review.
    """
    done = np.zeros(len(wrong), dtype=bool)
    counts = np.zeros((2, 2), dtype=np.int64)  # [strategy, (wrong, judged)]
    while (number := min(QUEUE, budget - int(done.sum()))) > 0:
        better = better_of((Found(*counts[0].tolist()), Found(*counts[1].tolist())))
        if better is None:
            rows, strategies = _in_turn([scores[name] for name in pair], done, number)
            for strategy in range(2):
                judged = rows[strategies == strategy]
                counts[strategy] += wrong[judged].sum(), len(judged)
        else:
            rows = _first(scores[pair[better]], done, number)
        done[rows] = True
    return done


def _first(score: Floats, done: Booleans, number: int) -> NDArray[np.int64]:
    return np.argsort(np.where(done, np.inf, score), kind="stable")[:number]


def _in_turn(scores: Sequence[Floats], done: Booleans, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first rows of a mix in equal shares, and the number of the strategy of each."""
    places = np.array([ranks(np.where(done, np.inf, score)) for score in scores])
    positions = places * len(scores) + np.arange(len(scores))[:, None]
    rows = _first(positions.min(axis=0), done, number)
    return rows, positions.argmin(axis=0)[rows]


def reranked(
    scores: Mapping[str, Floats],
    first: str,
    logits: Floats,
    labels: Labels,
    wrong: Booleans,
    budget: int,
    unreviewed: float = 0.0,
) -> Booleans:
    """Mark the rows that a review finds whose queues are ranked by a logistic model of the verdicts so far.

    The features are the margins, the log-probability of the label, the given and the predicted class.

    Args:
        scores: Score of each strategy.
        first: Strategy of the queues before the model can be fitted.
        logits: (n, C) finite.
        labels: (n,) given classes.
        wrong: (n,) the verdict on each row.
        budget: Number of rows to review.
        unreviewed: Weight of the rows without a verdict, which then count as right.
    """
    features = _features(scores, logits, labels)
    done = np.zeros(len(wrong), dtype=bool)
    while (number := min(QUEUE, budget - int(done.sum()))) > 0:
        found = done & wrong
        fitted = done if unreviewed == 0 else np.ones_like(done)
        if min(found.sum(), (fitted & ~found).sum()) < MIN_OF_EACH:
            rows = _first(scores[first], done, number)
        else:
            weights = np.where(done, 1.0, unreviewed)[fitted]
            model = LogisticRegression(C=0.1, max_iter=200).fit(features[fitted], found[fitted], weights)
            rows = _first(-model.decision_function(features), done, number)
        done[rows] = True
    return done


def _features(scores: Mapping[str, Floats], logits: Floats, labels: Labels) -> Floats:
    margin = scores["logit_margin"]
    numbers = np.stack([margin, scores["adjusted_margin"] - margin, scores["self_confidence"]], axis=1)
    numbers = np.clip((numbers - numbers.mean(axis=0)) / (numbers.std(axis=0) + 1e-9), -5, 5)
    classes = np.eye(logits.shape[1])
    return np.concatenate([numbers, classes[labels], classes[logits.argmax(axis=1)]], axis=1)


Review = Callable[[Booleans, int], Booleans]


def fixed(score: Floats) -> Review:
    """A review in the order of a score."""

    def review(wrong: Booleans, budget: int) -> Booleans:
        done = np.zeros(len(wrong), dtype=bool)
        done[_first(score, done, budget)] = True
        return done

    return review
