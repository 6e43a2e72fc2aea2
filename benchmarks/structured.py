"""Masks and tokens in one process, all scores from logits, against cleanlab, which takes probabilities."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from cleanlab.segmentation.rank import get_label_quality_scores
from cleanlab.token_classification.filter import find_label_issues
from numpy.testing import assert_allclose

from benchmarks.row import Row, divide, interleave, timer
from service.compute.device import Device
from service.compute.evaluation import Limits, evaluate
from service.loss.focal import FocalLoss
from service.schema.request import OUTPUTS, Batch, LossRequest, RequestOptions
from service.schema.result import LossResult
from service.schema.structure import Layout

ROUNDS = 7
# Images, classes, height, width.
MASKS = (16, 21, 256, 256)
SENTENCES, MAX_TOKENS, TAGS = 5_000, 40, 9
# An example of several elements has no prediction.
ALL_SCORES = [name for name in OUTPUTS if name != "prediction"]
NO_LIMITS = Limits(2**40, 2**40)


def run() -> Iterator[Row]:
    """Yield rows for the scores of masks, and for those of tokens."""
    yield from _masks()
    yield _tokens()


def evaluator(layout: Layout, batch: Batch, outputs: Sequence[str] = ALL_SCORES) -> Callable[[], LossResult]:
    """Return a function that computes these scores of a batch."""
    device, module = Device("cpu"), FocalLoss(device="cpu")
    options = RequestOptions.parse({"layout": layout, "outputs": list(outputs)})
    return lambda: evaluate(device, module, LossRequest(options, (batch,)), NO_LIMITS)


def _masks() -> Iterator[Row]:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal(MASKS, dtype=np.float32) * 3
    targets = rng.integers(0, MASKS[1], (MASKS[0], *MASKS[2:]))
    batch, ready = Batch(logits, targets), _softmax(logits)
    all_scores, quality = evaluator("dense", batch), evaluator("dense", batch, ["label_quality"])

    def rank() -> object:
        return get_label_quality_scores(targets, ready, verbose=False)

    def softmax_and_rank() -> object:
        return get_label_quality_scores(targets, _softmax(logits), verbose=False)

    scores, _ = get_label_quality_scores(targets, ready, verbose=False)
    assert_allclose(all_scores().per_example["label_quality"], scores, rtol=1e-4)
    works = [timer(work) for work in (all_scores, quality, rank, softmax_and_rank)]
    every, one, ranked, both = interleave(works, ROUNDS)
    # Without bars: with ready probabilities cleanlab's rank reads one number of each pixel, and not 21.
    for name, own, other, theirs in (
        ("all scores of images", every, "rank of ready probabilities", ranked),
        ("all scores of images", every, "softmax and rank", both),
        ("label_quality of images", one, "softmax and rank", both),
    ):
        yield Row(
            f"masks {' x '.join(map(str, MASKS))} float32, {name}, against cleanlab's {other}",
            f"{targets.size / statistics.median(own) / 1e6:.3g} M pixels/s",
            f"{targets.size / statistics.median(theirs) / 1e6:.3g} M pixels/s",
            divide(theirs, own),
        )


def _tokens() -> Row:
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(1, MAX_TOKENS + 1, SENTENCES))])
    count = int(offsets[-1])
    logits = rng.standard_normal((count, TAGS), dtype=np.float32) * 3
    targets = np.where(rng.random(count) < 0.9, logits.argmax(1), rng.integers(0, TAGS, count))
    ready = _softmax(logits)
    tags = [targets[start:stop].tolist() for start, stop in pairwise(offsets)]
    probabilities = [ready[start:stop] for start, stop in pairwise(offsets)]
    works = (
        evaluator("ragged", Batch(logits, targets, offsets=offsets)),
        lambda: find_label_issues(tags, probabilities),
    )
    own, theirs = interleave([timer(work) for work in works], ROUNDS)
    return Row(
        f"{SENTENCES} sentences of {count} tokens, {TAGS} tags, all scores of sentences, against cleanlab's filter",
        _per_token(own, count),
        _per_token(theirs, count),
        divide(theirs, own),
        at_least=8.0,
    )


def _softmax(
    logits: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return torch.from_numpy(logits).softmax(1).numpy()


def _per_token(times: Sequence[float], count: int) -> str:
    return f"{statistics.median(times) / count * 1e6:.3g} us per token"
