"""The consensus of several annotators, and ActiveLab's scores, against cleanlab; one thread each."""

from __future__ import annotations

import contextlib
import io
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.row import Row, divide, interleave, timer
from service.diagnostics.annotators.active_lab import active_lab
from service.diagnostics.annotators.annotations import Annotations
from service.diagnostics.annotators.annotator_table import annotator_table
from service.diagnostics.annotators.crowdlab import crowdlab
from service.diagnostics.annotators.model_votes import model_votes
from service.diagnostics.annotators.temperature import best_temperatures

ROUNDS = 3
EXAMPLES, ANNOTATORS, CLASSES = 100_000, 40, 10
# As many examples as make chunks of the service.
CHUNK = 50_000
AT_LEAST = 9.0


def run(examples: int = EXAMPLES) -> Iterator[Row]:
    """Yield rows for few and for all labels of each annotator, and for ActiveLab.

    Args:
        examples: Number of examples.
    """
    for per_example in (2, ANNOTATORS):
        crowd = _Crowd(examples, per_example)
        size = f"{examples} x {ANNOTATORS} annotators x {CLASSES} classes, {per_example} labels each"
        yield _row(f"consensus, {size}", crowd.consensus, crowd.cleanlab_consensus)
        if per_example == 2:
            yield _row(f"ActiveLab, {size}", crowd.active_lab, crowd.cleanlab_active_lab)


class _Crowd:
    """Labels of annotators of different skill, and probabilities of a model.

    Args:
        examples: Number of examples.
        per_example: Number of annotators of each.
    """

    def __init__(self, examples: int, per_example: int) -> None:
        generator = np.random.default_rng(0)
        true = generator.integers(0, CLASSES, examples)
        logits = generator.normal(size=(examples, CLASSES))
        logits[np.arange(examples), true] += 2.5
        self._p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        skill = generator.uniform(0.5, 0.95, ANNOTATORS)
        order = generator.random((examples, ANNOTATORS)).argsort(axis=1)[:, :per_example]
        self._examples = np.repeat(np.arange(examples), per_example)
        self._annotators = np.sort(order, axis=1).reshape(-1)
        is_right = generator.random(len(self._examples)) < skill[self._annotators]
        self._labels = np.where(is_right, true[self._examples], generator.integers(0, CLASSES, len(is_right)))
        self._table = np.full((examples, ANNOTATORS), np.nan)
        self._table[self._examples, self._annotators] = self._labels

    def _annotations(self) -> Annotations:
        return Annotations.of(self._examples, self._annotators, self._labels, ANNOTATORS, CLASSES)

    def _chunks(self) -> Iterator[np.ndarray]:
        return (self._p[first : first + CHUNK] for first in range(0, len(self._p), CHUNK))

    def consensus(self) -> Any:
        annotations = self._annotations()
        return annotator_table(annotations, crowdlab(annotations, model_votes(annotations, self._chunks())))

    def active_lab(self) -> Any:
        annotations = self._annotations()
        temperatures = best_temperatures(annotations, self._chunks)
        return [active_lab(annotations, self._chunks, temperature) for temperature in temperatures]

    def cleanlab_consensus(self) -> Any:
        from cleanlab.multiannotator import get_label_quality_multiannotator

        return get_label_quality_multiannotator(self._table, self._p, return_detailed_quality=False, verbose=False)

    def cleanlab_active_lab(self) -> Any:
        from cleanlab.multiannotator import get_active_learning_scores

        with contextlib.redirect_stdout(io.StringIO()):
            return get_active_learning_scores(self._table, self._p)


def _row(what: str, ours: Callable[[], Any], theirs: Callable[[], Any]) -> Row:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mine, other = interleave([timer(work, clock=time.process_time) for work in (ours, theirs)], ROUNDS)
    texts = (f"{statistics.median(times):.3g} s" for times in (mine, other))
    return Row(what, next(texts), f"{next(texts)} (cleanlab)", divide(other, mine), at_least=AT_LEAST)
