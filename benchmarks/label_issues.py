"""Label issues of elements, from logits, against cleanlab's filters, from ready probabilities; one thread each."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from benchmarks.row import Row, divide, interleave, timer
from service.diagnostics.elements import class_issues, labels
from service.diagnostics.elements.class_issues import ClassMarker, find_class_issues
from service.diagnostics.elements.element_chunks import ElementChunk
from service.diagnostics.elements.labels import LabelChunk, LabelMarker, find_label_issues

ROUNDS = 5
ROWS, LABELS = 20_000, 50
TOKENS, TOKEN_CLASSES, SENTENCE = 200_000, 9, 20
IMAGES, PIXEL_CLASSES, SIDE = 16, 21, 256


def run() -> Iterator[Row]:
    """Yield rows for labels, tokens and masks."""
    yield _multi_label()
    yield _tokens()
    yield _masks()


def _multi_label() -> Row:
    from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class

    generator = np.random.default_rng(0)
    logits = generator.normal(-3, 3, (ROWS, LABELS)).astype(np.float32)
    targets = (generator.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.int8)
    targets ^= generator.random(logits.shape) < 0.03
    chunk = LabelChunk(targets, logits)
    given, p = [np.flatnonzero(row).tolist() for row in targets], labels.scores(chunk).positive

    def ours() -> Any:
        return LabelMarker(find_label_issues(lambda: [chunk], LABELS)).mark(chunk)

    def theirs() -> Any:
        return find_multilabel_issues_per_class(given, p, n_jobs=1)

    return _row(f"label issues, {ROWS} examples x {LABELS} labels, us an example", ours, theirs, ROWS, 10)


def _tokens() -> Row:
    from cleanlab.token_classification.filter import find_label_issues as find_token_issues

    logits, targets = _elements(np.random.default_rng(0).normal(size=(TOKENS, TOKEN_CLASSES)), 1)
    chunk = ElementChunk.of_tokens(targets, logits)
    shape = TOKENS // SENTENCE, SENTENCE
    given = targets.reshape(shape).tolist()
    p = list(class_issues.probabilities(chunk).reshape(*shape, TOKEN_CLASSES))

    def theirs() -> Any:
        return find_token_issues(given, p, n_jobs=1)

    return _row(f"label issues, {TOKENS} tokens x {TOKEN_CLASSES}, us a token", _ours(chunk), theirs, TOKENS, 8)


def _masks() -> Row:
    from cleanlab.filter import find_label_issues as find_issues

    noise = np.random.default_rng(0).normal(size=(IMAGES, PIXEL_CLASSES, SIDE, SIDE))
    logits, targets = _elements(gaussian_filter(noise, (0, 0, 6, 6)), 1)
    chunk = ElementChunk.of_masks(targets, logits)
    p = class_issues.probabilities(chunk)

    def theirs() -> Any:
        return find_issues(targets.reshape(-1), p, n_jobs=1)

    size = f"{IMAGES} x {PIXEL_CLASSES} x {SIDE} x {SIDE}"
    return _row(f"label issues, masks {size}, us a pixel", _ours(chunk), theirs, targets.size, 7.5)


def _elements(signal: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a model that is sure of most elements, and targets of which 5 % are random."""
    generator = np.random.default_rng(1)
    logits = (signal / signal.std() * 5).astype(np.float32)
    likely = logits.argmax(axis=axis)
    wrong = generator.random(likely.shape) < 0.05
    return logits, np.where(wrong, generator.integers(0, logits.shape[axis], likely.shape), likely)


def _ours(chunk: ElementChunk) -> Callable[[], Any]:
    return lambda: ClassMarker(find_class_issues(lambda: [chunk], chunk.num_classes)).mark(chunk)


def _row(what: str, ours: Callable[[], Any], theirs: Callable[[], Any], size: int, bar: float) -> Row:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mine, other = interleave([timer(work, clock=time.process_time) for work in (ours, theirs)], ROUNDS)
    return Row(what, _text(mine, size), f"{_text(other, size)} (cleanlab)", divide(other, mine), at_least=bar)


def _text(times: Sequence[float], size: int) -> str:
    """Microseconds of the processor for each of `size` parts."""
    return f"{statistics.median(times) / size * 1e6:.3g} us"
