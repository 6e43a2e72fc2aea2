"""ActiveLab and its temperature against cleanlab 2.9.0."""

from __future__ import annotations

import numpy as np
import pytest
from cleanlab import multiannotator
from cleanlab.internal.multiannotator_utils import find_best_temp_scaler, temp_scale_pred_probs
from hypothesis import given
from hypothesis import strategies as st

from service.diagnostics.annotators.active_lab import active_lab
from service.diagnostics.annotators.annotations import Annotations
from service.diagnostics.annotators.temperature import best_temperatures, scaled
from tests.diagnostics.annotators.crowds import FIXTURE, Crowd, random_crowd


def scores(crowd: Crowd, size: int = 3) -> list[float]:
    temperature = best_temperatures(crowd.annotations, lambda: crowd.chunks(size)).of_cleanlab
    return active_lab(crowd.annotations, lambda: crowd.chunks(size), temperature).tolist()


def test_the_published_values_of_the_fixture() -> None:
    expected = [0.458510, 0.587271, 0.480570, 0.529863, 0.535026, 0.406022, 0.598705, 0.598705]
    np.testing.assert_allclose(scores(FIXTURE), expected, atol=5e-7)


@given(
    seed=st.integers(0, 2**32),
    annotators=st.integers(1, 6),
    classes=st.integers(2, 6),
    density=st.sampled_from([0.1, 0.3, 0.9]),
    size=st.integers(1, 40),
)
def test_equals_cleanlab(seed: int, annotators: int, classes: int, density: float, size: int) -> None:
    crowd = random_crowd(seed, 30, annotators, classes, density)
    np.testing.assert_allclose(scores(crowd, size), crowd.cleanlab_active_lab(), atol=1e-9)


@pytest.mark.parametrize("sharpness", [0.05, 0.3, 1, 4, 30])
def test_the_temperature_is_that_of_cleanlab(sharpness: float) -> None:
    crowd = random_crowd(7, 60, density=1)
    p = scaled(crowd.p, 1 / sharpness)
    found = best_temperatures(crowd.annotations, lambda: [p])
    assert found.of_cleanlab == find_best_temp_scaler(crowd.labels, p)
    # With integers cleanlab has no fault.
    assert found.of_labels == find_best_temp_scaler(crowd.labels.astype(np.int64), p)


def test_the_calibrated_scores_are_those_of_cleanlab_for_integers() -> None:
    crowd = random_crowd(8, 60, density=1)
    found = best_temperatures(crowd.annotations, crowd.chunks)
    expected, _ = multiannotator.get_active_learning_scores(crowd.labels.astype(np.int64), crowd.p)
    np.testing.assert_allclose(active_lab(crowd.annotations, crowd.chunks, found.of_labels), expected, atol=1e-9)
    assert found.of_labels != found.of_cleanlab


def test_probabilities_of_zero_are_scaled_like_those_of_cleanlab() -> None:
    p = np.array([[1.0, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]])
    for temperature in (0.1, 0.7, 8):
        np.testing.assert_allclose(scaled(p, temperature), temp_scale_pred_probs(p, temperature), atol=1e-15)


def test_without_annotations_the_least_sure_example_comes_first() -> None:
    nothing = np.empty(0, np.int64)
    annotations = Annotations.of(nothing, nothing, nothing, 0, 3)
    assert best_temperatures(annotations, lambda: [FIXTURE.p]) == (1, 1)
    found = active_lab(annotations, lambda: [FIXTURE.p], 1.0)
    np.testing.assert_allclose(found, (FIXTURE.p.max(axis=1) + 1 / 3) / 2)
