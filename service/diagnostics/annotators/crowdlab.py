"""CROWDLAB (Goh, Tkachenko & Mueller 2022, arXiv 2210.06812): the consensus of a model and several annotators.

The numbers equal those of cleanlab 2.9.0. There is one difference: classes that annotators and model support alike have
a documented order (see `majority`), where cleanlab's last resort is a random choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.diagnostics.annotators.annotations import Annotations
from service.diagnostics.annotators.model_votes import ModelVotes
from service.diagnostics.chunks import Floats, Integers

LEAST_WEIGHT = 1e-6
# Sums in another order differ in their last digits; supports that are closer than this are equal.
TIE = 1e-12


@dataclass(frozen=True, eq=False)
class Weights:
    """The trust in the model and in the annotators.

    Args:
        model: Weight of the model.
        annotators: (M,) float64, weight of each annotator.
        agreeing: Probability that an annotator names the consensus, c in the paper's likelihood.
        is_estimated: False if no example has two annotations: all weights are 1 then.
    """

    model: float
    annotators: Floats
    agreeing: float
    is_estimated: bool = True


@dataclass(frozen=True, eq=False)
class Consensus:
    """The consensus of the u annotated examples.

    Args:
        labels: (u,) int64, the consensus.
        quality: (u,) float64 in [0, 1], the estimated probability that the consensus is right.
        agreement: (u,) float64 in [0, 1], share of the example's annotators that named it.
        p: (v,) float64, the estimated probability of each vote.
        weights: The weights.
    """

    labels: Integers
    quality: Floats
    agreement: Floats
    p: Floats
    weights: Weights


def crowdlab(annotations: Annotations, model: ModelVotes) -> Consensus:
    """Estimate the consensus of each annotated example, and the trust in annotators and model.

    Without an example of two annotations the consensus is the label, and its quality is the model's probability of it.
    """
    labels = majority(annotations, model)
    if annotations.has_several.any():
        # The majority gives first weights; the consensus under these gives the final ones.
        support = _Support.of(annotations, model, _weights(annotations, model, labels))
        labels = support.best(labels)
        support = _Support.of(annotations, model, _weights(annotations, model, labels))
    else:
        weights = Weights(1.0, np.ones(annotations.num_annotators), 1.0, is_estimated=False)
        support = _Support(annotations, model, model.p, np.zeros(len(labels)), weights)
    return Consensus(labels, support.at(labels), _agreement(annotations, labels), support.votes, support.weights)


def majority(annotations: Annotations, model: ModelVotes) -> Integers:
    """(u,) int64, the class that most annotators gave; of equals the model's likelier one, then the smallest number."""
    votes = annotations.votes
    is_mode = votes.counts == votes.largest(votes.counts)[votes.rows]
    return votes.labels[votes.first_with_largest(np.where(is_mode, model.p, -1.0))]


def _agreement(annotations: Annotations, labels: Integers) -> Floats:
    """(u,) float64, share of the annotators of each example that gave it this label."""
    votes = annotations.votes
    agreeing = votes.sums(votes.counts * (votes.labels == labels[votes.rows]))
    shares: Floats = agreeing / annotations.num_labels
    return shares


def _weights(annotations: Annotations, model: ModelVotes, labels: Integers) -> Weights:
    """The weights that follow from a consensus on the examples with two annotations or more."""
    several = annotations.has_several
    shared = labels[several]
    commonest = np.bincount(shared, minlength=annotations.num_classes).argmax()
    # Error of a guesser that always names the commonest class.
    baseline = max(float(np.mean(shared != commonest)), LEAST_WEIGHT)
    model_error = float(np.mean(model.top[annotations.annotated][several] != shared))
    agreement = pairwise_agreement(annotations)
    return Weights(
        max(1 - model_error / baseline, LEAST_WEIGHT) * float(np.sqrt(annotations.num_labels.mean())),
        np.maximum(1 - (1 - agreement) / baseline, LEAST_WEIGHT),
        float(_agreement(annotations, labels)[several].mean()),
    )


def pairwise_agreement(annotations: Annotations) -> Floats:
    """(M,) float64, share of the other annotations of the same examples that agree with those of each annotator.

    An annotator without such examples gets the mean of the others.
    """
    others = annotations.num_labels[annotations.rows] - 1
    agreeing = annotations.votes.counts[annotations.votes.of_annotations] - 1
    totals = np.bincount(annotations.annotators, others, annotations.num_annotators)
    shares = np.bincount(annotations.annotators, agreeing, annotations.num_annotators) / np.maximum(totals, 1)
    alone = totals == 0
    shares[alone] = shares[~alone].mean()
    return shares


@dataclass(frozen=True, eq=False)
class _Support:
    """The weighted mean of the model's probability and the annotators' likelihoods, of the classes that may be best.

    Args:
        annotations: The annotations.
        model: The model's probabilities.
        votes: (v,) float64, support of each vote.
        top: (u,) float64, support of the model's most likely class, if nobody voted for it.
        weights: The weights.
    """

    annotations: Annotations
    model: ModelVotes
    votes: Floats
    top: Floats
    weights: Weights

    @classmethod
    def of(cls, annotations: Annotations, model: ModelVotes, weights: Weights) -> _Support:
        """The support under weights."""
        votes, num_classes = annotations.votes, annotations.num_classes
        other = (1 - weights.agreeing) / max(num_classes - 1, 1)
        of_annotations = weights.annotators[annotations.annotators]
        total = np.bincount(annotations.rows, of_annotations, len(annotations.annotated))
        of_votes = np.bincount(votes.of_annotations, of_annotations, len(votes.rows))
        scale, base = total + weights.model, total * other
        voted = weights.model * model.p + base[votes.rows] + of_votes * (weights.agreeing - other)
        top = weights.model * model.top_p[annotations.annotated] + base
        return cls(annotations, model, voted / scale[votes.rows], top / scale, weights)

    def at(self, labels: Integers) -> Floats:
        """(u,) float64, the support of a label of each example, a vote or the model's most likely class."""
        votes, result = self.annotations.votes, self.top.copy()
        places = np.flatnonzero(votes.labels == labels[votes.rows])
        result[votes.rows[places]] = self.votes[places]
        return result

    def best(self, majority_labels: Integers) -> Integers:
        """(u,) int64, the class with the largest support; if several have it, the majority's.

        Annotators support a class that they name more than any other one. So it is a vote, or the most likely class of
        the model.
        """
        votes, likely = self.annotations.votes, self.model.top[self.annotations.annotated]
        is_voted = votes.sums(votes.labels == likely[votes.rows]) > 0
        top = np.where(is_voted, -1.0, self.top)
        best = np.maximum(votes.largest(self.votes), top)
        is_top = top >= best - TIE
        number = votes.sums(self.votes >= best[votes.rows] - TIE) + is_top
        single = np.where(is_top, likely, votes.labels[votes.first_with_largest(self.votes)])
        return np.where(number > 1, majority_labels, single)
