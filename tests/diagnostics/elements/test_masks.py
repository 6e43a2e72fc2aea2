"""Issues of masks, against cleanlab 2.9.0."""

from __future__ import annotations

import cleanlab.filter
import cleanlab.segmentation.filter
import cleanlab.segmentation.rank
import numpy as np
import pytest
from cleanlab.segmentation.summary import common_label_issues

from service.diagnostics.chunks import Booleans
from service.diagnostics.elements.class_issues import ClassMarker, find_class_issues, probabilities, scores
from service.diagnostics.elements.element_chunks import ElementChunk
from service.diagnostics.elements.filters import FilterName
from service.diagnostics.elements.label_quality import softmin
from service.diagnostics.elements.masks import PixelConfusions, share_without_issues
from tests.diagnostics.elements.stable import stable_sorts
from tests.diagnostics.samples import random_data_set


def marked(chunk: ElementChunk, filter_by: FilterName = "prune_by_noise_rate") -> Booleans:
    return ClassMarker(find_class_issues(lambda: [chunk], chunk.num_classes, filter_by)).mark(chunk)


def planes(chunk: ElementChunk, height: int) -> np.ndarray:
    """Probabilities (n, C, h, w)."""
    n, pixels = chunk.targets.shape
    return probabilities(chunk).reshape(n, height, pixels // height, -1).transpose(0, 3, 1, 2)


def test_three_masks() -> None:
    z = np.random.default_rng(0).normal(size=(3, 4, 6, 6))
    y = z.argmax(axis=1)
    y[0, :2, :3] = (y[0, :2, :3] + 1) % 4
    chunk = ElementChunk.of_masks(y, z)
    p = planes(chunk, 6)
    with stable_sorts():
        exact = cleanlab.filter.find_label_issues(y.reshape(-1), probabilities(chunk), n_jobs=1)
        batched = cleanlab.segmentation.filter.find_label_issues(y, p, n_jobs=1, verbose=False)
    np.testing.assert_array_equal(marked(chunk).reshape(-1), exact)
    # cleanlab's batched search marks the pixels with the lowest confidence, as many as it finds issues.
    marks = marked(chunk, "low_self_confidence")
    np.testing.assert_array_equal(marks.reshape(y.shape), batched)
    assert marks.sum(axis=1).tolist() == [4, 0, 0]
    p_t = scores(chunk).p_t
    for method, ours, expected in (
        ("softmin", softmin(p_t), [0.0889239, 0.425776, 0.435893]),
        ("num_pixel_issues", share_without_issues(marks, chunk.targets), [0.888889, 1, 1]),
    ):
        theirs, pixels = cleanlab.segmentation.rank.get_label_quality_scores(
            y, p, method=method, n_jobs=1, verbose=False
        )
        np.testing.assert_allclose(ours, theirs, atol=1e-15)
        np.testing.assert_allclose(ours, expected, rtol=1e-5)
        np.testing.assert_array_equal(p_t.reshape(y.shape), pixels)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_random_masks(dtype: type) -> None:
    data = random_data_set(4 * 24 * 20, 6, 0)
    z = data.logits.reshape(4, 24, 20, 6).transpose(0, 3, 1, 2).astype(dtype)
    y = data.targets.reshape(4, 24, 20).astype(np.uint8)
    chunk = ElementChunk.of_masks(y, z)
    marks = marked(chunk)
    with stable_sorts():
        expected = cleanlab.filter.find_label_issues(data.targets, probabilities(chunk), n_jobs=1)
        common = common_label_issues(marks.reshape(y.shape), y, planes(chunk, 24), verbose=False, top=100)
    np.testing.assert_array_equal(marks.reshape(-1), expected)
    confusions = PixelConfusions(6)
    for image in range(4):
        part = ElementChunk(chunk.targets[image : image + 1], chunk.logits[image : image + 1])
        confusions.add(part, marks[image : image + 1])
    pairs = confusions.most_common()
    theirs = [(int(a), int(b), n) for a, b, n in common.itertuples(index=False, name=None)]
    assert list(zip(pairs.first, pairs.second, pairs.counts, strict=True)) == theirs
    assert len(confusions.most_common(3).counts) == 3


def test_ignored_pixels_do_not_count() -> None:
    data = random_data_set(2 * 100, 4, 0)
    z = data.logits.reshape(2, 100, 4).transpose(0, 2, 1)
    targets = data.targets.reshape(2, 100).astype(np.uint8)
    ignored = np.random.default_rng(2).random(targets.shape) < 0.3
    ignored[1] = True
    chunk = ElementChunk.of_masks(np.where(ignored, np.uint8(255), targets), z)
    marks = marked(chunk)
    kept = ~ignored[0]
    alone = ElementChunk.of_masks(targets[:1, kept], z[:1, :, kept])
    np.testing.assert_array_equal(marks[0, kept], marked(alone)[0])
    share = share_without_issues(marks, chunk.targets)
    assert share[0] == share_without_issues(marked(alone), alone.targets)[0]
    assert np.isnan([share[1], softmin(scores(chunk).p_t)[1]]).all()
