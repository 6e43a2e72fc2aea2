"""Tables of multi-label issues against cleanlab 2.9.0."""

from __future__ import annotations

import warnings
from typing import get_args

import cleanlab.multilabel_classification.dataset as reference
import numpy as np
import pytest
from cleanlab.multilabel_classification.filter import find_label_issues
from cleanlab.multilabel_classification.rank import get_label_quality_scores

from service.diagnostics.elements.filters import FilterName
from service.diagnostics.elements.label_quality import exponential_moving_average, lowest, mean, minimum, softmin
from service.diagnostics.elements.label_tables import LabelIssueCounts
from service.diagnostics.elements.labels import LabelChunk, LabelMarker, scores
from service.diagnostics.elements.labels import find_label_issues as find
from tests.diagnostics.elements.stable import stable_sorts
from tests.diagnostics.elements.test_labels import noisy, split, whole


def counted(chunk: LabelChunk, size: int | None = None) -> LabelIssueCounts:
    chunks = split(chunk, size)
    marker = LabelMarker(find(chunks, chunk.num_labels))
    counts = LabelIssueCounts(chunk.num_labels)
    for part in chunks():
        counts.add(part, marker.mark(part))
    return counts


def test_equals_cleanlab() -> None:
    chunk = noisy(0, 1500, 6)
    labels, p = [np.flatnonzero(row).tolist() for row in chunk.targets], scores(chunk).positive
    with stable_sorts(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "May not flag all label issues")
        common = reference.common_multilabel_issues(labels, p)
        quality = reference.rank_classes_by_multilabel_quality(labels, p)
        health = reference.overall_multilabel_health_score(labels, p)
        num_issues = find_label_issues(labels, p, n_jobs=1).sum()
    counts = counted(chunk, 300)
    assert (counts.num_issues, counts.num_examples) == (num_issues, 1500)
    assert counts.health == pytest.approx(health, abs=1e-15)
    issues = counts.common_issues()
    ours = zip(issues.labels, issues.given, ~issues.given, issues.counts, issues.shares, strict=True)
    assert sorted(ours) == sorted(common.itertuples(index=False, name=None))
    np.testing.assert_array_equal(issues.shares, common["Issue Probability"])
    table = counts.label_quality()
    theirs = quality.set_index("Class Index").loc[table.labels]
    np.testing.assert_array_equal(table.label_noise, theirs["Label Noise"])
    np.testing.assert_array_equal(table.label_quality, quality["Label Quality Score"])
    np.testing.assert_array_equal(table.inverse_label_noise, theirs["Inverse Label Noise"])
    # cleanlab truncates: (29 / 100) * 100 becomes 28.
    np.testing.assert_allclose(table.label_issues, theirs["Label Issues"], atol=1)
    np.testing.assert_array_equal(table.label_issues, np.rint(table.label_noise * 1500))
    np.testing.assert_array_equal(table.inverse_label_issues, np.rint(table.inverse_label_noise * 1500))


def test_seven_examples_with_a_label_that_no_example_has() -> None:
    p = [
        [0.9, 0.1, 0.0, 0.4, 0.1],
        [0.7, 0.8, 0.2, 0.3, 0.1],
        [0.9, 0.8, 0.4, 0.2, 0.1],
        [0.1, 0.1, 0.8, 0.3, 0.1],
        [0.4, 0.5, 0.1, 0.1, 0.1],
        [0.1, 0.1, 0.2, 0.1, 0.1],
        [0.8, 0.1, 0.2, 0.1, 0.1],
    ]
    targets = np.zeros((7, 5), np.int8)
    for row, labels in enumerate([[0], [0, 1], [0, 1], [2], [0, 2, 3], [], []]):
        targets[row, labels] = 1
    counts = counted(whole(targets, p))
    issues = counts.common_issues()
    np.testing.assert_allclose(issues.shares, [1 / 7, 1 / 7, *8 * [0]])
    # Label 0 is missing in the last example, and label 2 is wrong in the fifth.
    assert issues.labels[:2].tolist() == [0, 2]
    assert issues.given[:2].tolist() == [False, True]
    quality = counts.label_quality()
    np.testing.assert_allclose(quality.label_noise, [1 / 7, *4 * [0]])
    np.testing.assert_allclose(quality.label_quality, [6 / 7, *4 * [1]])
    assert quality.labels.tolist() == [2, 0, 1, 3, 4]
    assert quality.inverse_label_issues.tolist() == [0, 1, 0, 0, 0]


def test_a_hundred_examples_of_which_nine_are_shifted() -> None:
    rows = np.arange(100)
    targets, p = np.zeros((100, 5), np.int8), np.full((100, 5), 0.1)
    targets[rows, rows % 5] = 1
    p[rows, (rows + 2 * (rows > 90)) % 5] = 0.9
    counts = counted(whole(targets, p))
    assert counts.num_issues == 9
    assert counts.health == 0.91


def test_scores_equal_cleanlab() -> None:
    chunk = noisy(0, 1500, 6)
    labels, p = [np.flatnonzero(row).tolist() for row in chunk.targets], scores(chunk).positive
    ours = scores(chunk).given
    for method, values in (
        ({"method": "exponential_moving_average", "alpha": 0.8}, exponential_moving_average(ours)),
        ({"method": "softmin", "temperature": 0.1}, softmin(ours)),
        ({"method": np.min}, minimum(ours)),
        ({"method": np.mean}, mean(ours)),
    ):
        arguments = {"aggregator_kwargs": method}
        np.testing.assert_allclose(values, get_label_quality_scores(labels, p, **arguments), atol=1e-15)


@pytest.mark.parametrize("filter_by", get_args(FilterName))
def test_marked_examples_equal_cleanlab(filter_by: FilterName) -> None:
    chunk = noisy(0, 1500, 6)
    labels, p = [np.flatnonzero(row).tolist() for row in chunk.targets], scores(chunk).positive
    with stable_sorts(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "May not flag all label issues")
        warnings.filterwarnings("ignore", "The multi_label argument")
        expected = find_label_issues(labels, p, filter_by=filter_by)
    if filter_by.startswith("low_"):
        number = LabelMarker(find(lambda: [chunk], 6, "confident_learning")).mark(chunk).any(axis=1).sum()
        marks = lowest(exponential_moving_average(scores(chunk).given), number)
    else:
        marks = LabelMarker(find(lambda: [chunk], 6, filter_by)).mark(chunk).any(axis=1)
    np.testing.assert_array_equal(marks, expected)


def test_ignored_targets_do_not_count() -> None:
    chunk = noisy(0, 1500, 6)
    ignored = np.random.default_rng(0).random(chunk.targets.shape) < 0.3
    targets = np.where(ignored, np.int8(-1), chunk.targets)
    counts = counted(LabelChunk(targets, chunk.logits))
    alone = [
        counted(LabelChunk(chunk.targets[kept, label, None], chunk.logits[kept, label, None]))
        for label, kept in enumerate(~ignored.T)
    ]
    table = counts.label_quality()
    noise = dict(zip(table.labels.tolist(), table.label_noise.tolist(), strict=True))
    assert noise == {label: one.label_quality().label_noise[0] for label, one in enumerate(alone)}
    assert np.isnan(scores(LabelChunk(targets, chunk.logits)).given).sum() == ignored.sum()


def test_no_examples() -> None:
    counts = LabelIssueCounts(2)
    assert counts.health is None
    assert counts.common_issues().counts.tolist() == [0, 0, 0, 0]
    assert counts.label_quality().label_quality.tolist() == [1, 1]
