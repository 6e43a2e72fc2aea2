"""One-vs-rest confident learning against cleanlab 2.9.0."""

from __future__ import annotations

import functools
import tracemalloc
import warnings
from collections.abc import Callable
from typing import Any, get_args

import cleanlab.count
import numpy as np
import pytest
from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.datasets import make_multilabel_classification

from service.diagnostics.chunks import Booleans
from service.diagnostics.elements import label_kernels
from service.diagnostics.elements.filters import FilterName
from service.diagnostics.elements.labels import (
    LabelChunk,
    LabelChunks,
    LabelIssues,
    LabelMarker,
    find_label_issues,
    scores,
)
from tests.diagnostics.elements.stable import stable_sorts
from tests.lanes import mostly_slow

FILTERS: tuple[FilterName, ...] = get_args(FilterName)


def whole(targets: Any, p: Any) -> LabelChunk:
    """The chunk with given probabilities."""
    p = np.asarray(p, np.float64)
    with np.errstate(divide="ignore"):
        return LabelChunk(np.asarray(targets, np.int8), np.log(p) - np.log1p(-p))


def split(chunk: LabelChunk, size: int | None) -> LabelChunks:
    step = size or max(len(chunk.targets), 1)
    starts = range(0, max(len(chunk.targets), 1), step)
    return lambda: (LabelChunk(chunk.targets[i : i + step], chunk.logits[i : i + step]) for i in starts)


def learn(
    chunk: LabelChunk, filter_by: FilterName = "prune_by_noise_rate", size: int | None = None
) -> tuple[LabelIssues, Booleans]:
    chunks = split(chunk, size)
    issues = find_label_issues(chunks, chunk.num_labels, filter_by)
    marker = LabelMarker(issues)
    return issues, np.concatenate([marker.mark(part) for part in chunks()])


def assert_equals_cleanlab(chunk: LabelChunk, filter_by: FilterName, size: int | None = None) -> None:
    p, targets = scores(chunk).positive, chunk.targets
    labels = [np.flatnonzero(row).tolist() for row in targets]
    with stable_sorts(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "May not flag all label issues")
        joints = cleanlab.count.compute_confident_joint(labels, p, multi_label=True)
        thresholds = cleanlab.count.get_confident_thresholds(labels, p, multi_label=True)
        marks = find_multilabel_issues_per_class(labels, p, filter_by=filter_by, n_jobs=1)
    issues, ours = learn(chunk, filter_by, size)
    np.testing.assert_allclose(issues.thresholds, thresholds, rtol=1e-13, atol=2**-52)
    np.testing.assert_array_equal(issues.joints, joints)
    np.testing.assert_array_equal(ours, marks)


@functools.cache
def true_labels(seed: int, rows: int, labels: int) -> np.ndarray:
    """Labels of the kind of cleanlab's multi-label benchmark."""
    return make_multilabel_classification(rows, n_features=2, n_classes=labels, length=1, random_state=seed)[1]


def noisy(seed: int, rows: int, labels: int) -> LabelChunk:
    """Labels of which a tenth is flipped, and a model that is often right."""
    generator = np.random.default_rng(seed)
    true = true_labels(seed, rows, labels)
    logits = generator.normal(np.where(true, 2, -2), 1.5)
    return LabelChunk((true ^ (generator.random(true.shape) < 0.1)).astype(np.int8), logits)


@st.composite
def label_chunks(draw: st.DrawFn) -> LabelChunk:
    """Up to 30 rows, whose probabilities are often tied; cleanlab needs both targets of each label."""
    shape = draw(st.integers(2, 30)), draw(st.integers(1, 4))
    targets = draw(hnp.arrays(np.int8, shape, elements=st.integers(0, 1)))
    targets[0], targets[1] = 0, 1
    levels = draw(st.sampled_from([st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.floats(0, 1, width=16)]))
    return whole(targets, draw(hnp.arrays(np.float64, shape, elements=levels)))


@given(label_chunks(), st.sampled_from(FILTERS), st.sampled_from([1, 7, None]))
def test_equals_cleanlab(chunk: LabelChunk, filter_by: FilterName, size: int | None) -> None:
    assert_equals_cleanlab(chunk, filter_by, size)


@pytest.mark.parametrize("filter_by", mostly_slow(FILTERS, quick=2))
def test_equals_cleanlab_on_a_larger_data_set(filter_by: FilterName) -> None:
    assert_equals_cleanlab(noisy(0, 1500, 6), filter_by, 400)


@given(label_chunks(), st.data(), st.sampled_from(FILTERS))
def test_ignored_targets_change_nothing(chunk: LabelChunk, data: st.DataObject, filter_by: FilterName) -> None:
    ignored = data.draw(hnp.arrays(np.bool_, chunk.targets.shape))
    targets = np.where(ignored, -100, chunk.targets)
    logits = np.where(ignored, data.draw(st.sampled_from([np.inf, np.nan, 3.0])), chunk.logits)
    issues, marks = learn(LabelChunk.of(targets, logits), filter_by)
    assert not marks[ignored].any()
    for label, kept in enumerate(~ignored.T):
        alone, expected = learn(
            LabelChunk(chunk.targets[kept, label, None], chunk.logits[kept, label, None]), filter_by
        )
        np.testing.assert_array_equal(marks[kept, label], expected[:, 0])
        np.testing.assert_array_equal(issues.thresholds[label], alone.thresholds[0])


def test_soft_targets_are_positive_above_one_half() -> None:
    chunk = LabelChunk.of(np.array([[0.2, 0.5, 0.51, -1.0]]), np.zeros((1, 4), np.float32), ignore_index=-1)
    assert chunk.targets.tolist() == [[0, 0, 1, -1]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_logits_do_not_spread_to_other_labels(bad: float) -> None:
    chunk = noisy(0, 1500, 6)
    _, marks = learn(chunk)
    chunk.logits[5:9, 0] = bad
    _, ours = learn(chunk)
    np.testing.assert_array_equal(ours[:, 1:], marks[:, 1:])


def test_half_precision() -> None:
    chunk = noisy(0, 1500, 6)
    half = chunk.logits.astype(np.float16)
    _, marks = learn(LabelChunk(chunk.targets, half))
    np.testing.assert_array_equal(marks, learn(LabelChunk(chunk.targets, half.astype(np.float64)))[1])


def test_read_only_arrays_compile_nothing() -> None:
    chunk = noisy(0, 1500, 6)
    _, marks = learn(chunk)
    compiled = len(label_kernels.count_suggestions.signatures)
    for array in chunk.targets, chunk.logits:
        array.flags.writeable = False
    np.testing.assert_array_equal(learn(chunk)[1], marks)
    np.testing.assert_array_equal(learn(LabelChunk(chunk.targets[::-1], chunk.logits[::-1]))[1], marks[::-1])
    assert len(label_kernels.count_suggestions.signatures) == compiled


def test_no_rows() -> None:
    issues, marks = learn(LabelChunk(np.zeros((0, 3), np.int8), np.zeros((0, 3))))
    assert issues.thresholds.tolist() == [[2, 2]] * 3
    assert marks.shape == (0, 3)


def test_wrong_shapes_and_targets_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        LabelChunk(np.zeros((2, 2), np.int8), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="0, 1 or -1"):
        LabelChunk(np.full((2, 2), 2, np.int8), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="3 labels, not 4"):
        find_label_issues(lambda: [LabelChunk(np.zeros((2, 3), np.int8), np.zeros((2, 3)))], 4)


def test_memory_does_not_grow_with_rows() -> None:
    block = noisy(0, 1500, 6)

    def peak(work: Callable[[], Any]) -> int:
        tracemalloc.start()
        work()
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    find_label_issues(lambda: [block], 6)  # compiles
    few, many = (peak(lambda number=number: find_label_issues(lambda: [block] * number, 6)) for number in (4, 40))
    assert many < few + 50_000


def test_probabilities_of_extreme_logits() -> None:
    chunk = LabelChunk(np.array([[1, 0, 0, 0, -1]], np.int8), np.array([[-np.inf, np.inf, 0, -800, 800]]))
    positive, given_targets = scores(chunk)
    assert positive.tolist() == [[0, 1, 0.5, 0, 1]]
    np.testing.assert_array_equal(given_targets, [[0, 0, 0.5, 1, np.nan]])
