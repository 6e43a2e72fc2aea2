"""Errors of `FocalLoss` and `focal_loss` for bad parameters, targets and shapes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from service.loss.focal import FocalLoss, focal_loss

NAN, INF = math.nan, math.inf


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
            ({"gamma_negative": 4}, "gamma_negative"),
            ({"gamma_negative": -1, "mode": "sigmoid"}, "-1"),
            ({"clip": 1.0, "mode": "sigmoid"}, "1.0"),
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
            ([0, 3], r"row 1: target 3 is outside \[0, 3\)"),
            ([-1, 0], r"row 0: target -1 is outside \[0, 3\)"),
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

    def test_a_bad_target_of_several_dimensions_is_named_by_its_position(self) -> None:
        with pytest.raises(ValueError, match=r"position \(1, 0, 2\): target 7 is outside \[0, 3\)"):
            targets = torch.zeros(2, 4, 5, dtype=torch.long)
            targets[1, 0, 2] = 7
            focal_loss(torch.zeros(2, 3, 4, 5), targets)
        with pytest.raises(ValueError, match=r"position \(1, 0\): sigmoid targets lie in \[0, 1\], got 7"):
            focal_loss(torch.zeros(2, 1), torch.tensor([[0], [7]]), mode="sigmoid")

    @pytest.mark.parametrize("dtype", [torch.long, torch.bool])
    def test_one_hot_targets_get_advice(self, dtype: torch.dtype) -> None:
        with pytest.raises(ValueError, match=r"one-hot targets pass `targets.argmax\(1\)`, or `targets.float"):
            focal_loss(torch.zeros(3, 3), torch.eye(3, dtype=dtype))

    @pytest.mark.parametrize(
        ("row", "total"), [([0.5, 0.6], "1.1"), ([1.25, -0.25], "1.0"), ([NAN, 0.5], "nan"), ([INF, 0.0], "inf")]
    )
    def test_bad_soft_labels_are_named(self, row: list[float], total: str) -> None:
        with pytest.raises(ValueError, match=rf"row 1: soft labels are >= 0 and add up to 1, got the sum {total}"):
            focal_loss(torch.zeros(2, 2), torch.tensor([[0.5, 0.5], row]))
        with pytest.raises(ValueError, match=r"position \(1, 0\): soft labels"):
            focal_loss(torch.zeros(2, 2, 1), torch.tensor([[0.5, 0.5], row]).unsqueeze(2))

    def test_soft_labels_are_not_smoothed(self) -> None:
        with pytest.raises(ValueError, match="label_smoothing is for class indices"):
            focal_loss(torch.zeros(3, 3), torch.eye(3), label_smoothing=0.1)

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
