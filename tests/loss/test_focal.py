"""`FocalLoss` and `focal_loss` as torch users call them: shapes, reductions, gradients, golden values and errors.

Values and gradients of single rows are tested in `tests/loss/properties`.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from service.loss.focal import FocalLoss, focal_loss, sigmoid_focal
from service.schema.config import ClassCounts, LossConfig
from tests.loss import reference
from tests.loss.samples import DTYPES, all_difficult_rows

ORACLE = json.loads((Path(__file__).parents[1] / "golden" / "oracle_values.json").read_text())
NAN, INF = math.nan, math.inf


def double(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def random_batch(*shape: int, classes_at: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64) * 3
    target_shape = shape[:classes_at] + shape[classes_at + 1 :]
    return logits, torch.randint(0, shape[classes_at], target_shape, generator=generator)


def value_and_gradient(loss: Callable[[Tensor], Tensor], logits: Tensor) -> tuple[Tensor, Tensor]:
    x = logits.clone().requires_grad_()
    value = loss(x)
    (gradient,) = torch.autograd.grad((value * torch.linspace(1, 2, value.numel()).reshape(value.shape)).sum(), x)
    return value.detach(), gradient


class TestAgainstTorch:
    """At gamma 0 focal loss is torch's cross-entropy, gradients included."""

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
        # One label an example: our sum runs over examples, theirs over labels.
        flat = focal_loss(logits.flatten(), targets.flatten(), reduction="sum", **options)
        assert flat.item() == pytest.approx(case["sum"], rel=1e-12)
        by_example = focal_loss(logits, targets, reduction="sum", **options)
        assert by_example.item() == pytest.approx(case["sum"] / logits.shape[1], rel=1e-12)


class TestAgainstThePublishedPackage:
    @pytest.mark.parametrize("case", ORACLE["few_shot_learning_nlp"]["cases"], ids=_name)
    def test_value_and_gradient(self, case: dict[str, Any]) -> None:
        batch = ORACLE["few_shot_learning_nlp"]["batches"][case["batch"]]
        x = double(batch["logits"]).requires_grad_()
        # Its single alpha weighs class 0, and its alpha is float32.
        loss = FocalLoss(case["alpha"], gamma=case["gamma"], device="cpu", positive_class=0)(
            x, torch.tensor(batch["targets"])
        )
        loss.backward()
        assert loss.item() == pytest.approx(case["loss"], rel=2e-7)
        torch.testing.assert_close(x.grad, double(case["gradient"]), rtol=2e-7, atol=1e-12)

    def test_records_the_versions_it_was_made_with(self) -> None:
        assert ORACLE["versions"] == {"torch": "2.14.1", "torchvision": "0.29.1", "few-shot-learning-nlp": "1.0.4"}


class TestExtremeValues:
    def test_minus_inf_on_the_target_is_an_infinite_loss_as_in_torch(self) -> None:
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

    @pytest.mark.parametrize("gamma", [0, 0.5, 2])
    @pytest.mark.parametrize("reduction", ["mean", "sum", "weighted_mean", "none"])
    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_softmax_passes_gradcheck(self, gamma: float, reduction: str, smoothing: float) -> None:
        logits, targets = random_batch(4, 3, 2)
        targets[1, 0] = -100
        module = FocalLoss([0.5, 1, 3], gamma, "cpu", reduction=reduction, label_smoothing=smoothing)
        assert gradcheck(lambda x: module(x, targets), logits.requires_grad_())

    @pytest.mark.parametrize("gamma", [0, 0.5, 2])
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
    def test_an_ignored_row_reaches_neither_the_reduced_value_nor_its_gradient(
        self, smoothing: float, reduction: Any
    ) -> None:
        logits, targets = random_batch(5, 3)
        logits[2], targets[2] = NAN, -100
        kept = [0, 1, 3, 4]
        module = FocalLoss([1, 2, 3], 2, "cpu", reduction=reduction, label_smoothing=smoothing)
        x = logits.requires_grad_()
        loss = module(x, targets)
        loss.backward()
        without = logits[kept].detach().requires_grad_()
        expected = module(without, targets[kept])
        expected.backward()
        torch.testing.assert_close(loss, expected)
        assert x.grad is not None
        assert without.grad is not None
        assert x.grad[2].tolist() == [0.0, 0.0, 0.0]
        torch.testing.assert_close(x.grad[kept], without.grad)

    @pytest.mark.parametrize("reduction", ["mean", "sum", "weighted_mean", "none"])
    def test_a_missing_label_reaches_neither_the_reduced_value_nor_its_gradient(self, reduction: str) -> None:
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
    def test_nothing_that_counts_gives_zero_with_a_gradient_of_zeros(
        self, reduction: Any, mode: Any, rows: int
    ) -> None:
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

    def test_an_example_with_several_labels_counts_once(self) -> None:
        logits, _ = random_batch(3, 4)
        targets = double([[1, 0, 1, 0], [-100, -100, -100, 1], [-100] * 4])
        labels = focal_loss(logits, targets, mode="sigmoid", reduction="none")
        assert labels.shape == (3, 4)
        first, second = labels[0].mean().item(), labels[1, 3].item()
        ours = {r: focal_loss(logits, targets, mode="sigmoid", reduction=r).item() for r in ("sum", "mean")}
        assert ours["sum"] == pytest.approx(first + second, rel=1e-12)
        assert ours["mean"] == pytest.approx((first + second) / 2, rel=1e-12)


class TestSeed:
    """The class of the seed: its call, its attributes, its kinds of alpha."""

    def test_the_call_of_its_usage_example(self) -> None:
        labels = np.array([0] * 60 + [1] * 30 + [2] * 10)
        _, class_counts = np.unique(labels, return_counts=True)
        loss_fn = FocalLoss(len(labels) / class_counts, gamma=2, device="cpu")
        logits, targets = random_batch(7, 3)
        expected = [
            float(reference.softmax_focal(row, t, 2, [100 / 60, 100 / 30, 10.0]))
            for row, t in zip(logits.tolist(), targets.tolist(), strict=True)
        ]
        assert loss_fn(logits, targets).item() == pytest.approx(sum(expected) / 7, rel=1e-12)

    def test_alpha_gamma_and_device_are_positional_with_the_defaults_it_has(self) -> None:
        loss_fn = FocalLoss([1, 2], 3, "cpu")
        assert loss_fn.alpha is not None
        assert loss_fn.alpha.tolist() == [1.0, 2.0]
        assert loss_fn.gamma == 3.0
        assert isinstance(loss_fn.gamma, float)
        assert loss_fn.device == "cpu"
        assert FocalLoss([1, 2], device="cpu").gamma == 2.0

    @pytest.mark.parametrize(
        "alpha",
        [
            [1, 2, 4],
            (1.0, 2.0, 4.0),
            np.array([1, 2, 4]),
            np.array([1, 2, 4], dtype=np.float32),
            torch.tensor([1, 2, 4]),
            torch.tensor([1.0, 2.0, 4.0], dtype=torch.float16),
            [np.float64(1), np.int64(2), torch.tensor(4.0)],
        ],
        ids=["list", "tuple", "int array", "float32 array", "int tensor", "float16 tensor", "list of scalars"],
    )
    def test_one_weight_per_class_in_every_spelling(self, alpha: Any) -> None:
        loss_fn = FocalLoss(alpha, device="cpu")
        assert loss_fn.alpha is not None
        assert loss_fn.alpha.dtype == torch.float64
        assert loss_fn.alpha.tolist() == [1.0, 2.0, 4.0]

    @pytest.mark.parametrize(
        "alpha",
        [0.25, np.float64(0.25), np.float32(0.25), np.array(0.25), torch.tensor(0.25)],
        ids=["float", "float64", "float32", "array", "tensor"],
    )
    def test_a_single_alpha_in_every_spelling_weighs_class_1(self, alpha: Any) -> None:
        loss_fn = FocalLoss(alpha, device="cpu")
        assert loss_fn.alpha is not None
        assert loss_fn.alpha.tolist() == [0.75, 0.25]

    @pytest.mark.parametrize(
        ("alpha", "positive_class", "expected"),
        [(0.9, 1, [0.1, 0.9]), (0.9, 0, [0.9, 0.1]), (0, 1, [1.0, 0.0]), (1, 1, [0.0, 1.0])],
    )
    def test_positive_class_says_which_class_a_single_alpha_weighs(
        self, alpha: float, positive_class: int, expected: list[float]
    ) -> None:
        loss_fn = FocalLoss(alpha, device="cpu", positive_class=positive_class)
        assert loss_fn.alpha is not None
        assert loss_fn.alpha.tolist() == expected

    @pytest.mark.parametrize("counts", [ClassCounts(class_counts=(8, 2)), {"class_counts": [8, 2]}])
    def test_class_counts_are_resolved(self, counts: Any) -> None:
        loss_fn = FocalLoss(counts, device="cpu")
        assert loss_fn.alpha is not None
        assert loss_fn.alpha.tolist() == [1.25, 5.0]

    def test_without_alpha_all_weights_are_one(self) -> None:
        logits, targets = random_batch(4, 3)
        loss_fn = FocalLoss(device="cpu")
        assert loss_fn.alpha is None
        torch.testing.assert_close(loss_fn(logits, targets), FocalLoss([1, 1, 1], device="cpu")(logits, targets))

    @pytest.mark.parametrize("positive_class", [0, 1])
    def test_a_single_alpha_in_sigmoid_mode_weighs_the_positives(self, positive_class: int) -> None:
        loss_fn = FocalLoss(0.9, 0, "cpu", mode="sigmoid", reduction="none", positive_class=positive_class)
        loss = loss_fn(torch.zeros(2), torch.tensor([0, 1]))
        expected = [0.1, 0.9] if positive_class == 1 else [0.9, 0.1]
        assert loss.tolist() == pytest.approx([math.log(2) * weight for weight in expected], rel=1e-6)

    def test_a_list_in_sigmoid_mode_has_an_alpha_for_each_label(self) -> None:
        loss_fn = FocalLoss([0.9, 0.25], 0, "cpu", mode="sigmoid", reduction="none")
        loss = loss_fn(torch.zeros(2, 2), torch.tensor([[0, 0], [1, 1]]))
        expected = [[0.1, 0.75], [0.9, 0.25]]
        torch.testing.assert_close(loss, torch.tensor(expected) * math.log(2))

    @pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")
    @pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("cuda")])
    def test_cuda_where_there_is_none_is_an_error_that_says_what_to_pass(self, device: Any) -> None:
        with pytest.raises(ValueError, match=r"'cuda.*torch finds no CUDA device; pass device='cpu'"):
            FocalLoss([1, 2], device=device)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")
    def test_the_default_device_is_cuda_as_in_the_seed(self) -> None:
        with pytest.raises(ValueError, match="'cuda'"):
            FocalLoss([1, 2])

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
    def test_on_cuda_it_gives_what_it_gives_on_the_cpu(self) -> None:
        logits, targets = random_batch(20, 3)
        loss_fn = FocalLoss([1, 2, 3], 2, "cuda")
        assert loss_fn.device == "cuda:0"
        assert loss_fn.alpha is not None
        assert loss_fn.alpha.is_cuda
        on_cuda = loss_fn(logits, targets)
        assert on_cuda.is_cuda
        torch.testing.assert_close(on_cuda.cpu(), FocalLoss([1, 2, 3], 2, "cpu")(logits, targets))


class TestModule:
    def test_alpha_is_a_buffer_that_state_dict_carries(self) -> None:
        module = FocalLoss([1, 2, 4], device="cpu")
        assert dict(module.named_buffers())["alpha"] is module.alpha
        assert list(module.state_dict()) == ["alpha"]
        other = FocalLoss([1, 1, 1], device="cpu")
        other.load_state_dict(module.state_dict())
        logits, targets = random_batch(5, 3)
        assert torch.equal(other(logits, targets), module(logits, targets))

    def test_without_alpha_state_dict_is_empty_and_loads(self) -> None:
        module = FocalLoss(device="cpu")
        assert module.state_dict() == {}
        assert FocalLoss(device="cpu").load_state_dict({}).missing_keys == []

    @pytest.mark.parametrize("alpha", [None, [1.0, 2.0]])
    def test_device_follows_to(self, alpha: list[float] | None) -> None:
        module = FocalLoss(alpha, device="cpu").to("meta")
        assert module.device == "meta"
        assert module.alpha is None or module.alpha.device.type == "meta"

    def test_has_no_parameters_to_train(self) -> None:
        assert list(FocalLoss([1, 2], device="cpu").parameters()) == []

    def test_a_copy_computes_the_same(self) -> None:
        module = FocalLoss([1, 2, 4], 0.5, "cpu", label_smoothing=0.1)
        logits, targets = random_batch(5, 3)
        assert torch.equal(copy.deepcopy(module)(logits, targets), module(logits, targets))

    def test_repr_names_the_configuration(self) -> None:
        assert repr(FocalLoss([1, 2], 0.5, "cpu", reduction="sum")) == (
            "FocalLoss(mode='softmax', alpha=(1.0, 2.0), gamma=0.5, reduction='sum', ignore_index=-100, "
            "positive_class=1, label_smoothing=0.0)"
        )

    def test_from_config_is_the_instance_that_the_constructor_makes(self) -> None:
        config = LossConfig.parse({"alpha": [1, 2, 4], "gamma": 0.5, "reduction": "sum", "label_smoothing": 0.1})
        logits, targets = random_batch(5, 3)
        module = FocalLoss.from_config(config, "cpu")
        same = FocalLoss([1, 2, 4], 0.5, "cpu", reduction="sum", label_smoothing=0.1)
        assert module.config == same.config
        assert torch.equal(module(logits, targets), same(logits, targets))

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("reduction", ["mean", "sum", "weighted_mean", "none"])
    @pytest.mark.parametrize("mode", ["softmax", "sigmoid"])
    def test_results_are_float32_except_for_float64_logits(self, dtype: torch.dtype, reduction: Any, mode: Any) -> None:
        targets = torch.tensor([0, 1]) if mode == "softmax" else torch.ones(2, 2)
        loss = focal_loss(torch.zeros(2, 2, dtype=dtype), targets, alpha=0.25, mode=mode, reduction=reduction)
        assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_the_value_is_the_same_with_and_without_a_gradient(self, dtype: torch.dtype) -> None:
        logits, targets = all_difficult_rows(dtype)
        without = focal_loss(logits, targets, reduction="none")
        differentiable = focal_loss(logits.clone().requires_grad_(), targets, reduction="none")
        torch.testing.assert_close(differentiable.detach(), without, rtol=1e-6, atol=0)

    def test_function_and_module_agree(self) -> None:
        logits, targets = random_batch(5, 2)
        for options in (
            {"alpha": 0.1, "positive_class": 0},
            {"alpha": [1, 3], "gamma": 0.5, "reduction": "weighted_mean", "label_smoothing": 0.1},
            {"ignore_index": 1, "reduction": "none"},
        ):
            assert torch.equal(
                focal_loss(logits, targets, **options), FocalLoss(**options, device="cpu")(logits, targets)
            )

    def test_sigmoid_focal_gives_the_weight_of_every_label(self) -> None:
        loss, alpha_t = sigmoid_focal(double([[0.0, 0.0]]), double([[1, 0.5]]), 0.0, double([0.2, 0.9]))
        assert alpha_t.tolist() == [[0.2, 0.5]]
        assert loss.tolist() == [pytest.approx([0.2 * math.log(2), 0.5 * math.log(2)])]


class TestErrors:
    @pytest.mark.parametrize(
        ("parameters", "value"),
        [
            ({"alpha": 1.5}, "1.5"),
            ({"alpha": -0.1}, "-0.1"),
            ({"alpha": True}, "True"),
            ({"alpha": NAN}, "nan"),
            ({"alpha": "balanced"}, "balanced"),
            ({"alpha": [1, -2]}, "-2"),
            ({"alpha": [1, INF]}, "inf"),
            ({"alpha": np.array([1, NAN])}, "nan"),
            ({"alpha": torch.tensor([1.0, -3.0])}, "-3"),
            ({"alpha": [3.0]}, "at least two"),
            ({"alpha": {"class_counts": [5, 0]}}, "class 1 has count 0"),
            ({"alpha": {"class_counts": [10**400, 1]}}, "less than 9223372036854775808"),
            ({"alpha": [0.5, 1.25], "mode": "sigmoid"}, "1.25"),
            ({"gamma": -1}, "-1"),
            ({"gamma": NAN}, "nan"),
            ({"gamma": INF}, "inf"),
            ({"gamma": "2"}, "'2'"),
            ({"gamma": None}, "None"),
            ({"reduction": "average"}, "'average'"),
            ({"mode": "binary"}, "'binary'"),
            ({"ignore_index": 0.5}, "0.5"),
            ({"positive_class": 2}, "2"),
            ({"label_smoothing": 1.0}, "1.0"),
            ({"label_smoothing": -0.1}, "-0.1"),
            ({"label_smoothing": 0.1, "mode": "sigmoid"}, "label_smoothing"),
            ({"device": "gpu"}, "'gpu'"),
            ({"device": 1.5}, "1.5"),
        ],
        ids=str,
    )
    def test_a_bad_parameter_is_named(self, parameters: dict[str, Any], value: str) -> None:
        with pytest.raises(ValueError) as err:  # noqa: PT011
            FocalLoss(**{"device": "cpu", **parameters})
        assert value in str(err.value)
        if "device" not in parameters:
            with pytest.raises(ValueError) as err:  # noqa: PT011
                focal_loss(torch.zeros(1, 2), torch.tensor([0]), **parameters)
            assert value in str(err.value)

    @pytest.mark.parametrize(
        ("targets", "match"),
        [
            ([0, 3], r"target 3 is outside \[0, 3\)"),
            ([-1, 0], r"target -1 is outside \[0, 3\)"),
            ([0, 255], r"target 255"),
            ([0.0, 1.0], r"integer class indices, got torch.float32"),
            ([True, False], r"integer class indices, got torch.bool"),
            ([1j, 0], r"integer class indices, got torch.complex64"),
            ([0], r"\(2, 3\).*\(1,\)"),
            ([[0], [1]], r"\(2, 3\).*\(2, 1\)"),
            (0, r"\(2, 3\).*\(\)"),
        ],
        ids=str,
    )
    def test_bad_softmax_targets_are_named(self, targets: Any, match: str) -> None:
        with pytest.raises(ValueError, match=match):
            focal_loss(torch.zeros(2, 3), torch.tensor(targets))

    @pytest.mark.parametrize("target", [1.5, -0.5, 2.0, NAN, INF, -1.0])
    def test_bad_sigmoid_targets_are_named(self, target: float) -> None:
        with pytest.raises(ValueError, match=rf"\[0, 1\], got {target}"):
            focal_loss(torch.zeros(2), torch.tensor([0.0, target]), mode="sigmoid")

    @pytest.mark.parametrize("shape", [(2,), (2, 1), (3, 2)])
    def test_sigmoid_shapes_must_agree(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"\(2, 3\)"):
            focal_loss(torch.zeros(2, 3), torch.zeros(shape), mode="sigmoid")

    @pytest.mark.parametrize(("logits", "match"), [(torch.zeros(()), "scalar"), (torch.zeros(4, 1), "at least 2")])
    def test_a_softmax_needs_two_classes(self, logits: Tensor, match: str) -> None:
        with pytest.raises(ValueError, match=match):
            focal_loss(logits, torch.zeros(logits.shape[:1], dtype=torch.long))

    @pytest.mark.parametrize("alpha", [0.25, [1, 2], [1, 2, 3, 4]])
    def test_alpha_must_fit_the_classes(self, alpha: Any) -> None:
        with pytest.raises(ValueError, match=r"alpha has [24] weights, the logits 3 classes"):
            focal_loss(torch.zeros(2, 3), torch.tensor([0, 1]), alpha=alpha)

    @pytest.mark.parametrize(
        ("alpha", "shape"), [([0.3], (2, 3)), ([0.3, 0.9], (2, 3)), ([0.3, 0.9], (2,)), ([0.3, 0.9], (2, 1))]
    )
    def test_a_list_alpha_must_have_one_value_for_each_label(self, alpha: list[float], shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=rf"alpha has {len(alpha)} values"):
            focal_loss(torch.zeros(shape), torch.zeros(shape), alpha=alpha, mode="sigmoid")
