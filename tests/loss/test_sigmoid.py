"""Losses of independent labels against 40-digit arithmetic, timm's asymmetric loss, torch and its derivatives."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from torch.autograd import gradcheck

from service.loss.focal import FocalLoss, focal_loss
from service.loss.scores import score
from service.loss.sigmoid import (
    Focus,
    log_sigmoid_focal,
    negative_log_odds,
    sigmoid_cross_entropy,
    sigmoid_focal,
    sigmoid_log_odds,
    sigmoid_slope,
)
from tests.loss import reference
from tests.loss.samples import GAMMAS, double

INF = math.inf
FOCUSES = (
    Focus(1, 4, 0.05),
    Focus(0, 0, 0.05),
    Focus(2, 2, 0.3),
    Focus(2, 0.5, 1e-9),
    Focus(0.1, 0, 0),
    Focus(0, 5, 0),
    Focus(5, 1, 0.99),
)


def test_log_odds_of_hard_labels_are_the_signed_logit() -> None:
    logits = torch.tensor([3.0, 3.0, -INF, -70000.0], dtype=torch.float64)
    assert sigmoid_log_odds(logits, torch.tensor([1, 0, 0, 1])).tolist() == [3.0, -3.0, INF, -70000.0]


@pytest.mark.parametrize("y", [1e-9, 0.1, 0.3, 0.5, 0.75, 1 - 1e-9])
def test_log_odds_of_soft_labels_are_those_of_p_t(y: float) -> None:
    x = double([-1e4, -50, -2, 0, 1.2, 30, 1e4])
    for ours, value in zip(sigmoid_log_odds(x, torch.full_like(x, y)).tolist(), x.tolist(), strict=True):
        p, q = reference.logistic(value), reference.logistic(-value)
        exact = mpmath.log((y * p + (1 - mpmath.mpf(y)) * q) / (y * q + (1 - mpmath.mpf(y)) * p))
        assert ours == pytest.approx(float(exact), rel=1e-12, abs=1e-14)


def test_hard_and_soft_labels_in_a_tensor() -> None:
    x = double([2, 2, 2])
    mixed = sigmoid_log_odds(x, double([1, 0.3, 0]))
    assert mixed[[0, 2]].tolist() == [2.0, -2.0]
    assert mixed[1] == sigmoid_log_odds(x[1:2], double([0.3]))[0]


@pytest.mark.parametrize("y", [0.0, 0.3, 1.0])
def test_cross_entropy_equals_torch(y: float) -> None:
    x = double([-1e4, -40, -1, 0, 2, 40, 1e4])
    targets = torch.full_like(x, y)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(x, targets, reduction="none")
    torch.testing.assert_close(sigmoid_cross_entropy(x, targets), expected, rtol=1e-12, atol=1e-15)


def test_a_label_that_is_certain_has_no_cross_entropy() -> None:
    ours = sigmoid_cross_entropy(double([-INF, INF]), double([0, 1]))
    assert ours.tolist() == [0.0, 0.0]
    assert not ours.signbit().any()


class TestAsymmetricLoss:
    # timm 1.0.31, AsymmetricLossMultiLabel(reduction="none"): gamma_neg 4, gamma_pos 1, clip .05.
    LOGITS = ((2, -1, 0.5, -3), (-0.5, 3, -2, 0))
    LABELS = ((1, 0, 0, 0), (0, 1, 1, 0))
    LOSSES = (0.01513020, 0.00056780, 0.09125301, 0, 0.00456718, 0.00230430, 1.8733921, 0.02451505)

    def test_equals_timm(self) -> None:
        logits, labels = torch.tensor(self.LOGITS), torch.tensor(self.LABELS)
        options = {"gamma": 1, "gamma_negative": 4, "clip": 0.05, "mode": "sigmoid"}
        losses = focal_loss(logits, labels, reduction="none", **options)  # type: ignore[arg-type]
        assert losses.flatten().tolist() == pytest.approx(self.LOSSES, rel=1e-7, abs=2e-8)
        total = focal_loss(logits, labels, reduction="sum", **options)  # type: ignore[arg-type]
        assert total.item() / 2 == pytest.approx(1.0058649, rel=3e-7)
        scores = score(FocalLoss(device="cpu", **options), logits, labels, ["p_t"])  # type: ignore[arg-type]
        assert scores.loss.tolist() == pytest.approx(self.LOSSES, rel=1e-7, abs=2e-8)
        # The clip lowers the loss, not the scores.
        assert scores.outputs["p_t"][3] == pytest.approx(1 / (1 + math.exp(-3)))
        assert scores.log_loss[3] == -INF

    @pytest.mark.parametrize("focus", FOCUSES, ids=str)
    @pytest.mark.parametrize("y", [0.0, 0.3, 1.0])
    @pytest.mark.parametrize("alpha", [None, 0.25])
    def test_loss_logarithm_and_slope_equal_the_formula(self, focus: Focus, y: float, alpha: float | None) -> None:
        x = double([-800, -60, -20, -3, -2.94, -0.5, 0, 0.3, 1, 4.59, 4.6, 10, 37, 60, 800])
        labels, weight = torch.full_like(x, y), None if alpha is None else double([alpha])
        z, ce = sigmoid_log_odds(x, labels), sigmoid_cross_entropy(x, labels)
        loss, _ = sigmoid_focal(x, labels, focus, weight)
        log_loss = log_sigmoid_focal(x, labels, focus, weight, z, ce)
        slope = sigmoid_slope(x, labels, focus, weight, z, ce)
        for i, value in enumerate(x.tolist()):
            exact = reference.asymmetric(value, y, (focus.gamma, focus.gamma_negative), focus.clip, alpha)
            # p - clip loses digits near the clip, as in any formula of p in float64.
            assert loss[i].item() == pytest.approx(float(exact), rel=1e-11, abs=1e-18)
            if exact > 1e-20:
                assert log_loss[i].item() == pytest.approx(float(mpmath.log(exact)), rel=1e-11, abs=1e-11)
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(sigmoid_focal(x, labels, focus, weight)[0].sum(), x)
        torch.testing.assert_close(slope, gradient, rtol=1e-9, atol=1e-15)
        assert slope.isfinite().all()

    @pytest.mark.parametrize("focus", FOCUSES, ids=str)
    def test_passes_gradcheck(self, focus: Focus) -> None:
        x, y = double([-2, -0.4, 0.1, 1.3, 5]).requires_grad_(), double([0, 0.2, 1, 0, 0])
        assert gradcheck(lambda x: sigmoid_focal(x, y, focus, double([0.3]))[0], x)

    @pytest.mark.parametrize("gamma", GAMMAS)
    def test_without_asymmetry_it_is_the_focal_loss(self, gamma: float) -> None:
        x, y = double([-30, -2, 0, 1, 40]), double([0, 1, 0, 1, 0])
        ours, _ = sigmoid_focal(x, y, Focus(gamma, gamma), double([0.25]))
        # A clip far below the rounding of p leaves the general formula.
        general, _ = sigmoid_focal(x, y, Focus(gamma, gamma, 1e-300), double([0.25]))
        torch.testing.assert_close(general, ours, rtol=1e-12, atol=1e-40)

    def test_negatives_below_the_clip_have_no_loss_and_no_gradient(self) -> None:
        x = double([-INF, -1e4, -4, -3]).requires_grad_()
        for gamma in GAMMAS:
            loss, _ = sigmoid_focal(x, torch.zeros(4), Focus(2, gamma, 0.05), None)
            (gradient,) = torch.autograd.grad(loss.sum(), x)
            assert loss.tolist() == gradient.tolist() == [0, 0, 0, 0]

    def test_the_negative_log_odds_without_a_clip_are_exact(self) -> None:
        assert negative_log_odds(double([-INF, 3, 1e4]), 0).tolist() == [INF, -3, -1e4]

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_gradients_are_finite_in_every_dtype(self, dtype: torch.dtype) -> None:
        module = FocalLoss(0.25, 1, "cpu", mode="sigmoid", gamma_negative=4, clip=0.05)
        labels = torch.tensor([[1, 0, 0.5, -100]] * 6)
        x = torch.tensor([-300.0, -5, -2.9, 0, 20, 300], dtype=dtype)[:, None].expand(6, 4).clone().requires_grad_()
        module(x, labels).backward()
        assert x.grad is not None
        assert x.grad.isfinite().all()
        assert x.grad.count_nonzero() > 0
