"""Label quality of examples, against cleanlab 2.9.0 and its test arrays."""

from __future__ import annotations

import cleanlab.internal.multilabel_scorer as reference
import numpy as np
import pytest
from cleanlab.token_classification.rank import get_label_quality_scores
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.diagnostics.chunks import Booleans, Floats
from service.diagnostics.elements.label_quality import (
    exponential_moving_average,
    mean,
    minimum,
    ragged_minimum,
    ragged_softmin,
    softmin,
)

FIVE = np.array([[0.6, 0.3, 0.7, 0.1, 0.9]])
SENTENCES = np.array([0.9, 0.6, 0, 0.8, 0.8, 0.8])
OFFSETS = np.array([0, 2, 5, 6])

SCORES = hnp.arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.floats(0, 1))


def test_five_scores() -> None:
    assert minimum(FIVE)[0] == 0.1
    assert mean(FIVE)[0] == pytest.approx(0.52)
    assert exponential_moving_average(FIVE, alpha=1 / 3)[0] == pytest.approx(0.436, abs=5e-4)
    assert softmin(FIVE)[0] == pytest.approx(0.128, abs=5e-4)
    assert exponential_moving_average(np.array([[0.1, 0.2, 0.3]]), alpha=0.5)[0] == pytest.approx(0.175)
    assert minimum(np.array([[0.9, 0.9, 0.3], [0.4, 0.9, 0.6]])).tolist() == [0.3, 0.4]


def test_three_sentences() -> None:
    assert ragged_minimum(SENTENCES, OFFSETS).tolist() == [0.6, 0, 0.8]
    np.testing.assert_allclose(ragged_softmin(SENTENCES, OFFSETS), [0.600741787, 1.80056239e-7, 0.8], rtol=1e-8)


@given(SCORES, st.sampled_from([0.01, 0.1, 1]), st.sampled_from([0, 0.5, 0.8, 1]))
def test_equals_cleanlab(scores: Floats, temperature: float, alpha: float) -> None:
    np.testing.assert_allclose(
        softmin(scores, temperature), reference.softmin(scores, temperature=temperature), atol=1e-15
    )
    np.testing.assert_allclose(
        exponential_moving_average(scores, alpha),
        reference.exponential_moving_average(scores, alpha=alpha),
        atol=1e-15,
    )


@given(st.data(), SCORES)
def test_elements_that_do_not_count_change_nothing(data: st.DataObject, scores: Floats) -> None:
    counted: Booleans = data.draw(hnp.arrays(np.bool_, scores.shape))
    for aggregate in (softmin, exponential_moving_average, minimum, mean):
        together = aggregate(np.where(counted, scores, np.nan))
        for row, mask, value in zip(scores, counted, together, strict=True):
            alone = aggregate(row[mask][None])[0] if mask.any() else np.nan
            assert value == pytest.approx(alone, abs=1e-15, nan_ok=True)


@given(st.lists(st.lists(st.floats(0, 1), max_size=5), min_size=1, max_size=6))
def test_ragged_equals_rows_and_cleanlab(sentences: list[list[float]]) -> None:
    scores = np.array([score for sentence in sentences for score in sentence], np.float64)
    offsets = np.cumsum([0, *map(len, sentences)])
    for ragged, rows in (ragged_minimum, minimum), (ragged_softmin, lambda s: softmin(s, 0.05)):
        expected = [rows(np.array([sentence]))[0] if sentence else np.nan for sentence in sentences]
        np.testing.assert_allclose(ragged(scores, offsets), expected, atol=1e-15)
    full = [sentence for sentence in sentences if sentence]
    if full:
        labels, p = [[0] * len(row) for row in full], [np.array([row, 1 - np.array(row)]).T for row in full]
        for method, ours in ("min", ragged_minimum), ("softmin", ragged_softmin):
            theirs, _ = get_label_quality_scores(labels, p, sentence_score_method=method)
            values = ours(scores, offsets)
            np.testing.assert_allclose(values[~np.isnan(values)], theirs, atol=1e-15)


def test_ignored_tokens_are_left_out() -> None:
    scores = np.array([np.nan, 0.5, np.nan, np.nan, 0.2, 0.9])
    offsets = np.array([0, 2, 4, 4, 6])
    np.testing.assert_array_equal(ragged_minimum(scores, offsets), [0.5, np.nan, np.nan, 0.2])
    expected = [0.5, np.nan, np.nan, softmin(np.array([[0.2, 0.9]]), 0.05)[0]]
    np.testing.assert_allclose(ragged_softmin(scores, offsets), expected)
