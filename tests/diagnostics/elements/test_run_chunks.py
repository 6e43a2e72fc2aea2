"""Chunks of stored examples, against arrays from which their rows were made."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from service.diagnostics.elements.class_issues import probabilities, scores
from service.diagnostics.elements.labels import scores as label_scores
from service.diagnostics.elements.run_chunks import stored_labels, stored_masks, stored_tokens


def rows_of(**lists: list[np.ndarray[Any, Any]]) -> pa.RecordBatch:
    """Stored rows with these columns of lists, between two others that a slice leaves out."""
    types = {name: pa.float32() if name.startswith("element") else pa.int32() for name in lists}
    columns = {
        name: pa.array([values[0], *values, values[-1]], pa.list_(types[name])) for name, values in lists.items()
    }
    return pa.record_batch(columns).slice(1, len(lists["targets"]))


def log_odds(p: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.log(p / (1 - p))


def test_labels() -> None:
    generator = np.random.default_rng(0)
    x, targets = generator.normal(size=(5, 3)), generator.integers(-1, 2, (5, 3))
    z = np.where(targets == 1, x, -x)
    chunk = stored_labels(rows_of(targets=[*targets], element_log_odds=[*np.where(targets < 0, 0, z)]))
    np.testing.assert_array_equal(chunk.targets, targets)
    np.testing.assert_allclose(chunk.logits[targets >= 0], x[targets >= 0], rtol=1e-6)
    positive = label_scores(chunk).positive
    np.testing.assert_allclose(positive[targets >= 0], 1 / (1 + np.exp(-x[targets >= 0])), rtol=1e-6)


def test_tokens_of_logits() -> None:
    generator = np.random.default_rng(1)
    lengths = [2, 0, 5]
    targets = [generator.integers(-1, 4, length) for length in lengths]
    logits = [generator.normal(size=(length, 4)) for length in lengths]
    rows = rows_of(targets=targets, element_logits=[part.reshape(-1) for part in logits])
    chunk = stored_tokens(rows, 4)
    np.testing.assert_array_equal(chunk.targets, [np.concatenate(targets)])
    np.testing.assert_array_equal(chunk.logits, [np.concatenate(logits).astype(np.float32)])


@pytest.mark.parametrize("sizes", [[(2, 3)], [(2, 3), (2, 3), (1, 4), (2, 3)], [(0, 3), (0, 3), (1, 1)]])
def test_masks_of_logits(sizes: list[tuple[int, int]]) -> None:
    generator = np.random.default_rng(2)
    targets = [generator.integers(-1, 3, size).reshape(-1) for size in sizes]
    logits = [generator.normal(size=(3, *size)) for size in sizes]
    rows = rows_of(targets=targets, element_logits=[part.reshape(-1) for part in logits])
    chunks = list(stored_masks(rows, 3))
    expected = [row for part in targets for row in part.tolist()]
    assert [value for part, _ in chunks for value in part["targets"].flatten().to_pylist()] == expected
    assert [value for _, chunk in chunks for value in chunk.targets.reshape(-1).tolist()] == expected
    planes = [plane for _, chunk in chunks for plane in chunk.logits]
    for plane, mask in zip(planes, logits, strict=True):
        np.testing.assert_array_equal(plane, mask.reshape(3, -1).astype(np.float32))
    # Neighbours of the same size share a chunk.
    assert len(chunks) == 1 + sum(np.prod(a) != np.prod(b) for a, b in pairwise(sizes))


@pytest.mark.parametrize("task", ["tokens", "masks"])
def test_two_classes_of_log_odds(task: str) -> None:
    generator = np.random.default_rng(3)
    p, targets = generator.uniform(0.01, 0.99, (4, 6)), generator.integers(-1, 2, (4, 6))
    p_t = np.where(targets == 1, p, 1 - p)
    rows = rows_of(targets=[*targets], element_log_odds=[*np.where(targets < 0, 0, log_odds(p_t))])
    chunk = stored_tokens(rows, 2) if task == "tokens" else next(stored_masks(rows, 2))[1]
    counted = targets.reshape(-1) >= 0
    np.testing.assert_allclose(probabilities(chunk)[counted, 1], p.reshape(-1)[counted], rtol=1e-5)
    np.testing.assert_allclose(scores(chunk).p_t.reshape(-1)[counted], p_t.reshape(-1)[counted], rtol=1e-5)
