"""Softmax rows of every width at which an implementation changes its algorithm, against the float64 oracle."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.lanes import mostly_slow
from tests.loss.comparison import assert_equals_oracle
from tests.loss.implementations import Implementation, every_implementation, every_shape, every_width
from tests.loss.samples import DTYPES, random_rows
from tests.strategies import at_most

INF, NAN = math.inf, math.nan


@every_shape()
def test_every_shape(implementation: Implementation, rows: int, classes: int) -> None:
    for dtype in DTYPES:
        assert_equals_oracle(implementation, *random_rows(rows, classes, dtype))


@every_width()
def test_a_shared_offset(implementation: Implementation, classes: int) -> None:
    for dtype in DTYPES:
        for offset in (1e4, -1e4):
            assert_equals_oracle(implementation, *random_rows(4, classes, dtype, offset=offset))


@every_width()
@pytest.mark.parametrize("scale", mostly_slow([1e4, 1e-2, 1e-6, 1e2, 1e3], quick=2))
def test_every_scale(implementation: Implementation, classes: int, scale: float) -> None:
    for dtype in DTYPES:
        assert_equals_oracle(implementation, *random_rows(6, classes, dtype, scale=scale))


@every_implementation()
@pytest.mark.parametrize("gamma", mostly_slow([0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 30.0], quick=3))
def test_every_gamma_at_every_scale(implementation: Implementation, gamma: float) -> None:
    for classes in (4, 200):
        batches = [random_rows(8, classes, torch.float64, scale=scale) for scale in (0.01, 1, 100, 1e4)]
        logits, targets = (torch.cat(tensors) for tensors in zip(*batches, strict=True))
        assert_equals_oracle(implementation, logits, targets, gamma)
        assert_equals_oracle(implementation, logits.float(), targets, gamma)


@every_width()
def test_the_largest_and_smallest_numbers(implementation: Implementation, classes: int) -> None:
    for dtype in DTYPES:
        largest, smallest = torch.finfo(dtype).max, torch.finfo(dtype).tiny
        if dtype == torch.float64 and "gradient" not in implementation.lacks:
            largest /= 4  # gamma times the cross-entropy is a factor of the gradient, and overflows
        logits = torch.zeros(6, classes, dtype=dtype)
        logits[0] = largest
        logits[1, ::2], logits[1, 1::2] = largest, -largest
        logits[2] = -largest
        logits[3, 1::2] = smallest
        logits[4, -1] = largest
        logits[5, 0] = -largest
        for target in (0, 1, classes - 1):
            assert_equals_oracle(implementation, logits, torch.full((6,), target))


@every_width()
def test_logits_that_rise_or_fall_from_class_to_class(implementation: Implementation, classes: int) -> None:
    for dtype in DTYPES:
        steps = torch.linspace(-30, 30, classes, dtype=torch.float64)
        logits = torch.stack([steps, steps.flip(0), steps.abs(), -steps.abs()]).to(dtype)
        for target in (0, classes // 2, classes - 1):
            assert_equals_oracle(implementation, logits, torch.full((4,), target))


@every_width()
def test_the_first_of_equal_logits_is_predicted(implementation: Implementation, classes: int) -> None:
    implementation.need("prediction")
    for dtype in DTYPES:
        logits = torch.zeros(3, classes, dtype=dtype)
        logits[1, classes // 2 :] = 1
        logits[2, -1] = 1
        logits[2, 0] = 1
        for target in (0, classes // 2, classes - 1):
            result = assert_equals_oracle(implementation, logits, torch.full((3,), target))
            assert result["prediction"].tolist() == [0, classes // 2, 0]


@every_width()
def test_masked_classes_and_bad_logits(implementation: Implementation, classes: int) -> None:
    for dtype in DTYPES:
        last = classes - 1
        logits = torch.ones(11, classes, dtype=dtype)
        logits[0, :last] = -INF  # all classes but the target are masked
        logits[1] = -INF
        logits[2, last] = -INF  # the target is masked
        logits[3, last] = NAN
        logits[4, 0] = NAN
        logits[5, last] = INF
        logits[6, 0] = INF
        logits[7, 0] = -INF
        logits[8, :last] = -INF  # a NaN among masks
        logits[8, 0] = NAN
        logits[9] = NAN
        logits[10] = random_rows(1, classes, dtype)[0]
        logits[10, : classes - 3] = -INF  # the first blocks of a row are masked
        result = assert_equals_oracle(implementation, logits, torch.full((11,), last))
        if "state" in result:
            assert result["state"].tolist() == [0, 3, 3, 3, 3, 3, 3, 0, 3, 3, 0]
            assert result["logit_margin"][0] == INF


@every_width()
def test_a_nan_of_any_payload_is_detected(implementation: Implementation, classes: int) -> None:
    implementation.need("bad_rows")
    for bits in (0x7FC00000, 0x7FC00001, 0x7F800001, 0x7FFFFFFF, 0xFFC00000, 0xFFFFFFFF):
        values = np.zeros((1, classes), np.float32)
        values.view(np.uint32)[0, 1] = bits
        assert_equals_oracle(implementation, torch.from_numpy(values), torch.tensor([0]))


@every_implementation()
@at_most(40)
@given(classes=st.sampled_from([2, 3, 9, 129, 140]), rows=st.integers(1, 5), seed=st.integers(0, 2**32))
def test_ties_between_few_values(implementation: Implementation, classes: int, rows: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.tensor([-1.0, 0.0, 1.0, -INF])
    logits = values[torch.randint(0, 4, (rows, classes), generator=generator)]
    assert_equals_oracle(implementation, logits, torch.randint(0, classes, (rows,), generator=generator))


@every_implementation()
@at_most(40)
@given(
    rows=st.integers(1, 40),
    classes=st.integers(2, 70),
    near=st.none() | st.integers(0, 20),
    dtype=st.sampled_from(DTYPES),
    gamma=st.floats(0, 5),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 30.0, 1e4]),
    values=st.lists(st.sampled_from([INF, -INF, -INF, NAN, 0.0, -1.0, 7.0]), max_size=12),
    seed=st.integers(0, 2**32),
)
def test_any_rows(
    implementation: Implementation,
    rows: int,
    classes: int,
    near: int | None,
    dtype: torch.dtype,
    gamma: float,
    scale: float,
    values: list[float],
    seed: int,
) -> None:
    """Some logits are infinite or NaN, some targets ignored or out of range; widths are near those of `shapes`."""
    if near is not None:
        edges = sorted({width for _, width in implementation.shapes if width < 10_000})
        classes = max(2, edges[near % len(edges)] + classes % 11 - 5)
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(rows, classes, generator=generator, dtype=torch.float64) * scale).to(dtype)
    for value in values:
        place = torch.randint(0, rows * classes, (1,), generator=generator)
        logits.view(-1)[place] = value
    targets = torch.randint(0, classes, (rows,), generator=generator)
    unusual = torch.tensor([-100, -100, -1, classes])[torch.randint(0, 4, (rows,), generator=generator)]
    targets = torch.where(torch.rand(rows, generator=generator) < 0.2, unusual, targets)
    assert_equals_oracle(implementation, logits, targets, gamma, alpha=[1.0 + c % 7 for c in range(classes)])
