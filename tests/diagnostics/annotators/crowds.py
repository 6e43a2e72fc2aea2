"""Data sets that several annotators labelled, and cleanlab's results for them."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from cleanlab import multiannotator

from service.diagnostics.annotators.annotations import Annotations
from service.diagnostics.chunks import Floats

_ = np.nan


@dataclass(frozen=True, eq=False)
class Crowd:
    """Labels (N, M), NaN where an annotator gave none, and probabilities (N, C)."""

    labels: Floats
    p: Floats

    @property
    def annotations(self) -> Annotations:
        examples, annotators = np.nonzero(~np.isnan(self.labels))
        labels = self.labels[examples, annotators].astype(np.int64)
        return Annotations.of(examples, annotators, labels, self.labels.shape[1], self.p.shape[1])

    @property
    def is_annotated(self) -> Any:
        return ~np.isnan(self.labels).all(axis=1)

    def chunks(self, size: int = 3) -> Iterable[Floats]:
        return [self.p[first : first + size] for first in range(0, len(self.p), size)]

    def cleanlab(self) -> dict[str, Any]:
        """CROWDLAB's result for the annotated examples."""
        with _quiet():
            return multiannotator.get_label_quality_multiannotator(
                self.labels[self.is_annotated], self.p[self.is_annotated], return_weights=True, verbose=False
            )

    def cleanlab_active_lab(self) -> Floats:
        """ActiveLab's scores of all examples."""
        labelled = self.is_annotated
        scores = np.empty(len(self.p))
        with _quiet():
            scores[labelled], others = multiannotator.get_active_learning_scores(
                self.labels[labelled], self.p[labelled], self.p if labelled.all() else self.p[~labelled]
            )
        if not labelled.all():
            scores[~labelled] = others
        return scores


@contextlib.contextmanager
def _quiet() -> Any:
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


FIXTURE = Crowd(
    np.array([[0, 0, 1], [1, 1, 1], [2, 0, 2], [_, 2, 2], [1, _, 1], [0, 1, _], [2, 2, 2], [0, 0, 0]]),
    np.array(
        [
            *([0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.1, 0.6], [0.1, 0.2, 0.7]),
            *([0.2, 0.6, 0.2], [0.5, 0.4, 0.1], [0.05, 0.05, 0.9], [0.9, 0.05, 0.05]),
        ]
    ),
)


def random_crowd(seed: int, examples: int = 30, annotators: int = 5, classes: int = 4, density: float = 0.4) -> Crowd:
    """Annotators of different skill; some examples have no label, each annotator gives one at least."""
    generator = np.random.default_rng(seed)
    true = generator.integers(0, classes, examples)
    logits = generator.normal(size=(examples, classes))
    logits[np.arange(examples), true] += 1.5
    is_right = generator.random((examples, annotators)) < generator.uniform(0.3, 1, annotators)
    labels = np.where(is_right, true[:, None], generator.integers(0, classes, is_right.shape)).astype(np.float64)
    is_missing = generator.random(labels.shape) > density
    is_missing[generator.integers(0, examples, annotators), np.arange(annotators)] = False
    labels[is_missing] = np.nan
    p = np.exp(logits)
    return Crowd(labels, p / p.sum(axis=1, keepdims=True))
