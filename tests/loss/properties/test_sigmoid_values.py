"""Sigmoid losses, scores and gradients against 40-digit arithmetic and the formulas of torch and torchvision."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from tests.lanes import mostly_slow
from tests.loss import oracles, reference
from tests.loss.comparison import FLOAT32_EPSILON, FLOAT32_TINY, assert_near, gradient_tolerance
from tests.loss.implementations import FURTHER, Array, Implementation, every_implementation
from tests.loss.samples import DTYPES, GAMMAS, double

ALPHA = (0.25, 0.5, 0.9, 0.0)


def batch(soft: bool) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(30, 4, generator=generator, dtype=torch.float64) * 2
    targets = torch.rand(30, 4, generator=generator, dtype=torch.float64)
    return logits, targets if soft else targets.round()


@cache
def autograd_scores(gamma: float, soft: bool) -> dict[str, Array]:
    """Losses and gradients of `batch` with `ALPHA`, by autograd from torchvision's formula."""
    return oracles.differentiate(lambda x, y: oracles.sigmoid_focal(x, y, gamma, ALPHA), *batch(soft))


@cache
def exact_scores(dtype: torch.dtype, gamma: float, y: float) -> tuple[Tensor, Array, Array]:
    """Logits of every scale (N, 1), and their losses and gradients (N,) from 40-digit arithmetic."""
    scales = (1, 8, 17, 20, 40, 90, 1e3, 1e4)
    x = torch.tensor([scale * v for scale in scales for v in (-1, -0.1, 0.3, 1)], dtype=torch.float64).to(dtype)
    loss = [float(reference.sigmoid_focal(value, y, gamma, 0.25)) for value in x.tolist()]
    slope = [float(reference.sigmoid_focal_gradient(value, y, gamma, 0.25)) for value in x.tolist()]
    return x.unsqueeze(1), np.array(loss), np.array(slope)


@every_implementation()
@pytest.mark.parametrize("dtype", mostly_slow(DTYPES, quick=2))
@pytest.mark.parametrize("y", mostly_slow([0.0, 0.3, 1.0], quick=2))
def test_losses_and_gradients_at_every_scale(implementation: Implementation, dtype: torch.dtype, y: float) -> None:
    rounded = implementation.rounds and dtype != torch.float64
    rtol, atol = (FLOAT32_EPSILON, FLOAT32_TINY) if rounded else (1e-11, 1e-150)
    for gamma in GAMMAS:
        logits, loss, slope = exact_scores(dtype, gamma, y)
        labels = torch.full(logits.shape, y, dtype=torch.float64)
        result = implementation.score(logits, labels, mode="sigmoid", gamma=gamma, alpha=0.25)
        assert_near(result["loss"], loss, rtol=rtol, atol=atol)
        if "grad_norm" in result:
            assert_near(result["grad_norm"], np.abs(slope), rtol=max(rtol, 1e-9), atol=atol)
        if "gradient" in result:
            near_rtol, near_atol = gradient_tolerance(dtype, 1e-9)
            if dtype in (torch.float16, torch.bfloat16):
                # Autograd rounds two summands: the derivatives by the cross-entropy and by the focusing factor.
                near_atol = torch.finfo(dtype).eps * float(np.abs(slope).max())
            assert_near(result["gradient"][:, 0], slope, rtol=near_rtol, atol=near_atol)


@every_implementation()
@pytest.mark.parametrize("y", [0.0, 0.4, 1.0])
def test_the_loss_of_several_labels_is_their_mean(implementation: Implementation, y: float) -> None:
    logits = double([[0.5, 3.0], [300.0, -300.0], [2000.0, 1000.0], [-2000.0, 1000.0]])
    for gamma in GAMMAS:
        result = implementation.score(logits, torch.full_like(logits, y), mode="sigmoid", gamma=gamma, alpha=0.25)
        exact = [sum(reference.sigmoid_focal(value, y, gamma, 0.25) for value in row) / 2 for row in logits.tolist()]
        assert_near(result["loss"], np.array(list(map(float, exact))), rtol=1e-12)
        if "log_loss" in result:
            assert_near(result["log_loss"], np.array(list(map(reference.log, exact))), rtol=1e-12, atol=1e-12)


@every_implementation()
@pytest.mark.parametrize("soft", [False, True])
def test_gamma_0_is_torchs_binary_cross_entropy(implementation: Implementation, soft: bool) -> None:
    logits, targets = batch(soft)
    result = implementation.score(logits, targets, mode="sigmoid", gamma=0)
    x = logits.clone().requires_grad_()
    loss = binary_cross_entropy_with_logits(x, targets, reduction="none").mean(1)
    assert_near(result["loss"], loss.detach().numpy(), rtol=1e-12)
    if "gradient" in result:
        (gradient,) = torch.autograd.grad(loss.sum(), x)
        assert_near(result["gradient"], gradient.numpy(), rtol=1e-12, atol=1e-14)


@every_implementation()
@pytest.mark.parametrize("soft", [False, True])
def test_losses_and_gradients_equal_those_of_torchvisions_formula(implementation: Implementation, soft: bool) -> None:
    for gamma in GAMMAS:
        logits, targets = batch(soft)
        result = implementation.score(logits, targets, mode="sigmoid", gamma=gamma, alpha=ALPHA)
        expected = autograd_scores(gamma, soft)
        assert_near(result["loss"], expected["loss"], rtol=1e-11)
        for name, rtol, atol in (("log_loss", 0, 1e-11), ("gradient", 1e-10, 1e-14), ("grad_norm", 1e-10, 1e-14)):
            if name in result:
                assert_near(result[name], expected[name], rtol=rtol, atol=atol, name=name)
        if "alpha_t" in result:
            alpha_t = double(ALPHA) * targets + (1 - double(ALPHA)) * (1 - targets)
            assert_near(result["alpha_t"], alpha_t.mean(1).numpy(), rtol=1e-14)


@every_implementation()
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("missing", [False, True])
def test_scores_equal_their_formulas(implementation: Implementation, soft: bool, missing: bool) -> None:
    implementation.need(*FURTHER)
    logits, targets = batch(soft)
    present = [0, 1, 3] if missing else [0, 1, 2, 3]
    expected = oracles.sigmoid_outputs(logits[:, present], targets[:, present])
    if missing:
        targets[:, 2] = -100
    result = implementation.score(logits, targets, mode="sigmoid")
    result["prediction"] = result["prediction"][:, present]
    for name, values in expected.items():
        assert_near(result[name], values.numpy(), rtol=1e-10, atol=1e-12, name=name)


@every_implementation()
def test_a_single_label_equals_a_softmax_of_two_classes(implementation: Implementation) -> None:
    logits, _ = batch(soft=False)
    x, y = logits[:, :1], (torch.arange(30) % 2).unsqueeze(1)
    sigmoid = implementation.score(x, y, mode="sigmoid", alpha=0.25, gamma=0.5)
    softmax = implementation.score(torch.cat([torch.zeros_like(x), x], 1), y[:, 0], alpha=0.25, gamma=0.5)
    for name in softmax.keys() - {"gradient"}:
        # The vector of two classes has two entries of the same absolute value.
        factor = math.sqrt(2) if name in ("el2n", "grad_norm") else 1
        assert_near(sigmoid[name] * factor, softmax[name], rtol=1e-10, atol=1e-14, name=name)
    if "gradient" in softmax:
        assert_near(sigmoid["gradient"][:, 0], softmax["gradient"][:, 1], rtol=1e-10, atol=1e-14)


@every_implementation()
def test_a_logit_of_zero_predicts_the_negative_label(implementation: Implementation) -> None:
    implementation.need("prediction")
    result = implementation.score(double([[0.0, 1e-9, -1e-9]]), double([[1, 1, 1]]), mode="sigmoid")
    assert result["prediction"].tolist() == [[0, 1, 0]]
