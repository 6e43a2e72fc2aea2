"""`FocalLoss` and `focal_loss` for users of torch: shapes, reductions, gradients and golden values.

Values and gradients of single rows are tested in `tests/loss/properties`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from service.loss.focal import FocalLoss, focal_loss
from tests.lanes import mostly_slow
from tests.loss import reference
from tests.loss.samples import double, random_batch

ORACLE = json.loads((Path(__file__).parents[1] / "golden" / "oracle_values.json").read_text())
NAN, INF = math.nan, math.inf


def value_and_gradient(loss: Callable[[Tensor], Tensor], logits: Tensor) -> tuple[Tensor, Tensor]:
    x = logits.clone().requires_grad_()
    value = loss(x)
    (gradient,) = torch.autograd.grad((value * torch.linspace(1, 2, value.numel()).reshape(value.shape)).sum(), x)
    return value.detach(), gradient


def test_dense_losses_that_torch_kornia_and_monai_agree_on() -> None:
    """The loss of each pixel; that of an ignored one is 0."""
    n, c, h, w = torch.meshgrid(*(torch.arange(size, dtype=torch.float64) for size in (2, 3, 2, 2)), indexing="ij")
    logits = (3 * n + 2 * c - h + w / 2) * (-1.0) ** (c + h)
    targets = torch.tensor([[[0, 1], [2, -100]], [[1, 1], [0, 2]]])
    losses = [3.8775967, 7.0064910, 4.6173072, 0, 12.0180109, 13.0180944, 5.9728751, 11.0005610]
    for x in (logits, logits.requires_grad_()):
        assert focal_loss(x, targets, reduction="none").flatten().tolist() == pytest.approx(losses, abs=6e-8)
        assert focal_loss(x, targets, reduction="sum").item() == pytest.approx(57.5109362, abs=6e-8)
        assert focal_loss(x, targets).item() == pytest.approx(8.2158480, abs=6e-8)
        # kornia's mean is over all 24 logits.
        assert focal_loss(x, targets).item() * 7 / 24 == pytest.approx(2.3962890, abs=6e-8)
        assert focal_loss(x, targets, gamma=0).item() == pytest.approx(8.2545210, abs=6e-8)


class TestAgainstTorch:
    """At gamma 0 the focal loss and its gradient equal those of torch's cross-entropy."""

    @pytest.mark.parametrize("shape", [(8, 5), (8, 2), (3, 4, 6), (2, 3, 4, 5)])
    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    @pytest.mark.parametrize("smoothing", [0.0, 0.2])
    def test_cross_entropy(self, shape: tuple[int, ...], reduction: str, smoothing: float) -> None:
        logits, targets = random_batch(*shape)
        targets.view(-1)[::3] = -100
        options: dict[str, Any] = {"reduction": reduction, "label_smoothing": smoothing}
        ours = value_and_gradient(lambda x: focal_loss(x, targets, gamma=0, **options), logits)
        expected = value_and_gradient(lambda x: cross_entropy(x, targets, **options), logits)
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-14)

    @pytest.mark.parametrize("shape", [(8, 5), (3, 5, 6), (2, 5, 2, 2)])
    @pytest.mark.parametrize(("reduction", "theirs"), [("weighted_mean", "mean"), ("sum", "sum"), ("none", "none")])
    @pytest.mark.parametrize("smoothing", [0.0, 0.2])
    @pytest.mark.parametrize("ignore_index", [-100, 255, 1])
    def test_weighted_cross_entropy(
        self, shape: tuple[int, ...], reduction: Any, theirs: str, smoothing: float, ignore_index: int
    ) -> None:
        logits, targets = random_batch(*shape)
        targets.view(-1)[::4] = ignore_index
        weight = [0.5, 1.0, 2.0, 0.0, 4.0]

        def ours(x: Tensor) -> Tensor:
            return focal_loss(
                x,
                targets,
                alpha=weight,
                gamma=0,
                reduction=reduction,
                ignore_index=ignore_index,
                label_smoothing=smoothing,
            )

        def expected(x: Tensor) -> Tensor:
            return cross_entropy(
                x,
                targets,
                weight=double(weight),
                reduction=theirs,
                ignore_index=ignore_index,
                label_smoothing=smoothing,
            )

        torch.testing.assert_close(
            value_and_gradient(ours, logits), value_and_gradient(expected, logits), rtol=1e-12, atol=1e-14
        )

    def test_one_row_without_a_batch_dimension(self) -> None:
        logits = double([0.3, -1.0, 2.0])
        for reduction in ("mean", "none"):
            ours = focal_loss(logits, torch.tensor(1), gamma=0, reduction=reduction)
            assert ours.shape == ()
            torch.testing.assert_close(ours, cross_entropy(logits, torch.tensor(1)))

    @pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 4), (2, 3, 4)])
    @pytest.mark.parametrize("reduction", ["mean", "none"])
    def test_binary_cross_entropy(self, shape: tuple[int, ...], reduction: Any) -> None:
        logits, _ = random_batch(*shape, classes_at=0)
        targets = torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        targets.view(-1)[:4] = double([0, 1, 1, 0])
        ours = value_and_gradient(
            lambda x: focal_loss(x, targets, mode="sigmoid", gamma=0, reduction=reduction), logits
        )
        expected = value_and_gradient(
            lambda x: binary_cross_entropy_with_logits(x, targets, reduction=reduction), logits
        )
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-14)


def _name(case: dict[str, Any]) -> str:
    return "-".join(str(case[key]) for key in ("batch", "targets", "alpha", "gamma") if key in case)


class TestAgainstTorchvision:
    @pytest.mark.parametrize("case", ORACLE["torchvision"]["cases"], ids=_name)
    def test_sigmoid_focal_loss(self, case: dict[str, Any]) -> None:
        oracle = ORACLE["torchvision"]
        logits, targets = double(oracle["logits"]), double(oracle["targets"][case["targets"]])
        options: dict[str, Any] = {
            "mode": "sigmoid",
            "alpha": None if case["alpha"] == -1 else case["alpha"],
            "gamma": case["gamma"],
        }
        none = focal_loss(logits, targets, reduction="none", **options)
        torch.testing.assert_close(none, double(case["none"]), rtol=1e-12, atol=0)
        x = logits.clone().requires_grad_()
        mean = focal_loss(x, targets, reduction="mean", **options)
        mean.backward()
        assert mean.item() == pytest.approx(case["mean"], rel=1e-12)
        torch.testing.assert_close(x.grad, double(case["gradient_of_mean"]), rtol=1e-11, atol=1e-16)
        for inputs, labels in ((logits, targets), (logits.flatten(), targets.flatten())):
            total = focal_loss(inputs, labels, reduction="sum", **options)
            assert total.item() == pytest.approx(case["sum"], rel=1e-12)


class TestAgainstThePublishedPackage:
    @pytest.mark.parametrize("case", ORACLE["few_shot_learning_nlp"]["cases"], ids=_name)
    def test_value_and_gradient(self, case: dict[str, Any]) -> None:
        batch = ORACLE["few_shot_learning_nlp"]["batches"][case["batch"]]
        x = double(batch["logits"]).requires_grad_()
        # Its single alpha is the weight of class 0, in float32.
        loss = FocalLoss(case["alpha"], gamma=case["gamma"], device="cpu", positive_class=0)(
            x, torch.tensor(batch["targets"])
        )
        loss.backward()
        assert loss.item() == pytest.approx(case["loss"], rel=2e-7)
        torch.testing.assert_close(x.grad, double(case["gradient"]), rtol=2e-7, atol=1e-12)

    def test_golden_values_record_the_versions_of_the_packages(self) -> None:
        assert ORACLE["versions"] == {"torch": "2.14.1", "torchvision": "0.29.1", "few-shot-learning-nlp": "1.0.4"}


class TestExtremeValues:
    def test_minus_inf_at_the_target_is_an_infinite_loss_as_in_torch(self) -> None:
        logits = torch.tensor([[-INF, 2.0]])
        assert focal_loss(logits, torch.tensor([0]), gamma=2).item() == INF

    def test_a_batch_of_half_precision_losses_is_summed_without_overflow(self) -> None:
        logits = torch.tensor([[-1e4, 1e4]], dtype=torch.float16).repeat(1000, 1)
        assert focal_loss(logits, torch.zeros(1000, dtype=torch.long), reduction="sum").item() == 2e7


class TestGradients:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_logits_get_gradients_of_their_dtype(self, dtype: torch.dtype) -> None:
        x = torch.tensor([[2.0, -1.0, 0.5]], dtype=dtype, requires_grad=True)
        focal_loss(x, torch.tensor([2])).backward()
        assert x.grad is not None
        assert x.grad.dtype == dtype
        exact = [float(g) for g in reference.softmax_focal_gradient([2.0, -1.0, 0.5], 2, 2)]
        assert x.grad[0].tolist() == pytest.approx(exact, rel=1e-2)

    @pytest.mark.parametrize("gamma", mostly_slow([2, 0, 0.5], quick=1))
    @pytest.mark.parametrize("reduction", ["mean", "sum", "weighted_mean", "none"])
    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_softmax_passes_gradcheck(self, gamma: float, reduction: str, smoothing: float) -> None:
        logits, targets = random_batch(4, 3, 2)
        targets[1, 0] = -100
        module = FocalLoss([0.5, 1, 3], gamma, "cpu", reduction=reduction, label_smoothing=smoothing)
        assert gradcheck(lambda x: module(x, targets), logits.requires_grad_())

    @pytest.mark.parametrize("gamma", mostly_slow([2, 0, 0.5], quick=1))
    @pytest.mark.parametrize("reduction", ["mean", "sum", "weighted_mean", "none"])
    @pytest.mark.parametrize("alpha", [None, 0.25, [0.1, 0.5, 0.9]])
    def test_sigmoid_with_soft_labels_passes_gradcheck(self, gamma: float, reduction: str, alpha: Any) -> None:
        logits, _ = random_batch(3, 3)
        targets = double([[0, 1, 0.3], [0.9, -100, 0.5], [1, 0, 0.01]])
        module = FocalLoss(alpha, gamma, "cpu", mode="sigmoid", reduction=reduction)
        assert gradcheck(lambda x: module(x, targets), logits.requires_grad_())


class TestIgnoredTargets:
    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    @pytest.mark.parametrize("reduction", ["mean", "sum", "weighted_mean"])
    def test_an_ignored_row_changes_neither_the_reduced_value_nor_its_gradient(
        self, smoothing: float, reduction: Any
    ) -> None:
        logits, targets = random_batch(5, 3)
        logits[2], targets[2] = NAN, -100
        others = [0, 1, 3, 4]
        module = FocalLoss([1, 2, 3], 2, "cpu", reduction=reduction, label_smoothing=smoothing)
        x = logits.requires_grad_()
        loss = module(x, targets)
        loss.backward()
        without = logits[others].detach().requires_grad_()
        expected = module(without, targets[others])
        expected.backward()
        torch.testing.assert_close(loss, expected)
        assert x.grad is not None
        assert without.grad is not None
        assert x.grad[2].tolist() == [0.0, 0.0, 0.0]
        torch.testing.assert_close(x.grad[others], without.grad)

    @pytest.mark.parametrize("reduction", ["mean", "sum", "weighted_mean", "none"])
    def test_a_missing_label_changes_neither_the_reduced_value_nor_its_gradient(self, reduction: str) -> None:
        logits = double([[0.5, NAN, 2.0], [-1.0, 0.3, 0.0]]).requires_grad_()
        targets = double([[1, -100, 0], [0, 1, 1]])
        module = FocalLoss(0.25, 0.5, "cpu", mode="sigmoid", reduction=reduction)
        loss = module(logits, targets)
        loss.sum().backward()
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()
        assert logits.grad[0, 1].item() == 0.0
        first = module(double([[0.5, 2.0]]), double([[1, 0]]))
        second = module(double([[-1.0, 0.3, 0.0]]), double([[0, 1, 1]]))
        if reduction == "none":
            assert loss[0].tolist() == [first[0, 0].item(), 0.0, first[0, 1].item()]
        elif reduction == "sum":
            torch.testing.assert_close(loss, first + second)
        elif reduction == "mean":
            torch.testing.assert_close(loss, (first + second) / 2)
        else:
            alpha_t = [(0.25 + 0.75) / 2, (0.75 + 0.25 + 0.25) / 3]
            torch.testing.assert_close(loss, (first * alpha_t[0] + second * alpha_t[1]) / sum(alpha_t))

    @pytest.mark.parametrize("reduction", ["mean", "sum", "weighted_mean"])
    @pytest.mark.parametrize("mode", ["softmax", "sigmoid"])
    @pytest.mark.parametrize("rows", [0, 3])
    def test_a_batch_of_ignored_rows_has_zero_loss_and_gradient(self, reduction: Any, mode: Any, rows: int) -> None:
        logits = torch.full((rows, 2), NAN, requires_grad=True)
        targets = torch.full((rows,) if mode == "softmax" else (rows, 2), -100)
        loss = focal_loss(logits, targets, mode=mode, reduction=reduction)
        loss.backward()
        assert loss.item() == 0.0
        assert logits.grad is not None
        assert logits.grad.tolist() == [[0.0, 0.0]] * rows

    def test_an_empty_batch_without_reduction_is_empty(self) -> None:
        empty = torch.zeros(0, dtype=torch.long)
        assert focal_loss(torch.zeros(0, 3), empty, reduction="none").shape == (0,)
        spatial = focal_loss(torch.zeros(0, 3, 4), torch.zeros(0, 4, dtype=torch.long), reduction="none")
        assert spatial.shape == (0, 4)

    def test_weights_that_are_all_zero_give_zero(self) -> None:
        loss = focal_loss(torch.zeros(2, 2), torch.tensor([0, 0]), alpha=[0, 1], reduction="weighted_mean")
        assert loss.item() == 0.0

    def test_without_ignore_index_every_target_counts(self) -> None:
        with pytest.raises(ValueError, match="-100"):
            focal_loss(torch.zeros(2, 3), torch.tensor([0, -100]), ignore_index=None)


class TestReductions:
    def test_mean_divides_by_examples_and_weighted_mean_by_their_weights(self) -> None:
        logits, targets = random_batch(6, 3)
        targets[0] = -100
        alpha = [1.0, 2.0, 4.0]
        losses = focal_loss(logits, targets, alpha=alpha, reduction="none")
        assert losses.shape == (6,)
        total = losses.sum().item()
        weight = sum(alpha[t] for t in targets[1:].tolist())
        for reduction, expected in (("sum", total), ("mean", total / 5), ("weighted_mean", total / weight)):
            ours = focal_loss(logits, targets, alpha=alpha, reduction=reduction)
            assert ours.shape == ()
            assert ours.item() == pytest.approx(expected, rel=1e-12)

    def test_a_mean_counts_an_example_once_and_a_sum_every_label(self) -> None:
        logits, _ = random_batch(3, 4)
        targets = double([[1, 0, 1, 0], [-100, -100, -100, 1], [-100] * 4])
        labels = focal_loss(logits, targets, mode="sigmoid", reduction="none")
        assert labels.shape == (3, 4)
        first, second = labels[0].mean().item(), labels[1, 3].item()
        ours = {r: focal_loss(logits, targets, mode="sigmoid", reduction=r).item() for r in ("sum", "mean")}
        assert ours["sum"] == pytest.approx(labels.sum().item(), rel=1e-12)
        assert ours["mean"] == pytest.approx((first + second) / 2, rel=1e-12)

    @pytest.mark.parametrize("mode", ["softmax", "sigmoid"])
    @pytest.mark.parametrize("ignored", [False, True])
    def test_sum_is_the_sum_of_none(self, mode: Any, ignored: bool) -> None:
        logits = torch.randn(2, 10, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        shape = (2, 5) if mode == "softmax" else (2, 10, 5)
        targets = torch.randint(2, shape, generator=torch.Generator().manual_seed(1))
        if ignored:
            targets[:, 0] = -100
        none, total = (focal_loss(logits, targets, mode=mode, reduction=reduction) for reduction in ("none", "sum"))
        assert none.shape == shape
        assert total.item() == pytest.approx(none.sum().item(), rel=1e-12)
