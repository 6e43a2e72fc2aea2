"""`FocalLoss` as a module: kinds of alpha, devices, state and copies."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch

from service.loss.focal import FocalLoss, focal_loss
from service.loss.sigmoid import Focus, sigmoid_focal
from service.schema.config import ClassCounts, LossConfig
from tests.loss import reference
from tests.loss.samples import DTYPES, all_difficult_rows, double, random_batch


class TestSeed:
    """Compatibility with the class of few-shot-learning-nlp: call, attributes, kinds of alpha."""

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

    def test_alpha_gamma_and_device_are_positional_with_the_same_defaults(self) -> None:
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
    def test_class_weights_of_every_type(self, alpha: Any) -> None:
        loss_fn = FocalLoss(alpha, device="cpu")
        assert loss_fn.alpha is not None
        assert loss_fn.alpha.dtype == torch.float64
        assert loss_fn.alpha.tolist() == [1.0, 2.0, 4.0]

    @pytest.mark.parametrize(
        "alpha",
        [0.25, np.float64(0.25), np.float32(0.25), np.array(0.25), torch.tensor(0.25)],
        ids=["float", "float64", "float32", "array", "tensor"],
    )
    def test_a_single_alpha_of_every_type_is_the_weight_of_class_1(self, alpha: Any) -> None:
        loss_fn = FocalLoss(alpha, device="cpu")
        assert loss_fn.alpha is not None
        assert loss_fn.alpha.tolist() == [0.75, 0.25]

    @pytest.mark.parametrize(
        ("alpha", "positive_class", "expected"),
        [(0.9, 1, [0.1, 0.9]), (0.9, 0, [0.9, 0.1]), (0, 1, [1.0, 0.0]), (1, 1, [0.0, 1.0])],
    )
    def test_a_single_alpha_is_the_weight_of_the_positive_class(
        self, alpha: float, positive_class: int, expected: list[float]
    ) -> None:
        loss_fn = FocalLoss(alpha, device="cpu", positive_class=positive_class)
        assert loss_fn.alpha is not None
        assert loss_fn.alpha.tolist() == expected

    @pytest.mark.parametrize("counts", [ClassCounts(class_counts=(8, 2)), {"class_counts": [8, 2]}])
    def test_class_counts_become_weights(self, counts: Any) -> None:
        loss_fn = FocalLoss(counts, device="cpu")
        assert loss_fn.alpha is not None
        assert loss_fn.alpha.tolist() == [1.25, 5.0]

    def test_without_alpha_all_weights_are_one(self) -> None:
        logits, targets = random_batch(4, 3)
        loss_fn = FocalLoss(device="cpu")
        assert loss_fn.alpha is None
        torch.testing.assert_close(loss_fn(logits, targets), FocalLoss([1, 1, 1], device="cpu")(logits, targets))

    @pytest.mark.parametrize("positive_class", [0, 1])
    def test_a_single_alpha_in_sigmoid_mode_is_the_weight_of_the_positive_class(self, positive_class: int) -> None:
        loss_fn = FocalLoss(0.9, 0, "cpu", mode="sigmoid", reduction="none", positive_class=positive_class)
        loss = loss_fn(torch.zeros(2), torch.tensor([0, 1]))
        expected = [0.1, 0.9] if positive_class == 1 else [0.9, 0.1]
        assert loss.tolist() == pytest.approx([math.log(2) * weight for weight in expected], rel=1e-6)

    def test_a_list_in_sigmoid_mode_has_an_alpha_for_each_label(self) -> None:
        loss_fn = FocalLoss([0.9, 0.25], 0, "cpu", mode="sigmoid", reduction="none")
        loss = loss_fn(torch.zeros(2, 2), torch.tensor([[0, 0], [1, 1]]))
        expected = [[0.1, 0.75], [0.9, 0.25]]
        torch.testing.assert_close(loss, torch.tensor(expected) * math.log(2))

    @pytest.mark.skipif(torch.cuda.is_available(), reason="torch finds a CUDA device")
    @pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("cuda")])
    def test_without_a_cuda_device_the_error_says_what_to_pass(self, device: Any) -> None:
        with pytest.raises(ValueError, match=r"'cuda.*torch finds no CUDA device; pass device='cpu'"):
            FocalLoss([1, 2], device=device)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="torch finds a CUDA device")
    def test_the_default_device_is_cuda(self) -> None:
        with pytest.raises(ValueError, match="'cuda'"):
            FocalLoss([1, 2])

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
    def test_the_loss_on_cuda_equals_that_on_the_cpu(self) -> None:
        logits, targets = random_batch(20, 3)
        loss_fn = FocalLoss([1, 2, 3], 2, "cuda")
        assert loss_fn.device == "cuda:0"
        assert loss_fn.alpha is not None
        assert loss_fn.alpha.is_cuda
        on_cuda = loss_fn(logits, targets)
        assert on_cuda.is_cuda
        torch.testing.assert_close(on_cuda.cpu(), FocalLoss([1, 2, 3], 2, "cpu")(logits, targets))


class TestModule:
    def test_alpha_is_a_buffer_in_the_state_dict(self) -> None:
        module = FocalLoss([1, 2, 4], device="cpu")
        assert dict(module.named_buffers())["alpha"] is module.alpha
        assert list(module.state_dict()) == ["alpha"]
        other = FocalLoss([1, 1, 1], device="cpu")
        other.load_state_dict(module.state_dict())
        logits, targets = random_batch(5, 3)
        assert torch.equal(other(logits, targets), module(logits, targets))

    @pytest.mark.parametrize(
        ("options", "loaded"),
        [
            ({"alpha": [1, 1, 1]}, {"alpha": [1.0, 2.0, 4.0]}),
            ({"alpha": ClassCounts(class_counts=(1, 1, 1))}, {"alpha": [1.0, 2.0, 4.0]}),
            ({"alpha": 0.25, "mode": "sigmoid", "positive_class": 0}, {"alpha": 0.5, "mode": "sigmoid"}),
            ({"alpha": [0.25, 0.25], "mode": "sigmoid"}, {"alpha": [0.5, 1.0], "mode": "sigmoid"}),
        ],
        ids=["list", "class counts", "single", "labels"],
    )
    def test_a_loaded_alpha_is_that_of_the_configuration(self, options: Any, loaded: Any) -> None:
        module, checkpoint = FocalLoss(**options, device="cpu"), FocalLoss(**loaded, device="cpu")
        module.load_state_dict(checkpoint.state_dict())
        assert module.config == checkpoint.config
        assert repr(module) == repr(checkpoint)

    def test_loading_the_same_alpha_keeps_the_configuration(self) -> None:
        module = FocalLoss(0.25, device="cpu")
        module.load_state_dict(module.state_dict())
        assert module.config.alpha == 0.25

    @pytest.mark.parametrize("convert", ["half", "bfloat16", "float"])
    def test_alpha_stays_exact_in_a_model_of_half_precision(self, convert: str) -> None:
        module = FocalLoss([0.1, 0.2, 0.7], device="cpu")
        model = torch.nn.Sequential(torch.nn.Linear(3, 3), module)
        getattr(model, convert)()
        assert module.alpha is not None
        assert module.alpha.dtype == torch.float64
        assert module.alpha.tolist() == [0.1, 0.2, 0.7]
        assert torch.equal(module.state_dict()["alpha"], module.alpha)

    def test_without_alpha_the_state_dict_is_empty_and_can_be_loaded(self) -> None:
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
            "positive_class=1, label_smoothing=0.0, gamma_negative=None, clip=0.0)"
        )

    def test_from_config_equals_the_constructor(self) -> None:
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

    def test_sigmoid_focal_returns_the_weight_of_every_label(self) -> None:
        loss, alpha_t = sigmoid_focal(double([[0.0, 0.0]]), double([[1, 0.5]]), Focus(0, 0), double([0.2, 0.9]))
        assert alpha_t.tolist() == [[0.2, 0.5]]
        assert loss.tolist() == [pytest.approx([0.2 * math.log(2), 0.5 * math.log(2)])]
