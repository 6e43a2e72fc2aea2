"""Confident learning over elements, against cleanlab 2.9.0 on the flat elements, and against that over rows."""

from __future__ import annotations

import tracemalloc
import warnings
from typing import Any, get_args

import cleanlab.count
import cleanlab.filter
import cleanlab.rank
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.diagnostics.chunks import Booleans
from service.diagnostics.elements import kernels
from service.diagnostics.elements.class_issues import (
    ClassIssues,
    ClassMarker,
    find_class_issues,
    probabilities,
    scores,
)
from service.diagnostics.elements.element_chunks import ElementChunk, ElementChunks
from service.diagnostics.elements.filters import FilterName
from service.diagnostics.label_errors import confident_learning
from tests.diagnostics.elements.stable import stable_sorts
from tests.diagnostics.samples import DataSet, data_sets, dense, random_data_set

FILTERS: tuple[FilterName, ...] = get_args(FilterName)


def tokens(data: DataSet, size: int | None = None) -> ElementChunks:
    step = size or max(len(data.targets), 1)
    starts = range(0, len(data.targets), step)
    return lambda: (ElementChunk.of_tokens(data.targets[i : i + step], data.logits[i : i + step]) for i in starts)


def masks(data: DataSet, images: int) -> ElementChunk:
    """The same elements in images of one row of pixels each."""
    logits = data.logits.reshape(images, -1, data.num_classes).transpose(0, 2, 1)
    return ElementChunk.of_masks(data.targets.reshape(images, -1), logits)


def learn(
    chunks: ElementChunks, num_classes: int, filter_by: FilterName = "prune_by_noise_rate"
) -> tuple[ClassIssues, Booleans]:
    issues = find_class_issues(chunks, num_classes, filter_by)
    marker = ClassMarker(issues)
    return issues, np.concatenate([marker.mark(chunk).reshape(-1) for chunk in chunks()])


def assert_equals_cleanlab(data: DataSet, filter_by: FilterName, chunks: ElementChunks) -> None:
    p = np.concatenate([probabilities(chunk) for chunk in chunks()])
    with stable_sorts(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "May not flag all label issues")
        thresholds = cleanlab.count.get_confident_thresholds(data.targets, p)
        joint = cleanlab.count.compute_confident_joint(data.targets, p)
        marks = cleanlab.filter.find_label_issues(data.targets, p, filter_by=filter_by, n_jobs=1)
    issues, ours = learn(chunks, data.num_classes, filter_by)
    np.testing.assert_allclose(issues.learned.thresholds, thresholds, rtol=1e-13, atol=2**-52)
    np.testing.assert_array_equal(dense(issues.learned.calibrated_joint), joint)
    np.testing.assert_array_equal(ours, marks)


@given(data_sets(), st.sampled_from(FILTERS), st.sampled_from([1, 7, None]))
def test_equals_cleanlab(data: DataSet, filter_by: FilterName, size: int | None) -> None:
    assume(len(np.unique(data.targets)) > 1)  # cleanlab rejects a single label
    assert_equals_cleanlab(data, filter_by, tokens(data, size))


@pytest.mark.parametrize(("classes", "missing", "signal"), [(2, 0, 2.0), (9, 1, 2.0), (21, 3, 1.0), (70, 0, 3.0)])
def test_equals_cleanlab_on_random_data(classes: int, missing: int, signal: float) -> None:
    data = random_data_set(6000, classes, classes, signal=signal, missing=missing)
    assert_equals_cleanlab(data, "prune_by_noise_rate", tokens(data, 2500))
    chunk = masks(data, 3)
    assert_equals_cleanlab(data, "prune_by_noise_rate", lambda: [chunk])


def test_cutoffs_below_zero() -> None:
    # The estimates want more elements of a pair than are more likely the other class, since classes are rare.
    generator = np.random.default_rng(0)
    shares = generator.dirichlet(np.full(8, 0.5))
    true = generator.choice(8, 800, p=shares)
    logits = generator.normal(0, 1, (800, 8)) + generator.normal(0, 2, 8)
    logits[np.arange(800), true] += 2
    data = DataSet(np.where(generator.random(800) < 0.4, generator.choice(8, 800), true), logits)
    issues, _ = learn(tokens(data), 8)
    cutoffs = issues.cutoffs["pair_margin"].values
    assert (np.isfinite(cutoffs) & (cutoffs < 0)).any()
    assert_equals_cleanlab(data, "prune_by_noise_rate", tokens(data, 300))


@pytest.mark.parametrize("filter_by", FILTERS)
def test_each_filter_equals_cleanlab(filter_by: FilterName) -> None:
    data = random_data_set(2000, 9, 0, missing=1)
    assert_equals_cleanlab(data, filter_by, tokens(data, 700))


@given(data_sets())
def test_equals_the_estimates_for_rows(data: DataSet) -> None:
    rows, elements = (
        confident_learning(data.chunks(), data.num_classes),
        find_class_issues(tokens(data), data.num_classes).learned,
    )
    np.testing.assert_allclose(elements.thresholds, rows.thresholds, rtol=1e-14)
    np.testing.assert_array_equal(dense(elements.confident_joint), dense(rows.confident_joint))
    np.testing.assert_array_equal(dense(elements.suspects), dense(rows.suspects))


@given(data_sets(), st.data(), st.sampled_from(FILTERS))
def test_ignored_elements_change_nothing(data: DataSet, draw: st.DataObject, filter_by: FilterName) -> None:
    ignored = draw.draw(hnp.arrays(np.bool_, len(data.targets)))
    logits = np.where(ignored[:, None], draw.draw(st.sampled_from([np.inf, np.nan, 3.0])), data.logits)
    with_ignored = DataSet(np.where(ignored, -100, data.targets), logits)
    kept = DataSet(data.targets[~ignored], data.logits[~ignored])
    issues, marks = learn(tokens(with_ignored), data.num_classes, filter_by)
    assert not marks[ignored].any()
    if len(kept.targets):
        alone, expected = learn(tokens(kept), data.num_classes, filter_by)
        np.testing.assert_array_equal(marks[~ignored], expected)
        np.testing.assert_array_equal(issues.learned.thresholds, alone.learned.thresholds)


@given(data_sets(), st.sampled_from([np.float32, np.float16]))
def test_scores_and_layouts(data: DataSet, dtype: Any) -> None:
    logits = data.logits.astype(dtype)
    by_rows = ElementChunk.of_tokens(data.targets, logits)
    by_classes = ElementChunk.of_masks(data.targets[None], logits.T[None])
    p = probabilities(by_rows)
    np.testing.assert_array_equal(p, probabilities(by_classes))
    np.testing.assert_allclose(p, DataSet(data.targets, logits.astype(np.float64)).p, atol=1e-15)
    p_t, other = scores(by_classes)
    np.testing.assert_array_equal(p_t[0], cleanlab.rank.get_self_confidence_for_each_label(data.targets, p))
    margin = cleanlab.rank.get_normalized_margin_for_each_label(data.targets, p)
    np.testing.assert_array_equal((p_t[0] - other[0] + 1) / 2, margin)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("filter_by", FILTERS)
def test_bad_logits_do_not_crash(bad: float, filter_by: FilterName) -> None:
    data = random_data_set(300, 4, 1)
    data.logits[3:200:7] = bad
    data.logits[4:200:9, 2] = bad
    _, marks = learn(tokens(data), 4, filter_by)
    assert marks.shape == (300,)


def test_read_only_arrays_compile_nothing() -> None:
    data = random_data_set(300, 4, 0)
    _, marks = learn(tokens(data), 4)
    compiled = len(kernels.count_suggestions.signatures)
    for array in data.targets, data.logits:
        array.flags.writeable = False
    np.testing.assert_array_equal(learn(tokens(data), 4)[1], marks)
    assert len(kernels.count_suggestions.signatures) == compiled


def test_no_elements() -> None:
    empty = ElementChunk.of_tokens(np.zeros(0, np.int64), np.zeros((0, 3), np.float32))
    issues, marks = learn(lambda: [empty], 3)
    assert issues.learned.num_examples == 0
    assert not len(marks)


def test_wrong_shapes_and_targets_are_rejected() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        ElementChunk.of_masks(np.zeros((1, 2, 3), np.uint8), np.zeros((1, 4, 2, 2), np.float32))
    with pytest.raises(ValueError, match="do not fit"):
        ElementChunk.of_tokens(np.zeros(3, np.int64), np.zeros((2, 4), np.float32))
    with pytest.raises(ValueError, match=r"\[0, 4\)"):
        ElementChunk.of_tokens(np.array([0, 4]), np.zeros((2, 4), np.float32))
    chunk = ElementChunk.of_tokens(np.array([0, 1]), np.zeros((2, 4), np.float32))
    with pytest.raises(ValueError, match="4 classes, not 5"):
        find_class_issues(lambda: [chunk], 5)


def test_memory_does_not_grow_with_elements() -> None:
    chunk = masks(random_data_set(3000, 6, 0), 3)

    def peak(number: int) -> int:
        tracemalloc.start()
        learn(lambda: [chunk] * number, 6)
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(1)  # compiles
    # The marks themselves have a byte for each element.
    assert peak(40) < peak(4) + 2 * 36 * 3000 + 50_000
