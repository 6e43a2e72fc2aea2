"""Effects of changes of the rows, the classes and the configuration on the scores."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy

from tests.loss import reference
from tests.loss.comparison import assert_near
from tests.loss.implementations import FURTHER, Columns, Implementation, every_implementation
from tests.loss.samples import DTYPES, GAMMAS, all_difficult_rows, moderate_rows
from tests.strategies import at_most

NAN = math.nan
SEEDS = st.integers(0, 2**32)


def generated_rows(seed: int, rows: int, classes: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Rows of a random scale up to 1000, 10 % of them ignored."""
    generator = torch.Generator().manual_seed(seed)
    scale = 10 ** (torch.rand((), generator=generator).item() * 3)
    logits = (torch.randn(rows, classes, generator=generator) * scale).to(dtype)
    targets = torch.randint(0, classes, (rows,), generator=generator)
    targets[torch.rand(rows, generator=generator) < 0.1] = -100
    return logits, targets


def assert_close(result: Columns, expected: Columns, rtol: float, atol: float) -> None:
    """Assert that every column is equal up to a tolerance, which is relative for losses and gradients.

    The confidence-weighted entropy is left out: it multiplies the rounding errors of two scores by up to 10^12.
    """
    for name in expected.keys() - {"confidence_weighted_entropy"}:
        exact = 1e-37 if name in ("loss", "gradient") else atol
        assert_near(result[name], expected[name], rtol=rtol, atol=exact, name=name)


@every_implementation()
@at_most(40)
@given(
    seed=SEEDS,
    rows=st.integers(1, 40),
    classes=st.integers(2, 70),
    dtype=st.sampled_from(DTYPES),
    gamma=st.floats(0, 5),
    kind=st.sampled_from(["softmax", "smoothed", "sigmoid"]),
    data=st.data(),
)
def test_neither_splitting_nor_permuting_rows_changes_a_row(
    implementation: Implementation,
    seed: int,
    rows: int,
    classes: int,
    dtype: torch.dtype,
    gamma: float,
    kind: str,
    data: st.DataObject,
) -> None:
    config: dict[str, Any] = {"gamma": gamma, "alpha": [0.5 + c / 200 for c in range(classes)]}
    logits, targets = generated_rows(seed, rows, classes, dtype)
    generator = torch.Generator().manual_seed(seed)
    if kind == "sigmoid" and "sigmoid" not in implementation.lacks:
        config["mode"] = "sigmoid"
        targets = torch.randint(0, 2, (rows, classes), generator=generator)
        targets[torch.rand(rows, classes, generator=generator) < 0.1] = -100
    elif kind == "smoothed" and "label_smoothing" not in implementation.lacks:
        config["label_smoothing"] = 0.1
    if "bad_rows" not in implementation.lacks:
        logits[torch.rand(rows, classes, generator=generator) < 0.02] = NAN
    cut, order = data.draw(st.integers(0, rows)), torch.randperm(rows, generator=generator)
    whole = implementation.score(logits, targets, **config)
    parts = [implementation.score(logits[at], targets[at], **config) for at in (order[:cut], order[cut:])]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in whole}
    assert_close(joined, {name: values[order.numpy()] for name, values in whole.items()}, rtol=2e-6, atol=1e-6)


@every_implementation()
@at_most(40)
@given(
    seed=SEEDS,
    classes=st.integers(2, 20),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    gamma=st.floats(0, 5),
    smoothing=st.sampled_from([0.0, 0.0, 0.1]),
)
def test_permuting_classes_with_their_weights_changes_no_row(
    implementation: Implementation, seed: int, classes: int, dtype: torch.dtype, gamma: float, smoothing: float
) -> None:
    logits, targets = generated_rows(seed, 10, classes, dtype)
    order = torch.randperm(classes, generator=torch.Generator().manual_seed(seed))
    config: dict[str, Any] = {"gamma": gamma}
    if "label_smoothing" not in implementation.lacks:
        config["label_smoothing"] = smoothing
    weights = torch.arange(1.0, classes + 1)
    expected = implementation.score(logits, targets, alpha=weights.tolist(), **config)
    permuted_targets = torch.where(targets == -100, targets, order.argsort()[targets.clamp(min=0)])
    result = implementation.score(logits[:, order], permuted_targets, alpha=weights[order].tolist(), **config)
    if "gradient" in expected:
        expected["gradient"] = expected["gradient"][:, order.numpy()]
    if "prediction" in expected:
        # Another of the tied largest logits may be the first now.
        largest = logits == logits.amax(1, keepdim=True)
        at = np.arange(10), result["prediction"].clip(0)
        assert (largest[:, order].numpy()[at] | (result["prediction"] == -1)).all()
        del expected["prediction"]
    assert_close(result, expected, rtol=4e-6, atol=4e-6)


@every_implementation()
@at_most(40)
@given(seed=SEEDS, classes=st.integers(2, 20), gamma=st.floats(0, 8))
def test_every_gamma_orders_rows_of_equal_weight_as_cross_entropy_does(
    implementation: Implementation, seed: int, classes: int, gamma: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(50, classes, generator=generator, dtype=torch.float64) * 4
    targets = torch.randint(0, classes, (50,), generator=generator)
    order = cross_entropy(logits, targets, reduction="none").argsort().numpy()
    result = implementation.score(logits, targets, [], gamma=gamma, alpha=[3.0] * classes)
    assert (np.diff(result["loss"][order]) >= 0).all()


@every_implementation()
@at_most(40)
@given(seed=SEEDS, classes=st.integers(2, 10), gamma=st.floats(0, 5), factor=st.floats(0.1, 10))
def test_the_loss_is_linear_in_alpha(
    implementation: Implementation, seed: int, classes: int, gamma: float, factor: float
) -> None:
    logits, targets = generated_rows(seed, 10, classes, torch.float64)
    alpha = [1.0 + c for c in range(classes)]
    plain = implementation.score(logits, targets, [], alpha=alpha, gamma=gamma)
    scaled = implementation.score(logits, targets, [], alpha=[factor * a for a in alpha], gamma=gamma)
    for name in plain.keys() & {"loss", "alpha_t", "gradient"}:
        assert_near(scaled[name], plain[name] * factor, rtol=1e-12, atol=1e-300, name=name)


@every_implementation()
@at_most(40)
@given(seed=SEEDS, gamma=st.floats(0, 5), percent=st.integers(0, 100))
def test_two_classes_equal_a_sigmoid_of_their_difference(
    implementation: Implementation, seed: int, gamma: float, percent: int
) -> None:
    alpha = percent / 100
    logits, targets = generated_rows(seed, 20, 2, torch.float64)
    result = implementation.score(logits, targets, [], alpha=alpha, gamma=gamma)
    exact = [
        float(reference.sigmoid_focal(x, y, gamma, alpha)) if y >= 0 else 0
        for x, y in zip((logits[:, 1] - logits[:, 0]).tolist(), targets.tolist(), strict=True)
    ]
    assert_near(result["loss"], np.array(exact), rtol=1e-9, atol=1e-300)


@every_implementation()
def test_with_two_classes_every_score_of_the_label_gives_the_same_order(implementation: Implementation) -> None:
    implementation.need(*FURTHER)
    for gamma in GAMMAS:
        result = implementation.score(*moderate_rows(rows=200, classes=2), gamma=gamma)
        order = result["loss"].argsort()
        for name in ("cross_entropy", "el2n"):
            assert np.array_equal(result[name].argsort(), order), name
        for name in ("p_t", "log_odds", "logit_margin", "normalized_margin"):
            assert np.array_equal((-result[name]).argsort(), order), name
        assert_near(result["el2n"], math.sqrt(2) * (1 - result["p_t"]), rtol=1e-12, atol=1e-15)
        assert_near(result["normalized_margin"], result["p_t"], rtol=1e-12, atol=1e-15)


@every_implementation()
def test_log_loss_orders_rows_of_equal_weight_as_log_odds_do(implementation: Implementation) -> None:
    """Also in rows whose loss underflows."""
    implementation.need("log_loss", "log_odds")
    for gamma in GAMMAS:
        result = implementation.score(*all_difficult_rows(torch.float64), alpha=[2.0] * 5, gamma=gamma)
        order = np.argsort(-result["log_odds"], kind="stable")
        assert (np.diff(result["log_loss"][order]) >= 0).all()
