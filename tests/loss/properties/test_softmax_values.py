"""Softmax losses, scores and gradients against 40-digit arithmetic, torch and the published formulas."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import settings
from torch import Tensor
from torch.nn.functional import cross_entropy

from service.loss.row_state import COUNTED
from tests.lanes import mostly_slow
from tests.loss import oracles, reference
from tests.loss.comparison import assert_near, assert_scores
from tests.loss.implementations import FURTHER, Array, Implementation, every_implementation
from tests.loss.samples import DTYPES, GAMMAS, all_difficult_rows, double, moderate_rows, random_rows

INF = math.inf
# Two of the six rows of each kind at each scale and offset.
QUICK_STEP = 3 if settings().max_examples < 50 else 1
WEIGHTS = (0.5, 1.0, 2.0, 0.25, 3.0)


@cache
def exact_scores(
    dtype: torch.dtype, gamma: float, weights: tuple[float, ...] | None = None, smoothing: float = 0.0, step: int = 1
) -> tuple[Tensor, Tensor, dict[str, Array]]:
    """Difficult rows, and their scores from 40-digit arithmetic; a third of the rows in the quick profile."""
    logits, targets = (tensor[:: step * QUICK_STEP] for tensor in all_difficult_rows(dtype))
    return logits, targets, reference.softmax_scores(logits, targets, gamma, weights, smoothing)


@cache
def moderate_scores(dtype: torch.dtype, classes: int) -> tuple[Tensor, Tensor, dict[str, Array]]:
    """`moderate_rows`, and their scores from 40-digit arithmetic."""
    logits, targets = moderate_rows(classes=classes)
    return logits.to(dtype), targets, reference.softmax_scores(logits.to(dtype), targets, gamma=2)


@cache
def autograd_scores(gamma: float, smoothing: float) -> dict[str, Array]:
    """Losses and gradients of `moderate_rows` with `WEIGHTS`, by autograd from the paper's formula."""
    return oracles.differentiate(
        lambda x, target: oracles.softmax_focal(x, target, gamma, WEIGHTS, smoothing), *moderate_rows()
    )


class TestAgainst40Digits:
    """Logits up to 1e4, ties, easy and hard rows, shared offsets up to 1e4."""

    @every_implementation()
    @pytest.mark.parametrize("dtype", mostly_slow(DTYPES, quick=2))
    def test_every_score_at_every_scale(self, implementation: Implementation, dtype: torch.dtype) -> None:
        for gamma in GAMMAS:
            logits, targets, exact = exact_scores(dtype, gamma)
            result = implementation.score(logits, targets, gamma=gamma)
            assert_scores(implementation, result, exact, dtype, gamma=gamma)
            assert np.all(result.get("state", COUNTED) == COUNTED)

    @every_implementation()
    @pytest.mark.parametrize("classes", [2, 3, 11])
    def test_every_score_of_moderate_logits(self, implementation: Implementation, classes: int) -> None:
        """Includes the confidence-weighted entropy, which is accurate for such logits only."""
        implementation.need(*FURTHER)
        for dtype, rtol, atol in ((torch.float64, 1e-11, 1e-13), (torch.float32, 1e-5, 1e-6)):
            logits, targets, exact = moderate_scores(dtype, classes)
            result = implementation.score(logits, targets)
            for name in FURTHER:
                assert_near(result[name], exact[name], rtol=rtol, atol=atol, name=name)

    @every_implementation()
    @pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
    def test_smoothed_losses_and_gradients_at_every_scale(
        self, implementation: Implementation, dtype: torch.dtype
    ) -> None:
        for gamma in GAMMAS:
            logits, targets, exact = exact_scores(dtype, gamma, WEIGHTS, 0.1, step=5)
            result = implementation.score(logits, targets, gamma=gamma, alpha=WEIGHTS, label_smoothing=0.1)
            assert_scores(implementation, result, exact, dtype, gamma=gamma)

    @every_implementation()
    def test_log_odds_of_wide_rows(self, implementation: Implementation) -> None:
        implementation.need("log_odds")
        logits, targets = random_rows(6, 1000, torch.float32, scale=8)
        exact = [
            float(reference.log_odds(row, target))
            for row, target in zip(logits.tolist(), targets.tolist(), strict=True)
        ]
        rounding = 1e-7 if implementation.rounds else 0
        assert_near(implementation.score(logits, targets, ["log_odds"])["log_odds"], exact, rtol=rounding, atol=5e-7)

    @every_implementation()
    def test_the_loss_follows_the_log_odds_to_the_last_digits(self, implementation: Implementation) -> None:
        """The formula adds no error to that of z, not even in rows whose loss underflows."""
        implementation.need("log_odds", "log_loss")
        z = double([-2e4, -700, -40, -5, -1e-9, 0, 1e-9, 0.5, 8, 16, 36.9, 37.1, 80, 300, 744, 746, 2e4])
        logits, targets = torch.stack([z, torch.zeros_like(z)], 1), torch.zeros(len(z)).long()
        for gamma in (*GAMMAS, 30.0):
            result = implementation.score(logits, targets, gamma=gamma)
            exact = [reference.sigmoid_focal(value, 1, gamma) for value in result["log_odds"].tolist()]
            assert_near(result["loss"], np.array(list(map(float, exact))), rtol=1e-13, atol=1e-300)
            assert_near(result["log_loss"], np.array(list(map(reference.log, exact))), rtol=1e-13, atol=1e-13)

    @every_implementation()
    @pytest.mark.parametrize("gamma", [0.1, 0.5])
    def test_gradients_as_p_t_goes_to_one(self, implementation: Implementation, gamma: float) -> None:
        """At p_t = 1 the power of 1 - p_t has no finite derivative."""
        implementation.need("gradient")
        gaps = (1.0, 15.0, 17.0, 40.0, 90.0, 104.0, 800.0, 1e4, 2e4)
        logits, targets = torch.tensor([[gap / 2, -gap / 2, -gap / 2] for gap in gaps]), torch.zeros(len(gaps)).long()
        result = implementation.score(logits, targets, gamma=gamma)
        exact = reference.softmax_scores(logits, targets, gamma)
        assert_scores(implementation, result, exact, torch.float32, gamma=gamma)
        assert result["gradient"][3, 0] < 0

    @pytest.mark.parametrize("gamma", GAMMAS)
    def test_the_float64_oracle_at_every_scale(self, gamma: float) -> None:
        logits, targets, exact = exact_scores(torch.float64, gamma)
        result = oracles.softmax_scores(logits, targets, gamma)
        for name, expected in exact.items():
            atol = 1e-14 if "margin" in name else 1e-150
            assert_near(result[name], expected, rtol=1e-11, atol=atol, name=name)


class TestAgainstPublishedFormulas:
    @every_implementation()
    @pytest.mark.parametrize("smoothing", [0.0, 0.2])
    def test_gamma_0_is_torchs_cross_entropy(self, implementation: Implementation, smoothing: float) -> None:
        logits, targets = moderate_rows()
        result = implementation.score(logits, targets, [], gamma=0, alpha=WEIGHTS, label_smoothing=smoothing)
        x = logits.clone().requires_grad_()
        loss = cross_entropy(x, targets, double(WEIGHTS), reduction="none", label_smoothing=smoothing)
        assert_near(result["loss"], loss.detach().numpy(), rtol=1e-12)
        if "gradient" in result:
            (gradient,) = torch.autograd.grad(loss.sum(), x)
            assert_near(result["gradient"], gradient.numpy(), rtol=1e-12, atol=1e-14)

    @every_implementation()
    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_losses_and_gradients_equal_those_of_autograd(
        self, implementation: Implementation, smoothing: float
    ) -> None:
        for gamma in GAMMAS:
            logits, targets = moderate_rows()
            result = implementation.score(logits, targets, gamma=gamma, alpha=WEIGHTS, label_smoothing=smoothing)
            expected = autograd_scores(gamma, smoothing)
            assert_near(result["loss"], expected["loss"], rtol=1e-10)
            for name, rtol, atol in (("log_loss", 0, 1e-10), ("gradient", 1e-9, 1e-14), ("grad_norm", 1e-9, 1e-14)):
                if name in result:
                    assert_near(result[name], expected[name], rtol=rtol, atol=atol, name=name)

    @every_implementation()
    def test_smoothing_changes_no_score_of_the_label(self, implementation: Implementation) -> None:
        implementation.need("label_smoothing", *FURTHER)
        logits, targets = moderate_rows()
        plain = implementation.score(logits, targets)
        smoothed = implementation.score(logits, targets, label_smoothing=0.1)
        assert (smoothed["loss"] != plain["loss"]).all()
        for name in FURTHER:
            same = np.allclose(plain[name], smoothed[name], rtol=1e-9, atol=0)
            assert same == (name != "grad_norm"), name


class TestKnownRows:
    @every_implementation()
    def test_equal_logits(self, implementation: Implementation) -> None:
        implementation.need(*FURTHER)
        result = implementation.score(double([[7.0] * 4]), torch.tensor([2]))
        expected = {
            "cross_entropy": math.log(4),
            "p_t": 0.25,
            "log_odds": -math.log(3),
            "prediction": 0,
            "logit_margin": 0.0,
            "normalized_margin": 0.5,
            "entropy": math.log(4),
            "confidence_weighted_entropy": math.log(5) / 4,
            "el2n": math.sqrt(0.75),
        }
        for name, value in expected.items():
            assert result[name].item() == pytest.approx(value, rel=1e-14), name

    @every_implementation()
    def test_the_largest_float16_logits_neither_overflow_nor_vanish(self, implementation: Implementation) -> None:
        for gamma in GAMMAS:
            logits = torch.tensor([[65504.0, -65504.0], [-65504.0, 65504.0]], dtype=torch.float16)
            assert implementation.score(logits, torch.tensor([0, 0]), gamma=gamma)["loss"].tolist() == [0.0, 131008.0]

    @every_implementation()
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_scores_stay_in_their_ranges_and_zeros_have_no_sign(
        self, implementation: Implementation, dtype: torch.dtype
    ) -> None:
        result = implementation.score(*all_difficult_rows(dtype), gamma=0.1)
        largest = dict.fromkeys(("loss", "grad_norm", "cross_entropy"), INF)
        largest |= dict.fromkeys(("p_t", "normalized_margin", "confidence_weighted_entropy"), 1.0)
        largest |= {"entropy": math.log(5) * (1 + 1e-6), "el2n": math.sqrt(2) * (1 + 1e-7)}
        for name in largest.keys() & result.keys():
            assert (result[name] >= 0).all(), name
            assert (result[name] <= largest[name]).all(), name
            assert not np.signbit(result[name]).any(), name

    @every_implementation()
    def test_confidence_weighted_entropy_keeps_the_bounds_of_cleanlab(self, implementation: Implementation) -> None:
        # cleanlab bounds p_t and the ratio in the denominator by 1e-6, so that a certain label gets 0 and not 1.
        implementation.need("confidence_weighted_entropy", "entropy")
        result = implementation.score(double([[40.0, 0.0], [-40.0, 0.0], [1e4, 0.0]]), torch.zeros(3).long())
        certain, wrong, _ = (result["entropy"] / math.log(2)).tolist()
        expected = [math.log1p(certain) / 1e-6, math.log1p(wrong / 1e-6) / 1e-6, 0.0]
        assert 0 < expected[0] < expected[1] < 1e-3
        assert result["confidence_weighted_entropy"].tolist() == pytest.approx(expected, rel=1e-6)

    @every_implementation()
    def test_log_loss_orders_easy_examples_whose_loss_underflows(self, implementation: Implementation) -> None:
        implementation.need("log_loss")
        for gamma in GAMMAS:
            gaps = torch.linspace(800, 2e4, 200)
            result = implementation.score(
                torch.stack([gaps, torch.zeros(200)], 1), torch.zeros(200).long(), gamma=gamma
            )
            assert (result["loss"] == 0).all()
            assert np.isfinite(result["log_loss"]).all()
            assert (np.diff(result["log_loss"]) < 0).all()


class TestClassWeights:
    @every_implementation()
    def test_the_loss_is_that_of_weight_one_times_the_weight_of_the_target(
        self, implementation: Implementation
    ) -> None:
        logits, targets = random_rows(100, 5, torch.float32)
        weights = np.array([0.0, 0.5, 1.0, 2.0, 1e-300])
        plain = implementation.score(logits, targets)
        weighted = implementation.score(logits, targets, alpha=weights.tolist())
        alpha_t = weights[targets.numpy()]
        rtol, atol = (1e-7, 1e-38) if implementation.rounds else (1e-15, 0)
        assert_near(weighted["loss"], plain["loss"] * alpha_t, rtol=rtol, atol=atol)
        if "alpha_t" in weighted:
            assert_near(weighted["alpha_t"], alpha_t, rtol=0)
        if "log_loss" in weighted:
            # Also where the loss itself is 0.
            with np.errstate(divide="ignore"):
                assert_near(weighted["log_loss"], plain["log_loss"] + np.log(alpha_t), rtol=1e-14, atol=1e-14)

    @every_implementation()
    def test_log_loss_contains_the_weight_where_the_loss_underflows(self, implementation: Implementation) -> None:
        implementation.need("log_loss")
        logits = double([[9e3, 0.0], [0.0, 9e3]])
        log_loss = implementation.score(logits, torch.tensor([0, 1]), alpha=[1.0, 8.0])["log_loss"]
        assert log_loss[1] - log_loss[0] == pytest.approx(math.log(8))
