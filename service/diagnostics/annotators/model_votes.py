"""The probabilities of a model where annotators voted, read in one pass in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from service.diagnostics.annotators.annotations import Annotations
from service.diagnostics.chunks import Floats, Integers

Probabilities = Callable[[], Iterable[Floats]]
"""Each call starts another pass over the probabilities (n, C) float64 of all N examples of a data set, in chunks."""


@dataclass(frozen=True, eq=False)
class ModelVotes:
    """The model's opinion on N examples.

    Args:
        top: (N,) int64, the most likely class, of equally likely ones the smallest.
        top_p: (N,) float64, its probability.
        p: (v,) float64, the probabilities of the classes of `Votes`.
    """

    top: Integers
    top_p: Floats
    p: Floats


def model_votes(annotations: Annotations, probabilities: Iterable[Floats]) -> ModelVotes:
    """Read what the consensus needs of the model in one pass.

    Args:
        annotations: The annotations.
        probabilities: The pass.
    """
    top, top_p, p = list[Integers](), list[Floats](), list[Floats]()
    for chunk, rows, labels in voted(annotations, probabilities):
        top.append(chunk.argmax(axis=1))
        top_p.append(chunk[np.arange(len(chunk)), top[-1]])
        p.append(chunk[rows, labels])
    if not top:
        return ModelVotes(np.empty(0, np.int64), np.empty(0), np.empty(0))
    return ModelVotes(np.concatenate(top), np.concatenate(top_p), np.concatenate(p))


def voted(annotations: Annotations, probabilities: Iterable[Floats]) -> Iterator[tuple[Floats, Integers, Integers]]:
    """Chunks of probabilities, each with the places in it that have a vote: rows and classes."""
    examples = annotations.annotated[annotations.votes.rows]
    first, done = 0, 0
    for chunk in probabilities:
        last = first + len(chunk)
        end = int(np.searchsorted(examples, last))
        yield chunk, examples[done:end] - first, annotations.votes.labels[done:end]
        first, done = last, end
