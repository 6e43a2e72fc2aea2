"""The formula against 40-digit arithmetic, torch's derivatives, and at the limits of its arguments."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from service.loss.formula import (
    Logistic,
    compute_dtype,
    cross_entropy_from_log_odds,
    focal_from_log_odds,
    focal_slope,
    log_focal_from_log_odds,
    softmax_statistics,
)
from tests.loss import reference
from tests.loss.samples import DTYPES, GAMMAS, all_difficult_rows, double

INF = math.inf


@pytest.mark.parametrize("dtype", DTYPES)
def test_half_precision_logits_are_converted_to_float32_and_others_unchanged(dtype: torch.dtype) -> None:
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    assert compute_dtype(torch.zeros(1, dtype=dtype)) == expected


class TestSoftmaxStatistics:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_log_odds_are_the_logarithm_of_p_over_one_minus_p(self, dtype: torch.dtype) -> None:
        logits, targets = all_difficult_rows(dtype)
        z = softmax_statistics(logits, targets).log_odds
        assert z.dtype == torch.float64
        for row, target, ours in zip(logits.tolist(), targets.tolist(), z.tolist(), strict=True):
            target_class = reference.softmax(tuple(row))[target]
            exact = mpmath.log(target_class.p) - mpmath.log(target_class.one_minus_p)
            assert abs(ours - exact) <= 2e-6 + 1e-12 * abs(exact)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("offset", [1e4, -1e4, 2.0**20])
    def test_an_offset_of_all_logits_that_the_dtype_represents_exactly_changes_no_bit(
        self, dtype: torch.dtype, offset: float
    ) -> None:
        generator = torch.Generator().manual_seed(1)
        logits = torch.randint(-64, 65, (50, 7), generator=generator).to(dtype) / 8
        targets = torch.randint(0, 7, (50,), generator=generator)
        plain, shifted = (softmax_statistics(x, targets, moments=True) for x in (logits, logits + offset))
        assert torch.equal(plain.log_odds, shifted.log_odds)
        assert torch.equal(plain.logit_margin, shifted.logit_margin)
        assert plain.moments is not None
        assert shifted.moments is not None
        assert torch.equal(plain.moments.entropy, shifted.moments.entropy)
        assert torch.equal(plain.moments.squared, shifted.moments.squared)

    def test_margin_is_the_target_minus_the_largest_other_logit(self) -> None:
        logits = double([3, 1, 2, -4, 7, 7]).reshape(2, 3)
        row = softmax_statistics(logits, torch.tensor([0, 2]))
        assert row.logit_margin.tolist() == [1.0, 0.0]
        assert row.log_others.tolist() == pytest.approx([math.log1p(math.exp(-1)), math.log1p(math.exp(-11))])

    @pytest.mark.parametrize(
        ("logits", "expected"),
        [
            ([1.0, 2.0, 0.0], 1),
            ([2.0, 2.0, 2.0], 0),
            ([0.0, 2.0, 2.0], 1),
            ([2.0, 0.0, 2.0], 0),
            ([-INF, 2.0, 2.0], 1),
            ([-INF, -INF, -3.0], 2),
        ],
    )
    def test_prediction_is_the_smallest_index_of_the_largest_logit_for_any_target(
        self, logits: list[float], expected: int
    ) -> None:
        predictions = {
            softmax_statistics(torch.tensor([logits]), torch.tensor([target]), prediction=True).prediction.item()
            for target in range(3)
            if logits[target] > -INF
        }
        assert predictions == {expected}

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_prediction_is_the_first_of_many_ties_in_a_wide_row(self, dtype: torch.dtype) -> None:
        logits = torch.zeros(64, 1000, dtype=dtype)
        first = torch.arange(64) * 15
        logits[torch.arange(1000) >= first.unsqueeze(1)] = 1
        for targets in (first, torch.zeros(64).long(), torch.full((64,), 999)):
            row = softmax_statistics(logits, targets, prediction=True)
            assert row.prediction is not None
            assert torch.equal(row.prediction, first)

    @pytest.mark.parametrize("bad", [math.nan, INF])
    @pytest.mark.parametrize("column", [0, 1, 2])
    def test_nan_and_plus_inf_make_a_row_invalid_in_any_column(self, bad: float, column: int) -> None:
        logits = torch.zeros(2, 3)
        logits[1, column] = bad
        assert softmax_statistics(logits, torch.tensor([1, 1])).valid.tolist() == [True, False]

    def test_minus_inf_is_a_mask_except_on_the_target(self) -> None:
        logits = torch.tensor([[0.0, -INF, 1.0], [0.0, -INF, 1.0], [-INF, 0.0, -INF]])
        assert softmax_statistics(logits, torch.tensor([0, 1, 1])).valid.tolist() == [True, False, True]

    def test_a_masked_class_changes_nothing(self) -> None:
        full = softmax_statistics(double([0.5, -INF, 1, -INF]).reshape(1, 4), torch.tensor([0]), moments=True)
        small = softmax_statistics(double([0.5, 1]).reshape(1, 2), torch.tensor([0]), moments=True)
        assert torch.equal(full.log_odds, small.log_odds)
        assert full.moments == small.moments

    def test_log_odds_are_infinite_if_every_other_class_is_masked(self) -> None:
        row = softmax_statistics(torch.tensor([[-INF, 3.0, -INF]]), torch.tensor([1]), moments=True)
        assert row.log_odds.tolist() == [INF]
        assert row.moments is not None
        assert row.moments.entropy.tolist() == [0.0]
        assert row.moments.squared.tolist() == [0.0]

    def test_moments_are_those_of_the_softmax_over_the_other_classes(self) -> None:
        generator = torch.Generator().manual_seed(2)
        logits = torch.randn(20, 6, generator=generator, dtype=torch.float64) * 3
        targets = torch.randint(0, 6, (20,), generator=generator)
        moments = softmax_statistics(logits, targets, moments=True).moments
        assert moments is not None
        for i, target in enumerate(targets.tolist()):
            others = torch.cat([logits[i, :target], logits[i, target + 1 :]]).softmax(0)
            assert moments.squared[i].item() == pytest.approx((others**2).sum().item(), rel=1e-12)
            assert moments.entropy[i].item() == pytest.approx(-(others * others.log()).sum().item(), rel=1e-12)

    def test_moments_are_not_computed_by_default(self) -> None:
        assert softmax_statistics(torch.zeros(1, 2), torch.tensor([0])).moments is None

    def test_log_odds_pass_gradcheck(self) -> None:
        logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        targets = torch.tensor([0, 1, 2, 3, 0, 1])
        assert gradcheck(lambda x: softmax_statistics(x, targets).log_odds, logits.requires_grad_())


class TestFocalFromLogOdds:
    @pytest.mark.parametrize("gamma", GAMMAS)
    def test_equals_the_paper_for_any_log_odds(self, gamma: float) -> None:
        z = double([-2e4, -700, -40, -5, -1e-9, 0, 1e-9, 0.5, 8, 16, 37, 38, 80])
        for ours, value in zip(focal_from_log_odds(z, gamma).tolist(), z.tolist(), strict=True):
            assert reference.relative_error(ours, reference.sigmoid_focal(value, 1, gamma)) < 1e-13

    @pytest.mark.parametrize("gamma", GAMMAS)
    def test_the_loss_of_a_certain_example_is_zero_without_a_sign(self, gamma: float) -> None:
        loss = focal_from_log_odds(double([800, 1e4, INF]), gamma)
        assert loss.tolist() == [0.0, 0.0, 0.0]
        assert not loss.signbit().any()
        assert not cross_entropy_from_log_odds(double([800, INF])).signbit().any()

    @pytest.mark.parametrize("gamma", GAMMAS)
    def test_an_impossible_target_has_infinite_loss(self, gamma: float) -> None:
        assert focal_from_log_odds(double([-INF]), gamma).item() == INF

    @pytest.mark.parametrize("gamma", GAMMAS)
    def test_logarithm_equals_the_paper_even_if_the_loss_underflows(self, gamma: float) -> None:
        z = double([-2e4, -3, 0, 10, 36.9, 37.1, 300, 744, 746, 2e4])
        for ours, value in zip(log_focal_from_log_odds(z, gamma).tolist(), z.tolist(), strict=True):
            exact = mpmath.log(reference.sigmoid_focal(value, 1, gamma))
            assert ours == pytest.approx(float(exact), rel=1e-13, abs=1e-13)

    @pytest.mark.parametrize("gamma", GAMMAS)
    def test_logarithm_falls_strictly_even_if_the_loss_is_zero(self, gamma: float) -> None:
        z = torch.linspace(800, 2e4, 500, dtype=torch.float64)
        assert (focal_from_log_odds(z, gamma) == 0).all()
        assert (log_focal_from_log_odds(z, gamma).diff() < 0).all()
        assert log_focal_from_log_odds(double([INF]), gamma).item() == -INF

    @pytest.mark.parametrize("gamma", GAMMAS)
    def test_slope_is_the_derivative_of_the_loss(self, gamma: float) -> None:
        z = double([-2e4, -30, -1, 0, 0.1, 5, 36, 38, 80, 700, 800, INF]).requires_grad_()
        (gradient,) = torch.autograd.grad(focal_from_log_odds(z, gamma).sum(), z)
        slope = focal_slope(Logistic(z.detach()), gamma)
        assert torch.isfinite(slope).all()
        torch.testing.assert_close(slope, -gradient, rtol=1e-12, atol=1e-300)
        for ours, value in zip(slope.tolist()[:9], z.tolist()[:9], strict=True):
            exact = -reference.sigmoid_focal_gradient(value, 1, gamma)
            assert reference.relative_error(ours, exact) < 1e-12

    @pytest.mark.parametrize("gamma", GAMMAS)
    def test_first_and_second_derivatives_pass_gradcheck(self, gamma: float) -> None:
        z = double([-6, -1, 0, 0.3, 4]).requires_grad_()
        assert gradcheck(lambda value: focal_from_log_odds(value, gamma), z)
        assert gradgradcheck(lambda value: focal_from_log_odds(value, gamma), z)
