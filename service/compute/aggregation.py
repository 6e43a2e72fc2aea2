"""Scores of examples from those of their elements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from service.compute.elements import Segments
from service.compute.invalid import InvalidExamples
from service.loss.arrays import Array
from service.loss.row_state import COUNTED
from service.loss.score_tensors import confidence_weighted_entropy
from service.loss.scores import Scores
from service.schema.structure import TopShare, WithinName

# Of an example: the mean over its elements, the smallest of them, or a norm over them.
MEANS = ("cross_entropy", "entropy")
WORST = ("p_t", "log_odds", "logit_margin", "normalized_margin")
NORMS = ("el2n", "grad_norm")
COMBINED = (*MEANS, *WORST, *NORMS, "confidence_weighted_entropy", "label_quality", "max_loss")
# Temperature of the softmin, that of cleanlab's scores of images and of examples with several labels.
TEMPERATURE = 0.1
_IDENTITY: dict[np.ufunc, float] = {np.add: 0.0, np.minimum: np.inf, np.maximum: -np.inf, np.logaddexp: -np.inf}


class ExampleScores(NamedTuple):
    """The scores of the examples of a batch; all arrays (N,), float64 unless noted.

    Args:
        num_valid: Number of elements that count, or bool of one element; 0 in examples that do not count themselves.
        loss: Loss of the example, NaN if it is invalid and 0 if it is ignored.
        log_loss: Logarithm of the loss, which does not underflow; -inf in examples that do not count. None unless
            needed.
        loss_sum: Sum of the losses of the elements, 0 in examples that do not count.
        alpha_sum: The same sum of alpha_t.
        num_positive: Number of positive elements that count; None unless needed.
        outputs: Further outputs, NaN in examples that do not count.
    """

    num_valid: Array
    loss: Array
    log_loss: Array | None
    loss_sum: Array
    alpha_sum: Array
    num_positive: Array | None
    outputs: dict[str, Array]


def element_scores_for(outputs: Sequence[str]) -> set[str]:
    """The scores of elements that these outputs of examples are made of."""
    names = set(outputs) & {*MEANS, *WORST, *NORMS}
    if "label_quality" in outputs:
        names.add("p_t")
    if "confidence_weighted_entropy" in outputs:
        names |= {"entropy", "p_t"}
    return names


class Aggregation:
    """Combines the scores of elements to those of their examples, part by part.

    Args:
        num_examples: Number of examples of the batch.
        outputs: Outputs of the examples.
        within: How the loss of an example is made of those of its elements.
        log_loss: True to compute the logarithm of the loss, too.
        count_positive: True to count the positive elements, too.
    """

    def __init__(
        self,
        num_examples: int,
        outputs: Sequence[str],
        within: WithinName | TopShare,
        *,
        log_loss: bool,
        count_positive: bool,
    ) -> None:
        self._num_examples = num_examples
        self._outputs = outputs
        self._within = within
        self._log_loss = log_loss
        self._count_positive = count_positive
        self._needed = element_scores_for(outputs)
        self._values: dict[str, Array] = {}

    def add(
        self, first: int, segments: Segments, scores: Scores, positive: Array | None, counts: Array | None = None
    ) -> None:
        """Add the elements of consecutive examples; those of one example may come in several calls.

        Args:
            first: Number of the first example.
            segments: The elements of each.
            scores: Scores of the elements.
            positive: Bool of each element, or None if their number is not needed.
            counts: (n,) float64, the number of elements that each stands for; None for 1 each.
        """
        counted = scores.state == COUNTED
        all_counted = bool(counted.all())
        num_valid = segments.reduce(np.add, counted if counts is None else counted * counts, 0.0)
        self._merge("num_valid", np.add, first, num_valid)
        for name, ufunc, terms in self._terms(scores, positive):
            values = terms * counts if counts is not None and ufunc is np.add else terms
            known = values if all_counted else np.where(counted, values, _IDENTITY[ufunc])
            self._merge(name, ufunc, first, segments.reduce(ufunc, known, _IDENTITY[ufunc]))
        if isinstance(self._within, TopShare):
            sizes = np.minimum(np.maximum(1, np.ceil(self._within.top_share * num_valid)), num_valid)
            self._add_largest(sizes.astype(np.int64), first, segments, scores)
        elif self._log_loss and self._within != "max":
            log_loss = scores.log_loss if counts is None else scores.log_loss + np.log(counts)
            self._merge("log_loss", np.logaddexp, first, segments.log_sum_exp(log_loss))

    def _terms(self, scores: Scores, positive: Array | None) -> Iterator[tuple[str, np.ufunc, Array]]:
        """Names of values of examples, the function that reduces those of their elements, and these."""
        yield "loss", np.add, scores.loss
        yield "alpha_t", np.add, scores.alpha_t
        if positive is not None:
            yield "num_positive", np.add, positive
        if self._within == "max" or "max_loss" in self._outputs:
            yield "max_loss", np.maximum, scores.loss
        if self._within == "max" and self._log_loss:
            yield "log_loss", np.maximum, scores.log_loss
        for name in self._needed & {*MEANS}:
            yield name, np.add, scores.outputs[name]
        for name in self._needed & {*WORST}:
            yield name, np.minimum, scores.outputs[name]
        for name in self._needed & {*NORMS}:
            yield name, np.add, np.square(scores.outputs[name])
        if "label_quality" in self._outputs:
            weights = np.exp(scores.outputs["p_t"] * (-1 / TEMPERATURE))
            yield "softmin_weights", np.add, weights
            yield "softmin", np.add, np.multiply(weights, scores.outputs["p_t"], out=weights)

    def _add_largest(self, sizes: Array, first: int, segments: Segments, scores: Scores) -> None:
        """Add the largest losses of whole examples, so many of each."""
        self._merge("num_largest", np.add, first, sizes)
        # A loss that does not count is 0, and not larger than any other.
        losses, largest = segments.largest(scores.loss, sizes)
        self._merge("largest", np.add, first, largest.reduce(np.add, losses, 0.0))
        if self._log_loss:
            logs, largest = segments.largest(scores.log_loss, sizes)
            self._merge("log_loss", np.logaddexp, first, largest.log_sum_exp(logs))

    def _merge(self, name: str, ufunc: np.ufunc, first: int, values: Array) -> None:
        """Combine values of examples with those of their earlier elements."""
        if name not in self._values:
            self._values[name] = np.full(self._num_examples, _IDENTITY[ufunc])
        place = self._values[name][first : first + len(values)]
        ufunc(place, values, out=place)

    def examples(self, invalid: InvalidExamples, num_classes: int) -> ExampleScores:
        """The scores of the examples, after all of their elements.

        Args:
            invalid: Examples that do not count since an element is invalid.
            num_classes: Number of classes of an element; 2 in sigmoid mode.
        """
        num_valid = self._value("num_valid")
        counted = num_valid > 0
        counted[invalid.example] = False
        all_counted = bool(counted.all())

        def known(values: Array, other: float = np.nan) -> Array:
            return values if all_counted else np.where(counted, values, other)

        loss, log_loss = known(self._loss(), 0), known(self._log_of_loss(), -np.inf) if self._log_loss else None
        if len(invalid.example):
            loss[invalid.example] = np.nan
        return ExampleScores(
            num_valid=known(num_valid, 0),
            loss=loss,
            log_loss=log_loss,
            loss_sum=known(self._value("loss"), 0),
            alpha_sum=known(self._value("alpha_t"), 0),
            num_positive=known(self._value("num_positive"), 0) if self._count_positive else None,
            outputs={name: known(self._output(name, num_classes)) for name in self._outputs if name in COMBINED},
        )

    def _value(self, name: str) -> Array:
        """A value of each example; of no meaning if it was not asked for, or no example has an element."""
        return self._values[name] if name in self._values else np.zeros(self._num_examples)

    def _loss(self) -> Array:
        if self._within == "max":
            return self._value("max_loss")
        if self._within == "sum":
            return self._value("loss")
        if self._within == "mean":
            return self._value("loss") / np.maximum(self._value("num_valid"), 1)
        return self._value("largest") / np.maximum(self._value("num_largest"), 1)

    def _log_of_loss(self) -> Array:
        log_loss = self._value("log_loss")
        if self._within in ("max", "sum"):
            return log_loss
        return log_loss - np.log(np.maximum(self._value("num_valid" if self._within == "mean" else "num_largest"), 1))

    def _output(self, name: str, num_classes: int) -> Array:
        value, num_valid = self._value(name), np.maximum(self._value("num_valid"), 1)
        if name in MEANS:
            return value / num_valid
        if name in NORMS:
            return np.sqrt(value) / (num_valid if name == "grad_norm" else 1)
        if name == "label_quality":
            return self._value("softmin") / np.maximum(self._value("softmin_weights"), np.finfo(np.float64).tiny)
        if name == "confidence_weighted_entropy":
            entropy, p_t = torch.from_numpy(self._value("entropy") / num_valid), torch.from_numpy(self._value("p_t"))
            return confidence_weighted_entropy(entropy, p_t, num_classes).numpy()
        return value
