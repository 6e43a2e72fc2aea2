"""Label issues of tokens: their places, spans of them, entities in place of B- and I- classes, and common words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.diagnostics.chunks import Booleans, Floats, Integers
from service.diagnostics.elements.element_chunks import ElementChunk


@dataclass(frozen=True, eq=False)
class Spans:
    """Runs of marked tokens, in the order of the tokens.

    Args:
        examples: (m,) int64.
        starts: (m,) int64, first token in the example.
        stops: (m,) int64, last token in the example, plus 1.
        num_marked: (m,) int64, marked tokens.
        worst: (m,) int64, token of the chunk with the smallest score, the first one of several.
        scores: (m,) float64, that score.
    """

    examples: Integers
    starts: Integers
    stops: Integers
    num_marked: Integers
    worst: Integers
    scores: Floats


def ranked_places(marks: Booleans, scores: Floats, offsets: Integers) -> tuple[Integers, Integers]:
    """Places of the marked tokens, the smallest score first, then in the order of the tokens.

    Args:
        marks: (T,) bool.
        scores: (T,) float64, probabilities of the targets.
        offsets: (N + 1,) from 0 to T, never falling: the tokens of an example.

    Returns:
        The example and the token in it, (m,) int64 each.
    """
    marked = np.flatnonzero(marks)
    marked = marked[np.argsort(scores[marked], kind="stable")]
    examples = np.searchsorted(offsets, marked, "right") - 1
    return examples, marked - offsets[examples]


def spans(marks: Booleans, counted: Booleans, scores: Floats, offsets: Integers) -> Spans:
    """Join marked tokens of an example with no other counted token between them.

    Args:
        marks: (T,) bool.
        counted: (T,) bool, tokens that are not ignored, e.g. the first ones of words.
        scores: (T,) float64, probabilities of the targets.
        offsets: (N + 1,) from 0 to T, never falling: the tokens of an example.
    """
    marked = np.flatnonzero(marks)
    examples = np.searchsorted(offsets, marked, "right") - 1
    place = counted.cumsum()[marked]
    first = np.flatnonzero(np.append(True, (np.diff(place) != 1) | (np.diff(examples) != 0))[: len(marked)])
    numbers = np.diff(np.append(first, len(marked)))
    last = first + numbers - 1
    runs = np.repeat(np.arange(len(first)), numbers)
    order = np.lexsort((marked, scores[marked], runs))
    worst = marked[order[first]]
    owners = examples[first]
    begins = offsets[owners]
    return Spans(owners, marked[first] - begins, marked[last] + 1 - begins, numbers, worst, scores[worst])


def entities(class_names: Sequence[str]) -> tuple[list[str], Integers]:
    """Names of entities, and the entity of each class: B-, I-, E-, L-, S- and U- are removed from the names.

    Returns:
        E names in the order of their first class, and (C,) int64 in [0, E).
    """
    plain = [name[2:] if name[:2] in {"B-", "I-", "E-", "L-", "S-", "U-"} else name for name in class_names]
    names = list(dict.fromkeys(plain))
    return names, np.array([names.index(name) for name in plain], np.int64)


def merge_classes(
    targets: Integers, logits: NDArray[np.floating[Any]], merged: Integers
) -> tuple[Integers, NDArray[np.floating[Any]]]:
    """Sum the probabilities of classes; those without a merged class are left out of the distribution.

    Args:
        targets: (T,) int64 in [0, C), or negative.
        logits: (T, C).
        merged: (C,) int64, the merged class in [0, E) of each class, -1 for none; each of the E has a class.

    Returns:
        (T,) targets, -1 for an ignored token or one of a class that was left out; (T, E) logits.
    """
    order = np.argsort(merged, kind="stable")
    order = order[merged[order] >= 0]
    starts = np.flatnonzero(np.append(True, np.diff(merged[order]) != 0))
    classes = np.where(targets < 0, -1, merged[np.maximum(targets, 0)])
    return classes, np.logaddexp.reduceat(logits[:, order], starts, axis=1)


def merged_tokens(chunk: ElementChunk, merged: Integers) -> ElementChunk:
    """The chunk of tokens with merged classes, in float64; see `merge_classes`."""
    targets, logits = merge_classes(chunk.targets[0], chunk.logits[0].astype(np.float64), merged)
    return ElementChunk(targets[None], logits[None], by_rows=True)


class CommonWords:
    """Counts marked tokens by word, target and most likely class, as cleanlab's `summary.common_label_issues`."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, int, int]] = Counter()

    def add(self, words: Sequence[str], targets: Integers, likely: Integers) -> None:
        """Count marked tokens: their words, and (m,) int64 each, their targets and most likely classes."""
        self._counts.update(zip(words, targets.tolist(), likely.tolist(), strict=True))

    def most_common(self, limit: int | None = None) -> list[tuple[str, int, int, int]]:
        """Word, target, most likely class and count: the largest count first, then by word, target and class."""
        rows = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        return [(*kind, count) for kind, count in rows[:limit]]
