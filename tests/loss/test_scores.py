"""Every score against formulas written out from probabilities, torch's autograd and the 40-digit reference."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from service.loss.focal import FocalLoss
from service.loss.row_state import RowState
from service.loss.scores import score
from service.schema.request import OUTPUTS
from tests.loss import reference
from tests.loss.samples import DTYPES, GAMMAS, all_difficult_rows

NAN, INF = math.nan, math.inf
FURTHER = [name for name in OUTPUTS if name not in ("loss", "contribution")]
COUNTED, IGNORED, BAD_TARGET, BAD_LOGIT = RowState.COUNTED, RowState.IGNORED, RowState.BAD_TARGET, RowState.BAD_LOGIT


def double(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def module_of(alpha: Any = None, gamma: float = 2, **options: Any) -> FocalLoss:
    return FocalLoss(alpha, gamma, "cpu", **options)


@dataclass(frozen=True, eq=False)
class TensorScores:
    """`Scores` as tensors, for comparisons with what torch computes."""

    state: Tensor
    loss: Tensor
    log_loss: Tensor
    alpha_t: Tensor
    outputs: dict[str, Tensor]


def scores_of(logits: Any, targets: Any, module: FocalLoss | None = None) -> TensorScores:
    """All scores; logits and targets as lists are float64 and int64."""
    x = logits if isinstance(logits, Tensor) else double(logits)
    y = targets if isinstance(targets, Tensor) else torch.tensor(targets)
    found = score(module or module_of(), x, y, OUTPUTS)
    columns = map(torch.from_numpy, (found.state, found.loss, found.log_loss, found.alpha_t))
    return TensorScores(*columns, {name: torch.from_numpy(values) for name, values in found.outputs.items()})


def moderate_batch(rows: int = 40, classes: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits so small that float64 probabilities and their differences are exact enough to be an oracle."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, classes, generator=generator, dtype=torch.float64) * 2
    return logits, torch.randint(0, classes, (rows,), generator=generator)


def softmax_oracle(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Each score from the probabilities, as papers and cleanlab's documentation define it; float64."""
    x = logits.double()
    num_classes = x.shape[1]
    p = x.softmax(1)
    onehot = torch.nn.functional.one_hot(targets, num_classes).bool()
    p_t, x_t = p[onehot], x[onehot]
    other_p, other_x = p[~onehot].reshape(-1, num_classes - 1), x[~onehot].reshape(-1, num_classes - 1)
    entropy = torch.distributions.Categorical(probs=p).entropy()
    ratio = entropy / math.log(num_classes) / p_t.clamp(min=1e-6)
    return {
        "cross_entropy": cross_entropy(x, targets, reduction="none"),
        "p_t": p_t,
        "log_odds": p_t.logit(),
        "prediction": x.argmax(1),
        "logit_margin": x_t - other_x.amax(1),
        "normalized_margin": (p_t - other_p.amax(1) + 1) / 2,
        "entropy": entropy,
        "confidence_weighted_entropy": (ratio + 1).log() / ratio.clamp(min=1e-6),
        "el2n": (p - onehot.double()).norm(dim=1),
    }


def gradient_norms(loss_of_row: Callable[[Tensor, Tensor], Tensor], logits: Tensor, targets: Tensor) -> Tensor:
    """The norm of the gradient of each row's loss, by torch's autograd in float64."""
    norms = []
    for row, target in zip(logits.double(), targets, strict=True):
        x = row.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss_of_row(x, target), x)
        norms.append(gradient.norm())
    return torch.stack(norms)


def plain_focal(x: Tensor, target: Tensor, gamma: float, weights: list[float], smoothing: float = 0.0) -> Tensor:
    """One row's loss as equation 5 has it, from log-softmax; against a smoothed target if there is one."""
    log_p = x.log_softmax(0)
    y = torch.full_like(x, smoothing / len(x))
    y[target] += 1 - smoothing
    return (y * double(weights) * (1 - log_p.exp()) ** gamma * -log_p).sum()


def plain_sigmoid_focal(x: Tensor, y: Tensor, gamma: float, alpha: Tensor) -> Tensor:
    """One example's loss: the mean over its labels of torchvision's definition."""
    p = x.sigmoid()
    p_t = p * y + (1 - p) * (1 - y)
    alpha_t = alpha * y + (1 - alpha) * (1 - y)
    ce = binary_cross_entropy_with_logits(x, y, reduction="none")
    return (alpha_t * (1 - p_t) ** gamma * ce).mean()


class TestContract:
    def test_the_example_of_the_wire_contract(self) -> None:
        logits = torch.tensor([[2.0, 0.1, -1.0], [0.3, 0.2, 0.9]])
        scores = scores_of(logits, [0, 1], module_of([1.0, 2.0, 4.0], 2.0))
        assert scores.loss.tolist() == pytest.approx([0.0050225, 1.6233421], abs=5e-8)
        assert scores.outputs["p_t"].tolist() == pytest.approx([0.8337810, 0.2427819], abs=5e-8)
        assert scores.outputs["prediction"].tolist() == [0, 2]
        assert scores.alpha_t.tolist() == [1.0, 2.0]

    def test_loss_and_contribution_add_no_output_and_the_others_only_where_asked_for(self) -> None:
        logits, targets = moderate_batch()
        assert score(module_of(), logits, targets, ("loss", "contribution")).outputs == {}
        complete = scores_of(logits, targets)
        assert list(complete.outputs) == FURTHER
        for name in FURTHER:
            alone = score(module_of(), logits, targets, (name,)).outputs
            assert list(alone) == [name]
            assert alone[name].tolist() == complete.outputs[name].tolist()

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("mode", ["softmax", "sigmoid"])
    def test_everything_is_float64_but_state_and_prediction(self, dtype: torch.dtype, mode: str) -> None:
        targets = torch.tensor([0, 1]) if mode == "softmax" else torch.tensor([[0, 1, 0], [1, 1, 0]])
        scores = scores_of(torch.zeros(2, 3, dtype=dtype), targets, module_of(mode=mode))
        assert scores.state.dtype == torch.int8
        assert {scores.loss.dtype, scores.log_loss.dtype, scores.alpha_t.dtype} == {torch.float64}
        for name, value in scores.outputs.items():
            assert value.dtype == (torch.int64 if name == "prediction" else torch.float64)
            assert value.shape == ((2, 3) if name == "prediction" and mode == "sigmoid" else (2,))

    @pytest.mark.parametrize("mode", ["softmax", "sigmoid"])
    def test_an_empty_chunk_has_empty_scores(self, mode: str) -> None:
        targets = torch.zeros(0, dtype=torch.long) if mode == "softmax" else torch.zeros(0, 3)
        scores = scores_of(torch.zeros(0, 3), targets, module_of(mode=mode))
        assert len(scores.state) == len(scores.loss) == len(scores.log_loss) == len(scores.alpha_t) == 0
        assert all(len(value) == 0 for value in scores.outputs.values())
        assert list(scores.outputs) == FURTHER

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_logits_and_targets_are_left_as_they_were(self, dtype: torch.dtype, smoothing: float) -> None:
        logits, targets = moderate_batch()
        logits, targets[0] = logits.to(dtype), -100
        before = logits.clone(), targets.clone()
        scores_of(logits, targets, module_of(label_smoothing=smoothing))
        assert torch.equal(logits, before[0])
        assert torch.equal(targets, before[1])

    @pytest.mark.parametrize("dtype", [np.int32, np.int64])
    def test_logits_that_are_whole_numbers_are_those_numbers(self, dtype: type[np.signedinteger[Any]]) -> None:
        logits, targets = np.array([[3, -1, 0], [2, 2, 7]]), np.array([0, 1])
        found = score(module_of(), logits.astype(dtype), targets, OUTPUTS)
        np.testing.assert_allclose(found.loss, score(module_of(), logits.astype(float), targets, OUTPUTS).loss, 1e-6)

    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_no_graph_is_kept_where_the_logits_want_one(self, smoothing: float) -> None:
        logits, targets = moderate_batch()
        module = module_of(label_smoothing=smoothing)
        expected = scores_of(logits, targets, module)
        torch.testing.assert_close(scores_of(logits.requires_grad_(), targets, module).loss, expected.loss)


class TestSoftmax:
    @pytest.mark.parametrize("name", [name for name in FURTHER if name != "grad_norm"])
    @pytest.mark.parametrize("classes", [2, 3, 11])
    def test_output_equals_its_formula(self, name: str, classes: int) -> None:
        logits, targets = moderate_batch(classes=classes)
        ours = scores_of(logits, targets, module_of([1.0 + c for c in range(classes)])).outputs[name]
        torch.testing.assert_close(ours, softmax_oracle(logits, targets)[name], rtol=1e-11, atol=1e-13)

    @pytest.mark.parametrize("name", [name for name in FURTHER if name != "grad_norm"])
    def test_output_in_float32_equals_its_formula_to_the_tolerance_of_float32(self, name: str) -> None:
        logits, targets = moderate_batch()
        ours = scores_of(logits.float(), targets).outputs[name]
        torch.testing.assert_close(ours, softmax_oracle(logits.float(), targets)[name], rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("gamma", GAMMAS)
    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_loss_and_gradient_norm_equal_torch_autograd(self, gamma: float, smoothing: float) -> None:
        logits, targets = moderate_batch()
        weights = [0.5, 1.0, 2.0, 0.25, 3.0]
        scores = scores_of(logits, targets, module_of(weights, gamma, label_smoothing=smoothing))

        def plain(x: Tensor, target: Tensor) -> Tensor:
            return plain_focal(x, target, gamma, weights, smoothing)

        expected = torch.stack([plain(x, target) for x, target in zip(logits, targets, strict=True)])
        torch.testing.assert_close(scores.loss, expected, rtol=1e-10, atol=0)
        torch.testing.assert_close(scores.log_loss, expected.log(), rtol=0, atol=1e-10)
        norms = gradient_norms(plain, logits, targets)
        torch.testing.assert_close(scores.outputs["grad_norm"], norms, rtol=1e-9, atol=1e-14)

    def test_smoothing_changes_the_loss_and_its_gradient_and_no_score_of_the_label(self) -> None:
        logits, targets = moderate_batch()
        plain = scores_of(logits, targets)
        smoothed = scores_of(logits, targets, module_of(label_smoothing=0.1))
        assert (smoothed.loss != plain.loss).all()
        for name in FURTHER:
            same = torch.allclose(plain.outputs[name], smoothed.outputs[name], rtol=1e-9, atol=0)
            assert same == (name != "grad_norm"), name

    def test_loss_equals_the_module_without_reduction(self) -> None:
        logits, targets = moderate_batch()
        for options in ({}, {"alpha": [1, 2, 3, 4, 5]}, {"label_smoothing": 0.2, "alpha": [1, 2, 3, 4, 5]}):
            module = module_of(**options, reduction="none")
            torch.testing.assert_close(scores_of(logits, targets, module).loss, module(logits, targets))

    @pytest.mark.parametrize("gamma", [0.0, 0.1, 2.0])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_scores_are_right_at_every_scale(self, dtype: torch.dtype, gamma: float) -> None:
        logits, targets = all_difficult_rows(dtype)
        scores = scores_of(logits, targets, module_of(gamma=gamma))
        assert (scores.state == COUNTED).all()
        columns = {name: scores.outputs[name].tolist() for name in FURTHER}
        losses, log_losses = scores.loss.tolist(), scores.log_loss.tolist()
        for i, (row, target) in enumerate(zip(logits.tolist(), targets.tolist(), strict=True)):
            classes = reference.softmax(tuple(row))
            of_target = classes[target]
            others = classes[:target] + classes[target + 1 :]
            exact_loss = reference.softmax_focal(row, target, gamma)
            gradient = reference.softmax_focal_gradient(row, target, gamma)
            exact = {
                "cross_entropy": of_target.cross_entropy,
                "p_t": of_target.p,
                "el2n": mpmath.sqrt(of_target.rest**2 + mpmath.fsum(c.p**2 for c in others)),
                "grad_norm": mpmath.sqrt(mpmath.fsum(g**2 for g in gradient)),
            }
            assert reference.relative_error(losses[i], exact_loss) <= 1e-5
            assert abs(log_losses[i] - mpmath.log(exact_loss)) <= 1e-5 + 1e-12 * abs(mpmath.log(exact_loss))
            for name, value in exact.items():
                assert reference.relative_error(columns[name][i], value) <= 1e-5, name
            entropy = mpmath.fsum(c.p * c.cross_entropy for c in classes if c.p)
            assert columns["entropy"][i] == pytest.approx(float(entropy), rel=1e-5, abs=1e-6)
            margin = (of_target.p - max(c.p for c in others) + 1) / 2
            assert columns["normalized_margin"][i] == pytest.approx(float(margin), rel=1e-5, abs=1e-6)
            assert columns["logit_margin"][i] == row[target] - max(row[:target] + row[target + 1 :])
            assert columns["prediction"][i] == row.index(max(row))

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_scores_stay_in_their_ranges(self, dtype: torch.dtype) -> None:
        logits, targets = all_difficult_rows(dtype)
        values = scores_of(logits, targets, module_of(gamma=0.1)).outputs
        for name, largest in (
            ("p_t", 1),
            ("normalized_margin", 1),
            ("entropy", math.log(5) * (1 + 1e-6)),
            ("confidence_weighted_entropy", 1),
            ("el2n", math.sqrt(2)),
            ("grad_norm", INF),
            ("cross_entropy", INF),
        ):
            assert (values[name] >= 0).all(), name
            assert (values[name] <= largest).all(), name
            assert not values[name].signbit().any(), name

    def test_confidence_weighted_entropy_keeps_the_bounds_of_cleanlab(self) -> None:
        # Both p_t and the ratio that it divides by are at least 1e-6 there, so that a certain label gets 0 and not 1.
        outputs = scores_of([[40.0, 0.0], [-40.0, 0.0], [1e4, 0.0]], [0, 0, 0]).outputs
        certain, wrong, _ = (outputs["entropy"] / math.log(2)).tolist()
        expected = [math.log1p(certain) / 1e-6, math.log1p(wrong / 1e-6) / 1e-6, 0.0]
        assert 0 < expected[0] < expected[1] < 1e-3
        assert outputs["confidence_weighted_entropy"].tolist() == pytest.approx(expected, rel=1e-6)

    def test_all_classes_equal(self) -> None:
        scores = scores_of([[7.0] * 4], [2])
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
            assert scores.outputs[name].item() == pytest.approx(value, rel=1e-14), name


class TestLogLoss:
    @pytest.mark.parametrize("gamma", GAMMAS)
    def test_orders_easy_examples_whose_loss_underflows(self, gamma: float) -> None:
        gaps = torch.linspace(800, 2e4, 200)
        scores = scores_of(torch.stack([gaps, torch.zeros(200)], 1), torch.zeros(200).long(), module_of(gamma=gamma))
        assert (scores.loss == 0).all()
        assert torch.isfinite(scores.log_loss).all()
        assert (scores.log_loss.diff() < 0).all()

    def test_contains_alpha(self) -> None:
        scores = scores_of([[9e3, 0.0], [0.0, 9e3]], [0, 1], module_of([1.0, 8.0]))
        assert (scores.log_loss[1] - scores.log_loss[0]).item() == pytest.approx(math.log(8))

    def test_is_minus_infinity_for_weight_zero(self) -> None:
        scores = scores_of([[0.0, 1.0], [0.0, 1.0]], [0, 1], module_of([0.0, 1.0]))
        assert scores.log_loss[0].item() == -INF
        assert scores.loss[0].item() == 0.0
        assert torch.isfinite(scores.log_loss[1])

    @pytest.mark.parametrize("gamma", GAMMAS)
    @pytest.mark.parametrize("y", [0.0, 0.4, 1.0])
    def test_of_several_labels_is_the_logarithm_of_their_mean(self, gamma: float, y: float) -> None:
        x = double([[0.5, 3.0], [300.0, -300.0], [2000.0, 1000.0], [-2000.0, 1000.0]])
        scores = scores_of(x, torch.full_like(x, y), module_of(0.25, gamma, mode="sigmoid"))
        for i, row in enumerate(x.tolist()):
            exact = sum(reference.sigmoid_focal(value, y, gamma, 0.25) for value in row) / 2
            assert scores.log_loss[i].item() == pytest.approx(float(mpmath.log(exact)), rel=1e-12, abs=1e-12)
            assert reference.relative_error(scores.loss[i].item(), exact) <= 1e-12


class TestMaskedClasses:
    def test_masked_classes_change_no_score_of_the_others(self) -> None:
        logits, targets = moderate_batch(classes=3)
        wide = torch.full((len(logits), 5), -INF, dtype=torch.float64)
        wide[:, 1:4] = logits
        few, many = scores_of(logits, targets), scores_of(wide, targets + 1)
        assert (many.state == COUNTED).all()
        torch.testing.assert_close(few.loss, many.loss)
        for name in FURTHER:
            if name == "prediction":
                assert torch.equal(few.outputs[name] + 1, many.outputs[name])
            elif name != "confidence_weighted_entropy":  # normalised by the number of classes
                torch.testing.assert_close(few.outputs[name], many.outputs[name])

    @pytest.mark.parametrize("gamma", GAMMAS)
    def test_a_row_with_only_its_target_left_is_certain(self, gamma: float) -> None:
        scores = scores_of([[-INF, -5.0, -INF]], [1], module_of([1.0, 2.0, 3.0], gamma))
        assert scores.state.tolist() == [COUNTED]
        assert scores.loss.tolist() == [0.0]
        assert not scores.loss.signbit().any()
        assert scores.log_loss.tolist() == [-INF]
        assert scores.alpha_t.tolist() == [2.0]
        expected = dict.fromkeys(("cross_entropy", "entropy", "el2n", "grad_norm"), 0.0)
        expected |= {"p_t": 1.0, "normalized_margin": 1.0, "log_odds": INF, "logit_margin": INF, "prediction": 1}
        for name, value in expected.items():
            assert scores.outputs[name].tolist() == [value], name

    def test_a_masked_negative_label_is_certain(self) -> None:
        scores = scores_of([[-INF, 0.0]], double([[0, 1]]), module_of(mode="sigmoid", gamma=0.5))
        assert scores.state.tolist() == [COUNTED]
        assert scores.loss.item() == pytest.approx(math.sqrt(0.5) * math.log(2) / 2)
        assert scores.outputs["entropy"].item() == pytest.approx(math.log(2) / 2)
        assert scores.outputs["el2n"].item() == pytest.approx(0.5)
        assert all(torch.isfinite(value).all() for value in scores.outputs.values())


class TestRowState:
    @pytest.mark.parametrize(
        ("logits", "target", "state"),
        [
            ([0.0, 1.0, 2.0], 2, COUNTED),
            ([0.0, -INF, 2.0], 2, COUNTED),
            ([0.0, 1.0, 2.0], -100, IGNORED),
            ([NAN, INF, -INF], -100, IGNORED),
            ([0.0, 1.0, 2.0], 3, BAD_TARGET),
            ([0.0, 1.0, 2.0], -1, BAD_TARGET),
            ([0.0, 1.0, 2.0], 2**40, BAD_TARGET),
            ([NAN, 1.0, 2.0], 3, BAD_TARGET),
            ([NAN, 1.0, 2.0], 0, BAD_LOGIT),
            ([NAN, 1.0, 2.0], 2, BAD_LOGIT),
            ([INF, 1.0, 2.0], 0, BAD_LOGIT),
            ([INF, 1.0, 2.0], 2, BAD_LOGIT),
            ([-INF, 1.0, 2.0], 0, BAD_LOGIT),
            ([-INF, -INF, -INF], 0, BAD_LOGIT),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_of_a_softmax_row_beside_two_good_ones(
        self, logits: list[float], target: int, state: RowState, smoothing: float
    ) -> None:
        if smoothing and -INF in logits and state == COUNTED:
            state = BAD_LOGIT  # every class is a part of the smoothed target
        module = module_of([1, 2, 3], label_smoothing=smoothing)
        good = scores_of([[0.5, 1.0, -1.0]] * 2, [0, 1], module)
        scores = scores_of([[0.5, 1.0, -1.0], logits, [0.5, 1.0, -1.0]], [0, target, 1], module)
        self.check(scores, good, state)

    @pytest.mark.parametrize(
        ("logits", "labels", "state"),
        [
            ([0.0, 1.0], [0, 1], COUNTED),
            ([0.0, 1.0], [0.25, 1], COUNTED),
            ([0.0, NAN], [1, -100], COUNTED),
            ([-INF, 1.0], [0, 1], COUNTED),
            ([NAN, INF], [-100, -100], IGNORED),
            ([0.0, 1.0], [2, 1], BAD_TARGET),
            ([0.0, 1.0], [1, -0.5], BAD_TARGET),
            ([0.0, 1.0], [1, NAN], BAD_TARGET),
            ([0.0, 1.0], [INF, 0], BAD_TARGET),
            ([0.0, NAN], [2, -100], BAD_TARGET),
            ([0.0, NAN], [2, 1], BAD_TARGET),
            ([0.0, NAN], [0, 1], BAD_LOGIT),
            ([INF, 0.0], [1, 1], BAD_LOGIT),
            ([INF, 0.0], [0, 1], BAD_LOGIT),
            ([-INF, 0.0], [1, 1], BAD_LOGIT),
            ([-INF, 0.0], [0.25, 1], BAD_LOGIT),
        ],
        ids=str,
    )
    def test_of_a_sigmoid_row_beside_two_good_ones(
        self, logits: list[float], labels: list[float], state: RowState
    ) -> None:
        module = module_of([0.25, 0.5], mode="sigmoid")
        good = scores_of([[0.5, 1.0]] * 2, double([[0, 1], [1, 1]]), module)
        scores = scores_of([[0.5, 1.0], logits, [0.5, 1.0]], double([[0, 1], labels, [1, 1]]), module)
        self.check(scores, good, state)

    @staticmethod
    def check(scores: TensorScores, good: TensorScores, state: RowState) -> None:
        assert scores.state.tolist() == [COUNTED, state, COUNTED]
        assert torch.equal(scores.loss[[0, 2]], good.loss)
        for name in FURTHER:
            assert torch.equal(scores.outputs[name][[0, 2]], good.outputs[name])
        if state == COUNTED:
            assert scores.loss[1].item() >= 0
            assert scores.alpha_t[1].item() > 0
            assert not any(value[1].isnan().any() for value in scores.outputs.values())
        else:
            assert scores.loss[1].item() == 0.0
            assert scores.log_loss[1].item() == -INF
            assert scores.alpha_t[1].item() == 0.0
            assert (scores.outputs["prediction"][1] == -1).all()
            assert all(scores.outputs[name][1].isnan() for name in FURTHER if name != "prediction")

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
    def test_targets_of_every_integer_dtype_are_read_by_their_value(self, dtype: torch.dtype) -> None:
        # In uint8 arithmetic 156 is -100: it is a class here, not a mark.
        values = [0, 120, 156] if dtype == torch.uint8 else [0, 120, -100]
        scores = scores_of(torch.zeros(3, 200), torch.tensor(values, dtype=dtype))
        last = COUNTED if dtype == torch.uint8 else IGNORED
        assert scores.state.tolist() == [COUNTED, COUNTED, last]

    def test_an_ignore_index_beyond_the_dtype_of_the_targets_marks_nothing(self) -> None:
        targets = torch.tensor([1, 0], dtype=torch.uint8)
        softmax = scores_of(torch.zeros(2, 2), targets, module_of(ignore_index=257))
        assert softmax.state.tolist() == [COUNTED, COUNTED]
        sigmoid = scores_of(torch.zeros(2, 1), targets.unsqueeze(1), module_of(mode="sigmoid", ignore_index=257))
        assert sigmoid.state.tolist() == [COUNTED, COUNTED]

    def test_ignore_index_may_be_a_class_or_none(self) -> None:
        assert scores_of([[0.0, 1.0]] * 2, [0, 1], module_of(ignore_index=1)).state.tolist() == [COUNTED, IGNORED]
        scores = scores_of([[0.0, 1.0]] * 2, [0, -100], module_of(ignore_index=None))
        assert scores.state.tolist() == [COUNTED, BAD_TARGET]
        labels = scores_of([[0.0]] * 2, [[0], [-100]], module_of(mode="sigmoid", ignore_index=None))
        assert labels.state.tolist() == [COUNTED, BAD_TARGET]

    def test_a_row_of_prediction_keeps_minus_one_for_a_missing_label(self) -> None:
        scores = scores_of([[2.0, 2.0, -2.0]], double([[1, -100, 1]]), module_of(mode="sigmoid"))
        assert scores.outputs["prediction"].tolist() == [[1, -1, 0]]


class TestSigmoid:
    ALPHA = (0.25, 0.5, 0.9, 0.0)

    @staticmethod
    def batch(soft: bool) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(5)
        logits = torch.randn(30, 4, generator=generator, dtype=torch.float64) * 2
        targets = torch.rand(30, 4, generator=generator, dtype=torch.float64)
        return logits, targets if soft else targets.round()

    @pytest.mark.parametrize("gamma", GAMMAS)
    @pytest.mark.parametrize("soft", [False, True])
    def test_loss_and_gradient_norm_equal_torch_autograd(self, gamma: float, soft: bool) -> None:
        logits, targets = self.batch(soft)
        scores = scores_of(logits, targets, module_of(self.ALPHA, gamma, mode="sigmoid"))

        def plain(x: Tensor, y: Tensor) -> Tensor:
            return plain_sigmoid_focal(x, y, gamma, double(self.ALPHA))

        expected = torch.stack([plain(x, y) for x, y in zip(logits, targets, strict=True)])
        torch.testing.assert_close(scores.loss, expected, rtol=1e-11, atol=0)
        torch.testing.assert_close(scores.log_loss, expected.log(), rtol=0, atol=1e-11)
        norms = gradient_norms(plain, logits, targets)
        torch.testing.assert_close(scores.outputs["grad_norm"], norms, rtol=1e-10, atol=1e-14)
        alpha_t = (double(self.ALPHA) * targets + (1 - double(self.ALPHA)) * (1 - targets)).mean(1)
        torch.testing.assert_close(scores.alpha_t, alpha_t)

    @pytest.mark.parametrize("soft", [False, True])
    @pytest.mark.parametrize("missing", [False, True])
    def test_outputs_equal_their_formulas(self, soft: bool, missing: bool) -> None:
        """Means over the labels for entropies, the worst label for margins, the vector of labels for norms."""
        logits, targets = self.batch(soft)
        kept = [0, 1, 3] if missing else [0, 1, 2, 3]
        x, y = logits[:, kept], targets[:, kept]
        if missing:
            targets[:, 2] = -100
        outputs = scores_of(logits, targets, module_of(mode="sigmoid")).outputs
        p = x.sigmoid()
        p_t = p * y + (1 - p) * (1 - y)
        worst = p_t.amin(1)
        entropy = torch.distributions.Bernoulli(probs=p).entropy().mean(1)
        ratio = entropy / math.log(2) / worst.clamp(min=1e-6)
        expected = {
            "cross_entropy": binary_cross_entropy_with_logits(x, y, reduction="none").mean(1),
            "p_t": worst,
            "log_odds": worst.logit(),
            "logit_margin": worst.logit(),
            "normalized_margin": worst,
            "entropy": entropy,
            "confidence_weighted_entropy": (ratio + 1).log() / ratio,
            "el2n": (p - y).norm(dim=1),
        }
        for name, value in expected.items():
            torch.testing.assert_close(outputs[name], value, rtol=1e-10, atol=1e-12, msg=name)
        assert torch.equal(outputs["prediction"][:, kept], (p > 0.5).long())

    @pytest.mark.parametrize("y", [0.0, 0.3, 1.0])
    @pytest.mark.parametrize("gamma", GAMMAS)
    def test_gradient_norm_is_right_at_every_scale(self, y: float, gamma: float) -> None:
        x = double([s * v for v in (1.0, 20.0, 40.0, 90.0, 800.0, 1e4) for s in (-1, 1)]).unsqueeze(1)
        norms = scores_of(x, torch.full_like(x, y), module_of(0.25, gamma, mode="sigmoid")).outputs["grad_norm"]
        for ours, value in zip(norms.tolist(), x[:, 0].tolist(), strict=True):
            exact = abs(reference.sigmoid_focal_gradient(value, y, gamma, 0.25))
            assert reference.relative_error(ours, exact) <= 1e-9

    def test_a_missing_label_is_as_if_it_were_not_there(self) -> None:
        module = module_of(0.25, 0.5, mode="sigmoid")
        with_missing = scores_of([[0.5, NAN, -1.0]], double([[1, -100, 0.3]]), module)
        without = scores_of([[0.5, -1.0]], double([[1, 0.3]]), module)
        assert with_missing.loss.tolist() == without.loss.tolist()
        assert with_missing.log_loss.tolist() == pytest.approx(without.log_loss.tolist(), rel=1e-14)
        assert with_missing.alpha_t.tolist() == without.alpha_t.tolist()
        for name in FURTHER:
            if name != "prediction":
                assert with_missing.outputs[name].tolist() == pytest.approx(without.outputs[name].tolist()), name

    def test_one_label_is_a_softmax_of_two_classes(self) -> None:
        logits, _ = self.batch(soft=False)
        x, y = logits[:, :1], (torch.arange(30) % 2).unsqueeze(1)
        sigmoid = scores_of(x, y, module_of(0.25, 0.5, mode="sigmoid"))
        softmax = scores_of(torch.cat([torch.zeros_like(x), x], 1), y[:, 0], module_of(0.25, 0.5))
        torch.testing.assert_close(sigmoid.loss, softmax.loss)
        torch.testing.assert_close(sigmoid.alpha_t, softmax.alpha_t)
        for name in FURTHER:
            ours = sigmoid.outputs[name]
            if name in ("el2n", "grad_norm"):
                ours = ours * math.sqrt(2)  # two logits move apart where one moves
            torch.testing.assert_close(ours, softmax.outputs[name], msg=name)

    def test_a_tie_predicts_negative(self) -> None:
        scores = scores_of([[0.0, 1e-9, -1e-9]], double([[1, 1, 1]]), module_of(mode="sigmoid"))
        assert scores.outputs["prediction"].tolist() == [[0, 1, 0]]


class TestOrder:
    """What an order of examples does and does not depend on."""

    def test_with_two_classes_every_score_of_the_label_gives_one_order(self) -> None:
        logits, targets = moderate_batch(rows=200, classes=2)
        for gamma in GAMMAS:
            scores = scores_of(logits, targets, module_of(gamma=gamma))
            order = scores.loss.argsort().tolist()
            for name, sign in (
                ("cross_entropy", 1),
                ("el2n", 1),
                ("p_t", -1),
                ("log_odds", -1),
                ("logit_margin", -1),
                ("normalized_margin", -1),
            ):
                assert (sign * scores.outputs[name]).argsort().tolist() == order, name
            p_t = scores.outputs["p_t"]
            torch.testing.assert_close(scores.outputs["el2n"], math.sqrt(2) * (1 - p_t))
            torch.testing.assert_close(scores.outputs["normalized_margin"], p_t)

    @pytest.mark.parametrize("gamma", GAMMAS)
    def test_with_equal_alpha_log_loss_orders_as_log_odds_do_also_where_the_loss_underflows(self, gamma: float) -> None:
        logits, targets = all_difficult_rows(torch.float64)
        scores = scores_of(logits, targets, module_of([2.0] * 5, gamma))
        by_log_odds = scores.outputs["log_odds"].argsort(descending=True, stable=True)
        assert (scores.log_loss[by_log_odds].diff() >= 0).all()

    @settings(deadline=None, max_examples=40)
    @given(
        seed=st.integers(0, 2**32),
        rows=st.integers(1, 30),
        classes=st.integers(2, 40),
        dtype=st.sampled_from(DTYPES),
        gamma=st.floats(0, 5),
        smoothing=st.sampled_from([0.0, 0.1]),
        mode=st.sampled_from(["softmax", "sigmoid"]),
        data=st.data(),
    )
    def test_neither_splitting_nor_permuting_a_chunk_changes_a_row(
        self,
        seed: int,
        rows: int,
        classes: int,
        dtype: torch.dtype,
        gamma: float,
        smoothing: float,
        mode: str,
        data: st.DataObject,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        logits = (torch.randn(rows, classes, generator=generator) * 20).to(dtype)
        shape = (rows,) if mode == "softmax" else (rows, classes)
        targets = torch.randint(0, classes if mode == "softmax" else 2, shape, generator=generator)
        targets[torch.rand(shape, generator=generator) < 0.1] = -100
        logits[torch.rand(rows, classes, generator=generator) < 0.02] = NAN
        options: dict[str, Any] = {"label_smoothing": smoothing} if mode == "softmax" else {}
        module = module_of([0.5 + c / 100 for c in range(classes)], gamma, mode=mode, **options)
        cut = data.draw(st.integers(0, rows))
        order = torch.randperm(rows, generator=generator)
        whole = scores_of(logits, targets, module)
        parts = [scores_of(logits[at], targets[at], module) for at in (order[:cut], order[cut:])]

        def compare(of: Callable[[TensorScores], Tensor]) -> None:
            torch.testing.assert_close(
                torch.cat([of(part) for part in parts]), of(whole)[order], rtol=2e-6, atol=1e-6, equal_nan=True
            )

        assert torch.equal(torch.cat([part.state for part in parts]), whole.state[order])
        compare(lambda scores: scores.loss)
        compare(lambda scores: scores.log_loss)
        for name in FURTHER:
            compare(lambda scores, name=name: scores.outputs[name])  # type: ignore[misc]
