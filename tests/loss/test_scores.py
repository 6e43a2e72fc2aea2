"""Outputs of `score`, and the logits that it accepts; `tests/loss/properties` tests the numbers."""

from __future__ import annotations

import math
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import Tensor

from service.loss import scores
from service.loss.focal import FocalLoss
from service.loss.scores import is_fused, score
from service.loss.sigmoid_scores import sigmoid_scores
from service.schema.request import ELEMENT_OUTPUTS
from tests.loss.samples import DTYPES, moderate_rows


def module_of(alpha: Any = None, gamma: float = 2, **options: Any) -> FocalLoss:
    return FocalLoss(alpha, gamma, "cpu", **options)


def test_each_label_is_an_element() -> None:
    logits, classes = moderate_rows(8, 4)
    labels = torch.nn.functional.one_hot(classes, 4)
    labels[2, 1], labels[3, 3], logits[4, 0] = -100, 7, torch.nan
    for options in ({}, {"alpha": 0.25}, {"gamma": 1, "gamma_negative": 4, "clip": 0.05}):
        module = module_of(mode="sigmoid", **options)
        rows = score(module, logits, labels, ELEMENT_OUTPUTS)
        dense = score(module, logits.reshape(2, 4, 4), labels.reshape(2, 4, 4), ELEMENT_OUTPUTS)
        flat = score(module, logits.reshape(32, 1), labels.reshape(32, 1), ELEMENT_OUTPUTS)
        for ours in (rows, dense):
            for name in ("state", "loss", "log_loss", "alpha_t"):
                np.testing.assert_array_equal(getattr(ours, name), getattr(flat, name))
            for name, values in ours.outputs.items():
                np.testing.assert_array_equal(values, flat.outputs[name], err_msg=name)
        assert flat.state.tolist() == [*[0] * 9, 1, 0, 0, 0, 0, 0, 2, 3, *[0] * 15]


def test_an_alpha_per_label_belongs_to_axis_1() -> None:
    module = module_of([0.25, 0.5, 0.75], mode="sigmoid")
    dense = score(module, torch.zeros(2, 3, 4), torch.ones(2, 3, 4), ["loss"])
    assert dense.alpha_t.tolist() == [weight for weight in (0.25, 0.5, 0.75) for _ in range(4)] * 2


@pytest.mark.parametrize("shape", [(5, 7), (1, 35), (35, 1), (2, 3, 6)])
def test_labels_on_the_cpu_are_computed_in_parts(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    count = math.prod(shape)
    logits, labels = np.linspace(-5, 5, count).reshape(shape), (np.arange(count) % 3 - 1).reshape(shape)
    module = module_of(np.linspace(0, 1, shape[1]).tolist(), mode="sigmoid", ignore_index=-1)
    expected = score(module, logits, labels, ELEMENT_OUTPUTS)
    parts = Mock(wraps=sigmoid_scores)
    monkeypatch.setattr(scores, "sigmoid_scores", parts)
    monkeypatch.setattr(scores, "ELEMENTS_AT_ONCE", 4)
    result = score(module, logits, labels, ELEMENT_OUTPUTS)
    assert [len(call.args[1]) for call in parts.call_args_list] == [4] * (count // 4) + [count % 4] * (count % 4 > 0)
    for name in ("state", "loss", "log_loss", "alpha_t"):
        np.testing.assert_allclose(getattr(result, name), getattr(expected, name), 1e-14)
    for name, values in result.outputs.items():
        np.testing.assert_allclose(values, expected.outputs[name], 1e-14, err_msg=name)


def test_the_example_of_the_wire_contract() -> None:
    logits = torch.tensor([[2.0, 0.1, -1.0], [0.3, 0.2, 0.9]])
    found = score(module_of([1.0, 2.0, 4.0], 2.0), logits, torch.tensor([0, 1]), ELEMENT_OUTPUTS)
    assert found.loss.tolist() == pytest.approx([0.0050225, 1.6233421], abs=5e-8)
    assert found.outputs["p_t"].tolist() == pytest.approx([0.8337810, 0.2427819], abs=5e-8)
    assert found.outputs["prediction"].tolist() == [0, 2]
    assert found.alpha_t.tolist() == [1.0, 2.0]


def test_loss_and_contribution_add_no_output() -> None:
    logits, targets = moderate_rows()
    assert score(module_of(), logits, targets, ("loss", "contribution")).outputs == {}
    assert list(score(module_of(), logits, targets, ("p_t", "loss", "el2n")).outputs) == ["p_t", "el2n"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["softmax", "sigmoid"])
def test_all_columns_but_state_and_prediction_are_float64(dtype: torch.dtype, mode: str) -> None:
    targets = torch.tensor([0, 1]) if mode == "softmax" else torch.tensor([[0, 1, 0], [1, 1, 0]])
    found = score(module_of(mode=mode), torch.zeros(2, 3, dtype=dtype), targets, ELEMENT_OUTPUTS)
    assert found.state.dtype == np.int8
    assert {found.loss.dtype, found.log_loss.dtype, found.alpha_t.dtype} == {np.dtype(np.float64)}
    for name, values in found.outputs.items():
        assert values.dtype == (np.int64 if name == "prediction" else np.float64), name


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_integer_logits_are_converted_exactly(dtype: type[np.signedinteger[Any]]) -> None:
    logits, targets = np.array([[3, -1, 0], [2, 2, 7]]), np.array([0, 1])
    result = score(module_of(), logits.astype(dtype), targets, ELEMENT_OUTPUTS)
    np.testing.assert_allclose(
        result.loss, score(module_of(), logits.astype(float), targets, ELEMENT_OUTPUTS).loss, 1e-6
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_logits_that_require_a_gradient_get_the_same_scores(smoothing: float) -> None:
    logits, targets = moderate_rows()
    module = module_of(label_smoothing=smoothing)
    expected = score(module, logits, targets, ELEMENT_OUTPUTS)
    np.testing.assert_allclose(
        score(module, logits.requires_grad_(), targets, ELEMENT_OUTPUTS).loss, expected.loss, 1e-12
    )


@pytest.mark.parametrize(
    ("options", "logits", "targets", "fused"),
    [
        ({}, torch.zeros(1, 2), torch.zeros(1), True),
        ({}, np.zeros((1, 2), np.float16), np.zeros(1), True),
        ({}, torch.zeros(1, 2, 5), torch.zeros(1, 5), True),
        ({}, torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1), False),
        ({}, torch.zeros(1, 2), torch.ones(1, 2), False),
        ({"label_smoothing": 0.1}, torch.zeros(1, 2), torch.zeros(1), False),
        ({"mode": "sigmoid"}, torch.zeros(1, 2), torch.zeros(1, 2), False),
    ],
)
def test_softmax_without_smoothing_is_fused_on_the_cpu(
    options: dict[str, Any], logits: Tensor, targets: Tensor, fused: bool
) -> None:
    assert is_fused(module_of(**options), logits, targets) == fused
