"""Losses against soft labels and smoothed targets: 40-digit arithmetic, torch's cross-entropy and its derivatives."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn.functional import cross_entropy, one_hot

from service.loss.focal import FocalLoss, focal_loss
from service.loss.row_state import BAD_LOGIT, BAD_TARGET, COUNTED, IGNORED
from service.loss.scores import score
from service.loss.soft_labels import (
    log_probabilities,
    smoothed_labels,
    soft_focal,
    soft_gradient_norm,
    soft_labels,
    sum_tolerance,
)
from service.schema.request import ELEMENT_OUTPUTS
from tests.lanes import mostly_slow
from tests.loss import reference
from tests.loss.samples import GAMMAS, difficult_rows, double, moderate_rows

NAN, INF = math.nan, math.inf


def smoothed(
    logits: Tensor, targets: Tensor, gamma: float, smoothing: float, weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Loss and norm of its gradient."""
    classes, share = log_probabilities(logits), smoothed_labels(logits, targets, smoothing)
    return soft_focal(classes, share, gamma, weights), soft_gradient_norm(classes, share, gamma, weights)


def random_shares(*shape: int) -> Tensor:
    """Soft labels over axis 1, a quarter of them one-hot."""
    generator = torch.Generator().manual_seed(11)
    share = torch.rand(shape, generator=generator, dtype=torch.float64)
    share[::4] = share[::4] == share[::4].amax(1, keepdim=True)
    return share / share.sum(1, keepdim=True)


class TestSmoothedFocal:
    @pytest.mark.parametrize("gamma", mostly_slow(GAMMAS, quick=2))
    @pytest.mark.parametrize("weights", [None, (0.5, 1.0, 2.0, 0.0, 3.0)])
    def test_loss_and_gradient_norm_equal_the_reference(self, gamma: float, weights: tuple[float, ...] | None) -> None:
        alpha = None if weights is None else double(weights)
        for scale, offset in ((1.0, 0.0), (30.0, 1e4), (1e4, -1e4)):
            logits, targets = difficult_rows(torch.float32, scale, offset)
            loss, norm = smoothed(logits, targets, gamma, 0.1, alpha)
            for i, (row, target) in enumerate(zip(logits.tolist(), targets.tolist(), strict=True)):
                exact = reference.softmax_focal(row, target, gamma, weights, 0.1)
                gradient = reference.softmax_focal_gradient(row, target, gamma, weights, 0.1)
                exact_norm = mpmath.sqrt(mpmath.fsum(g**2 for g in gradient))
                assert reference.relative_error(loss[i].item(), exact) < 1e-9
                assert norm[i].item() == pytest.approx(float(exact_norm), rel=1e-9, abs=1e-12)

    def test_gamma_0_without_weights_is_torchs_cross_entropy(self) -> None:
        logits, targets = difficult_rows(torch.float64, 10.0, 0.0)
        loss, _ = smoothed(logits, targets, 0.0, 0.2, None)
        expected = torch.nn.functional.cross_entropy(logits, targets, label_smoothing=0.2, reduction="none")
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)

    @pytest.mark.parametrize("gamma", GAMMAS)
    def test_passes_gradcheck(self, gamma: float) -> None:
        logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64).requires_grad_()
        targets = torch.tensor([0, 1, 2, 3, 0])
        alpha = double([0.2, 1, 2, 3])
        assert gradcheck(lambda x: smoothed(x, targets, gamma, 0.15, alpha)[0], logits)

    def test_gradient_is_finite_at_a_tie_and_at_certainty(self) -> None:
        logits = double([1, 1, 1, 1e4, -1e4, 0]).reshape(2, 3).requires_grad_()
        smoothed(logits, torch.tensor([0, 0]), 0.1, 0.1, None)[0].sum().backward()
        assert logits.grad is not None
        for row, target, ours in zip(logits.tolist(), [0, 0], logits.grad.tolist(), strict=True):
            exact = reference.softmax_focal_gradient(row, target, 0.1, None, 0.1)
            assert ours == pytest.approx([float(g) for g in exact], rel=1e-10, abs=1e-15)


class TestSoftLabels:
    # The focal loss of a soft label is linear in the label.
    LOGITS = ((2, 0.1, -1), (0.3, 0.2, 0.9))
    SHARES = ((0.7, 0.2, 0.1), (0, 0.5, 0.5))

    @pytest.mark.parametrize(("gamma", "losses"), [(0, (0.8617845, 1.0655919)), (2, (0.6148128, 0.4992992))])
    def test_known_values(self, gamma: float, losses: tuple[float, ...]) -> None:
        logits, shares = torch.tensor(self.LOGITS), torch.tensor(self.SHARES)
        assert focal_loss(logits, shares, gamma=gamma, reduction="none").tolist() == pytest.approx(losses, rel=2e-7)
        assert score(FocalLoss(gamma=gamma, device="cpu"), logits, shares, []).loss == pytest.approx(losses, rel=2e-7)

    @pytest.mark.parametrize("gamma", GAMMAS)
    @pytest.mark.parametrize("weights", [None, (0.5, 1.0, 2.0, 0.0, 3.0)])
    def test_losses_and_scores_equal_the_reference(self, gamma: float, weights: tuple[float, ...] | None) -> None:
        logits, _ = difficult_rows(torch.float32, 10.0, 1e3)
        shares = random_shares(24, 5)
        module = FocalLoss(weights, gamma, "cpu")
        ours = score(module, logits, shares, ["cross_entropy", "grad_norm", "el2n"])
        for i, (row, share) in enumerate(zip(logits.tolist(), shares.tolist(), strict=True)):
            exact = reference.soft_focal(row, share, gamma, weights)
            gradient = reference.soft_focal_gradient(row, share, gamma, weights)
            distance = [c.p - y for c, y in zip(reference.softmax(tuple(row)), share, strict=True)]
            assert ours.loss[i] == pytest.approx(float(exact), rel=1e-9)
            for name, vector in (("grad_norm", gradient), ("el2n", distance)):
                norm = float(mpmath.sqrt(mpmath.fsum(g**2 for g in vector)))
                assert ours.outputs[name][i] == pytest.approx(norm, rel=1e-9, abs=1e-12)
            assert ours.outputs["cross_entropy"][i] == pytest.approx(float(reference.soft_focal(row, share, 0)), 1e-9)

    @pytest.mark.parametrize("shape", [(9, 5), (4, 5, 6), (4, 5, 2, 3)])
    @pytest.mark.parametrize("weight", [None, [0.5, 1.0, 2.0, 0.0, 4.0]])
    def test_gamma_0_is_torchs_cross_entropy(self, shape: tuple[int, ...], weight: list[float] | None) -> None:
        logits = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        shares = random_shares(*shape)
        tensor = None if weight is None else double(weight)
        for reduction in ("mean", "sum", "none"):
            x, y = logits.clone().requires_grad_(), logits.clone().requires_grad_()
            ours = focal_loss(x, shares, alpha=weight, gamma=0, reduction=reduction)
            expected = cross_entropy(y, shares, weight=tensor, reduction=reduction)
            torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-14)
            gradients = [torch.autograd.grad(loss.sum(), at)[0] for loss, at in ((ours, x), (expected, y))]
            torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-14)

    @pytest.mark.parametrize("gamma", [0, 0.5, 2])
    def test_one_hot_rows_equal_class_indices(self, gamma: float) -> None:
        logits, targets = moderate_rows()
        module = FocalLoss([0.5, 1, 2, 3, 4], gamma, "cpu")
        hard = score(module, logits, targets, ELEMENT_OUTPUTS)
        soft = score(module, logits, one_hot(targets, 5).double(), ELEMENT_OUTPUTS)
        for name in ("loss", "log_loss", "alpha_t"):
            np.testing.assert_allclose(getattr(soft, name), getattr(hard, name), rtol=1e-9)
        for name, values in hard.outputs.items():
            np.testing.assert_allclose(soft.outputs[name], values, rtol=1e-9, atol=1e-12, err_msg=name)

    def test_scores_of_one_class_are_those_of_the_first_with_the_largest_share(self) -> None:
        logits, shares = torch.tensor([[1.0, 2, 3]] * 2), torch.tensor([[0.2, 0.4, 0.4], [0, 0, 1.0]])
        names = ["p_t", "log_odds", "logit_margin", "normalized_margin", "prediction"]
        soft = score(FocalLoss(device="cpu"), logits, shares, names)
        hard = score(FocalLoss(device="cpu"), logits, torch.tensor([1, 2]), names)
        for name in names:
            np.testing.assert_allclose(soft.outputs[name], hard.outputs[name], rtol=1e-6)

    @pytest.mark.parametrize(
        ("row", "logits", "state"),
        [
            ([0.5, 0.5, 0], [1, 2, -INF], COUNTED),
            ([0.5, 0, 0.5], [1, 2, -INF], BAD_LOGIT),
            ([1, 0, 0], [1, -INF, -INF], COUNTED),
            ([0.5, 0.5, 0], [1, NAN, 0], BAD_LOGIT),
            ([0.5, 0.5, 0], [1, 2, INF], BAD_LOGIT),
            ([0.5, 0.49, 0], [1, 2, 3], BAD_TARGET),
            ([1.5, -0.5, 0], [1, 2, 3], BAD_TARGET),
            ([NAN, 0.5, 0.5], [1, 2, 3], BAD_TARGET),
            ([-100, 0.5, 0.5], [1, 2, 3], BAD_TARGET),
            ([-100, -100, -100], [1, NAN, INF], IGNORED),
        ],
    )
    @pytest.mark.parametrize("gamma", [0, 2])
    def test_states(self, row: list[float], logits: list[float], state: int, gamma: float) -> None:
        scores = score(FocalLoss(gamma=gamma, device="cpu"), double(logits)[None], double(row)[None], ELEMENT_OUTPUTS)
        assert scores.state.tolist() == [state]
        counted = state == COUNTED
        assert math.isfinite(scores.loss[0])
        for name, values in scores.outputs.items():
            missing = values[0] == -1 if name == "prediction" else math.isnan(values[0])
            assert missing != counted, name

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_rounded_shares_are_normalised(self, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(3)
        shares = torch.distributions.Dirichlet(torch.full((50,), 0.3)).sample((2000,)).double()
        shares[0] = torch.rand(50, generator=generator)
        shares[0] /= shares[0].sum()
        labels = soft_labels(shares.to(dtype), -100)
        assert labels.valid.all()
        torch.testing.assert_close(labels.share.sum(1), torch.ones(2000, dtype=torch.float64), rtol=0, atol=1e-15)
        off = shares[:1] * (1 + 2 * sum_tolerance(dtype))
        assert not soft_labels(off.to(dtype), -100).valid.any()

    @pytest.mark.parametrize("gamma", GAMMAS)
    def test_gradients_are_finite_with_masked_classes(self, gamma: float) -> None:
        x = double([1, 2, -INF, 5, -INF, -INF, 1e4, 0, -1e4]).reshape(3, 3).requires_grad_()
        shares = double([0.3, 0.7, 0, 1, 0, 0, 1, 0, 0]).reshape(3, 3)
        focal_loss(x, shares, gamma=gamma).backward()
        assert x.grad is not None
        assert x.grad.isfinite().all()
        assert x.grad[0, 0] != 0

    def test_an_ignored_row_passes_no_gradient(self) -> None:
        x = double([1, NAN, 2, 3]).reshape(2, 2).requires_grad_()
        loss = focal_loss(x, double([-100, -100, 0.5, 0.5]).reshape(2, 2))
        loss.backward()
        alone = focal_loss(double([2, 3])[None], double([0.5, 0.5])[None])
        assert loss.item() == pytest.approx(alone.item(), rel=1e-12)
        assert x.grad is not None
        assert x.grad[0].tolist() == [0, 0]

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_gradients_are_finite_in_every_dtype(self, dtype: torch.dtype) -> None:
        module = FocalLoss([0.5, 1, 2, 3, 4], device="cpu")
        x = torch.randn(6, 5, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
        module(x, random_shares(6, 5).float()).backward()
        assert x.grad is not None
        assert x.grad.isfinite().all()
        assert x.grad.count_nonzero() > 0

    def test_logits_of_one_example(self) -> None:
        row, share = double([1, 2, 3]), double([0.2, 0.3, 0.5])
        alone = focal_loss(row, share, reduction="none")
        assert alone.shape == ()
        assert alone == focal_loss(row[None], share[None], reduction="none")[0]
